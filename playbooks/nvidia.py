"""What computers with an NVIDIA GPU need: a driver that answers."""

from __future__ import annotations

from playbooks.errors import Unfit
from playbooks.step_runner import Step
from playbooks.target import BoardTarget

_ASK = "nvidia-smi --query-gpu=name,driver_version --format=csv,noheader"


def driver_step() -> Step:
    """The driver is the host's own; its absence is said before anything is installed."""

    def check(site: BoardTarget) -> str:
        return "" if site.host.is_true(_ASK) else "nvidia-smi does not answer"

    def apply(site: BoardTarget) -> None:
        why = site.host.run(_ASK, check=False).tail
        raise Unfit(
            f"{site.host.name}: nvidia-smi does not answer ({why}): install NVIDIA's driver there, "
            "or choose another class by --class"
        )

    return Step("driver", check, apply)
