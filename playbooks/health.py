"""The last step: the board has passed a health check that ran on it."""

from __future__ import annotations

from playbooks.errors import StepFailed
from playbooks.step_runner import Step
from playbooks.target import BoardTarget

CHECK_LIMIT_S = 600.0
GOOD, MAINTENANCE = "good", "maintenance"


def health_step() -> Step:
    """A board that no check can say anything of, or that is in maintenance, is left as it is."""

    def check(site: BoardTarget) -> str:
        known = site.controller.known(site.device)
        if known.health in (GOOD, MAINTENANCE) or known.uncheckable:
            return ""
        return f"its health is {known.health}"

    def apply(site: BoardTarget) -> None:
        checked = site.controller.check_health(site.device, CHECK_LIMIT_S)
        if checked is None:
            raise StepFailed(
                f"{site.device}: no health check ended there in {CHECK_LIMIT_S:.0f} s; "
                f"`benchfarm device selftest {site.device}` tries again"
            )
        if checked.ok is False:
            raise StepFailed(
                f"{site.device} works, and did not pass its health check: "
                f"{'; '.join(checked.reasons)}"
            )

    return Step("health", check, apply)
