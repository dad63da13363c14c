"""Any x86-64 computer."""

from playbooks.classes import ClassPlaybook

PLAYBOOK = ClassPlaybook("x86-64-generic", runtimes=("onnxruntime",))
