"""Checks hosts with an NVIDIA GPU for a working driver."""

from __future__ import annotations

from playbooks.errors import Unfit
from playbooks.step_runner import Step
from playbooks.target import BoardTarget

_QUERY = "nvidia-smi --query-gpu=name,driver_version --format=csv,noheader"


def driver_step() -> Step:
    """Require the host's own driver, before anything is installed."""

    def check(target: BoardTarget) -> str:
        return "" if target.host.is_true(_QUERY) else "nvidia-smi does not answer"

    def apply(target: BoardTarget) -> None:
        why = target.host.run(_QUERY, check=False).tail
        raise Unfit(
            f"{target.host.name}: nvidia-smi does not answer ({why}): install NVIDIA's driver "
            "there, or choose another class by --class"
        )

    return Step("driver", check, apply)
