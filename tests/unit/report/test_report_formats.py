"""Which of a model's formats is the best: the fastest of those that lose nothing."""

from __future__ import annotations

from agent.contract.trial import Accuracy
from orchestrator.report.build import build_report
from orchestrator.report.format_comparison import best, ordered
from support.report_samples import BAD, cell, failed_trials, steady_trials, sweep

EQUAL = Accuracy(0.99, 400, 0.99, True)
LESS = Accuracy(0.9875, 400, 0.99, True)


def test_the_fastest_that_loses_no_answer_wins_and_overlaps_are_named() -> None:
    report = build_report(
        sweep(
            [
                cell("slow", steady_trials(5.0, seed=1, accuracy=EQUAL)),
                cell("quick", steady_trials(1.0, seed=2, accuracy=LESS)),
                cell("best", steady_trials(3.0, seed=3, accuracy=EQUAL)),
                cell("near", steady_trials(3.01, seed=4, accuracy=EQUAL)),
                cell("wrong", steady_trials(0.5, seed=5, accuracy=EQUAL, fidelity=BAD)),
                cell("broken", failed_trials()),
            ]
        )
    )
    assert [row.cell_id for row in ordered(report)][-1] == "broken"
    found = best(report)
    assert found is not None
    first, tied = found
    assert {first.cell_id, *(row.cell_id for row in tied)} == {"best", "near"}


def test_without_labels_the_outputs_decide() -> None:
    report = build_report(
        sweep([cell("a", steady_trials(3.0)), cell("b", steady_trials(1.0, fidelity=BAD))])
    )
    found = best(report)
    assert found is not None
    assert found[0].cell_id == "a"


def test_where_none_computes_what_the_source_does_there_is_no_best() -> None:
    assert best(build_report(sweep([cell("a", steady_trials(3.0, fidelity=BAD))]))) is None
