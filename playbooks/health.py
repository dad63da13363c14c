"""The last step: the board passes a health check that runs on it."""

from __future__ import annotations

from playbooks.errors import StepFailed
from playbooks.step_runner import Step
from playbooks.target import BoardTarget

CHECK_LIMIT_S = 600.0
GOOD, MAINTENANCE = "good", "maintenance"


def health_step() -> Step:
    """Run a health check, except on a board in maintenance or without a runtime that can check."""

    def check(target: BoardTarget) -> str:
        known = target.controller.known(target.device)
        if known.health in (GOOD, MAINTENANCE) or known.uncheckable:
            return ""
        return f"its health is {known.health}"

    def apply(target: BoardTarget) -> None:
        with target.waiting(f"{target.device}'s health check, at most {CHECK_LIMIT_S:.0f} s"):
            checked = target.controller.check_health(target.device, CHECK_LIMIT_S)
        if checked is None:
            raise StepFailed(
                f"{target.device}: no health check ended there in {CHECK_LIMIT_S:.0f} s; "
                f"`benchfarm device selftest {target.device}` tries again"
            )
        if checked.ok is False:
            raise StepFailed(
                f"{target.device} works, and did not pass its health check: "
                f"{'; '.join(checked.reasons)}"
            )

    return Step("health", check, apply)
