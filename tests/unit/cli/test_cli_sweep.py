"""How ``sweep run`` and ``sweep watch`` end, by what the sweep came to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from agent.contract.trial import Failure
from orchestrator.cli.sweep.sweep import watch_to_end
from orchestrator.report.build import build_report
from orchestrator.report.schema import SweepReport
from orchestrator.service.views import SweepView
from support.report_samples import cell, failed_trials, sweep

BAD_MODEL = Failure("load", "bad_model", "cut short")
CRASH = Failure("measure", "crash", "SIGSEGV")


@dataclass
class Ended:
    """A controller that knows one sweep, which has ended."""

    state: str
    failures: list[Failure]
    counts: dict[str, int]
    status: str = "failed"

    def sweep(self, name: str) -> SweepView:
        return SweepView(
            name=name, state=self.state, created_at=datetime(2025, 3, 30, tzinfo=UTC),
            finished_at=None, cells=1, skipped=0, trials=1, counts=self.counts,
        )  # fmt: skip

    def report(self, _name: str) -> SweepReport:
        cells = [
            cell(cell_id=str(n), trials=failed_trials(2, status=self.status, failure=failure))
            for n, failure in enumerate(self.failures)
        ]
        return build_report(sweep(cells))


@pytest.mark.parametrize(
    ("state", "failures", "code", "note"),
    [
        ("done", [], 0, ""),
        ("failed", [BAD_MODEL], 2, "Cells that failed: 1 by the model or what was asked of it."),
        ("failed", [CRASH], 1, "Cells that failed: 1 by their device."),
        (
            "failed",
            [BAD_MODEL, CRASH],
            1,
            "Cells that failed: 1 by the model or what was asked of it, 1 by their device.",
        ),
        ("cancelled", [BAD_MODEL], 1, ""),
    ],
)
def test_the_exit_code_tells_whose_failure_it_is(
    state: str,
    failures: list[Failure],
    code: int,
    note: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert watch_to_end(Ended(state, failures, {"done": 1}), "x") == code  # type: ignore[arg-type]
    shown = " ".join(capsys.readouterr().out.split())
    assert note in shown
    if CRASH in failures:
        assert "measure: SIGSEGV (crash, device)" in shown


UNSUPPORTED = Failure("load", "unsupported_operator", "NonMaxSuppression")
SHORT = Failure("measure", "clock", "too short for the clock")


@pytest.mark.parametrize(
    ("status", "failures", "code"),
    [
        ("unsupported", [UNSUPPORTED], 2),
        ("unsupported", [UNSUPPORTED, BAD_MODEL], 2),
        ("invalid", [SHORT], 1),
        ("invalid", [SHORT, UNSUPPORTED], 1),
        ("failed", [], 1),
    ],
)
def test_a_sweep_without_a_measurement_never_ends_with_success(
    status: str, failures: list[Failure], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = Ended("done", failures, {status: 2}, status)
    assert watch_to_end(ended, "x") == code  # type: ignore[arg-type]
    assert f"nothing was measured in x: 2 {status}" in capsys.readouterr().err
