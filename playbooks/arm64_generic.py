"""Any 64-bit ARM board or host."""

from playbooks.classes import ClassPlaybook

PLAYBOOK = ClassPlaybook("arm64-generic", runtimes=("onnxruntime",))
