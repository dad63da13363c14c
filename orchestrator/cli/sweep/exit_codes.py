"""Exit codes of the commands that follow a sweep to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.report.schema import SweepReport
    from orchestrator.service.views import SweepView

FAILED_STATUSES = ("failed", "cancelled")
"""Statuses of results of failed trials; cancelled: the agent stopped the last attempt."""


def of_sweep(view: SweepView, report: SweepReport) -> int:
    """0: something was measured, and every trial ended with a result. Else 2, where every reason
    lies in the model or in what the sweep asks for, and 1 in every other case.

    A sweep in which nothing was measured never ends with 0, whatever its trials ended with.
    """
    from orchestrator.domain.failure_cause import exit_code

    measured = bool(view.counts.get("done"))
    if view.state == "done" and measured:
        return 0
    if view.state == "cancelled":
        return 1
    trials = [trial for row in report.rows for trial in row.trials]
    ended = [t for t in trials if not measured or t.status in FAILED_STATUSES]
    return exit_code({t.failure.fault for t in ended if t.failure})


def lines(view: SweepView) -> list[str]:
    """What a reader of the report could overlook: nothing was measured, boards were left out."""
    found = []
    if not view.counts.get("done"):
        ended = [f"{n} {state}" for state, n in sorted(view.counts.items()) if n]
        skipped = [f"{view.skipped} cells skipped"] if view.skipped else []
        found.append(f"nothing was measured in {view.name}: {', '.join(ended + skipped)}")
    if view.returned:
        names = ", ".join(view.returned)
        found.append(
            f"left out when it was submitted, and in service now: {names}; "
            f"`benchfarm sweep resume {view.name}` runs their cells"
        )
    return found
