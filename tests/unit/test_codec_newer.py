"""Fields that the release before does not know: left out where nothing needs them, and taken out
for who refuses them."""

from __future__ import annotations

import json

import pytest

from agent.contract import codec
from agent.contract.comparison import check
from agent.contract.scoring import Scoring
from agent.contract.trial import Accuracy, DatasetRef, Fidelity, Phases, Tolerance, TrialResult

DATASET = DatasetRef("d", "0" * 64, 1, 2, 3)
FIDELITY = Fidelity(0.0, 0.0, 1.0, None, 4, "y", True)
CHECKED = Fidelity(0.0, 0.0, 1.0, None, 4, "y", True, (check("y", "equal", 50.0, 90.0, 4, "why"),))


@pytest.mark.parametrize(
    "value", [DATASET, FIDELITY, Tolerance(0.9, 0.1), Accuracy(0.5, 10, 0.5, True)]
)
def test_an_earlier_release_understands_what_does_not_need_more(value: object) -> None:
    keys = set(json.loads(codec.dumps(value)))
    assert keys.isdisjoint({"checks", "scoring", "remark", "max_relative_error", "min_equal"})
    assert codec.loads(type(value), codec.dumps(value)) == value


def test_what_is_more_arrives() -> None:
    scored = DatasetRef("d", "0" * 64, 1, 2, 3, Scoring("binary", "p", 0.5, "declared"))
    assert codec.loads(DatasetRef, codec.dumps(scored)) == scored
    assert codec.loads(Fidelity, codec.dumps(CHECKED)) == CHECKED


def test_it_is_taken_out_at_any_depth() -> None:
    result = TrialResult(
        1, "a", "ok", "0.1", Phases(), fidelity=CHECKED, accuracy=Accuracy(0.5, 9, 0.5, True, "!")
    )
    plain = json.loads(codec.without_newer(TrialResult, codec.dumps(result)))
    assert "checks" not in plain["fidelity"]
    assert "remark" not in plain["accuracy"]
    assert plain["fidelity"]["worst_output"] == "y"
    known = codec.from_plain(TrialResult, plain)
    assert known.fidelity == FIDELITY
