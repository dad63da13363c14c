"""A computer with an Intel processor; its integrated GPU answers to members of ``render``."""

from playbooks.classes import ClassPlaybook

PLAYBOOK = ClassPlaybook(
    "intel-cpu", runtimes=("onnxruntime", "openvino"), groups=("render", "video")
)
