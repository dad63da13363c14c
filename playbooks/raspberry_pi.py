"""A Raspberry Pi with a 64-bit system; ``vcgencmd`` answers to members of ``video``."""

from playbooks.classes import ClassPlaybook

PLAYBOOK = ClassPlaybook("raspberry-pi", runtimes=("onnxruntime", "tflite"), groups=("video",))
