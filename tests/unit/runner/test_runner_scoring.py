"""A model's task, recognised or declared, and the accuracy that is taken by it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agent.contract.failures import BadData
from agent.contract.scoring import Scoring, described
from agent.contract.trial import Tolerance
from agent.runner import accuracy, scoring, task
from agent.runner.scoring import Scored

TWO = np.array([0, 1, 1, 0, 1, 0])
THREE = np.array([0, 1, 2, 2, 1, 0])
SIGNS = np.where(TWO == 1, 1.0, -1.0).astype(np.float32)[:, None]


def one_hot(labels: Any, classes: int) -> Any:
    return np.eye(classes, dtype=np.float32)[labels]


def found(labels: Any, wanted: Scoring | None = None, **outputs: Any) -> tuple[Scoring, float]:
    """The task and the accuracy of outputs over all samples, one sample a feed."""
    labels = scoring.class_labels(labels)
    feeds = [{n: np.asarray(a)[k : k + 1] for n, a in outputs.items()} for k in range(len(labels))]
    scores = scoring.gathered(feeds, 1, len(labels))
    shapes = {name: array.shape for name, array in feeds[0].items()}
    chosen = task.find(scores, shapes, labels, wanted)
    return chosen, scoring.score(scores[chosen.output], labels, chosen).accuracy


@pytest.mark.parametrize(
    ("labels", "outputs", "name", "output"),
    [
        (THREE, {"y": one_hot(THREE, 3)}, "multiclass", "y"),
        (THREE, {"y": one_hot(THREE, 3)[:, :, None, None]}, "multiclass", "y"),
        (THREE, {"label": THREE, "y": one_hot(THREE, 3)}, "multiclass", "y"),
        (THREE, {"logits": 9 * one_hot(THREE, 3), "y": one_hot(THREE, 3)}, "multiclass", "logits"),
        (THREE, {"features": np.random.RandomState(0).randn(6, 8), "y": one_hot(THREE, 3)},
         "multiclass", "y"),
        (THREE, {"mask": np.zeros((6, 2, 9, 9)), "y": one_hot(THREE, 3)}, "multiclass", "y"),
        (THREE, {"y": (120 * one_hot(THREE, 3)).astype(np.int8)}, "multiclass", "y"),
        (one_hot(THREE, 3), {"y": one_hot(THREE, 3)}, "multiclass", "y"),
        (TWO, {"p": (SIGNS + 1) / 2}, "binary", "p"),
        (TWO, {"p": SIGNS * 4}, "binary", "p"),
        (TWO, {"p": SIGNS[:, 0]}, "binary", "p"),
        (TWO.astype(bool), {"p": SIGNS}, "binary", "p"),
        (TWO[:, None], {"p": SIGNS}, "binary", "p"),
        (TWO, {"label": TWO, "p": np.hstack([-SIGNS, SIGNS])}, "multiclass", "p"),
        (THREE, {"label": THREE}, "labels", "label"),
        (THREE, {"label": THREE.astype(np.float32)[:, None]}, "labels", "label"),
        (THREE + 1, {"label": THREE + 1, "y": one_hot(THREE, 3)}, "labels", "label"),
        (THREE, {"label": THREE, "best_two": np.stack([THREE, THREE], 1)}, "labels", "label"),
        (np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0]]),
         {"y": np.array([[3.0, 2, -1], [-1, 4, -2], [-1, -1, -9]])}, "multilabel", "y"),
    ],
)  # fmt: skip
def test_a_perfect_model_scores_1_by_the_task_that_is_recognised(
    labels: Any, outputs: Any, name: str, output: str
) -> None:
    chosen, share = found(labels, **outputs)
    assert (chosen.task, chosen.output, share) == (name, output, 1.0)
    assert chosen.how.startswith("recognised by")


def test_the_threshold_follows_from_the_scores_and_says_why() -> None:
    chosen, _ = found(TWO, p=(SIGNS + 1) / 2)
    assert described(chosen) == (
        "binary: output p above 0.5 is class 1 (recognised by 1 value a sample and labels 0…1, all"
        " 6 scores lie in 0…1, so they are probabilities)"
    )
    chosen, _ = found(TWO, p=SIGNS * 4)
    assert (chosen.threshold, "scores from -4 to 4 are logits" in chosen.how) == (0.0, True)
    chosen, share = found(TWO, Scoring("binary", threshold=5.0), p=SIGNS * 4)
    assert (chosen.threshold, share) == (5.0, 0.5)


@pytest.mark.parametrize(
    ("labels", "outputs", "wanted", "message"),
    [
        (THREE + 1, {"y": one_hot(THREE, 3)}, None,
         r"labels\[2\] is 3; output y has 3 classes: accepted are 0…2 \(the labels seem to count"
         r" from 1: subtract 1\)"),
        (TWO + 1, {"p": SIGNS}, None, r"labels\[1\] is 2; output p has one score a sample:"),
        (THREE + 1, {"label": THREE, "y": one_hot(THREE, 3)}, None, "count from 1"),
        (TWO, {"boxes": np.zeros((6, 9, 4))}, None, "cannot be scored against labels .* --task"),
        (THREE, {"price": np.linspace(0, 1.7, 6)[:, None]}, None, r"output price has one score"),
        (TWO, {"p": (SIGNS * 90 + 100).astype(np.uint8)}, None, "cannot be scored"),
        (THREE, {"a": one_hot(THREE, 3), "b": one_hot(TWO, 3)}, None,
         r"a \(multiclass, accuracy 1.0000\), b .* --score-output NAME"),
        (THREE, {"y": one_hot(THREE, 3)}, Scoring("", "z"), "--score-output z: the outputs are y"),
        (THREE, {"m": np.zeros((6, 9, 9))}, Scoring("", "m"), "no row of values"),
        (THREE, {"y": one_hot(THREE, 3)}, Scoring("binary"), "cannot be scored as binary"),
        (np.array(["cat", "dog"]), {"y": SIGNS[:2]}, None, "accepted: class numbers from 0"),
        (np.array([0, -1]), {"y": SIGNS[:2]}, None, r"labels\[1\] is -1"),
        (np.array([0, np.nan]), {"y": SIGNS[:2]}, None, r"labels\[1\] is nan"),
        (np.array([0, 0.5]), {"y": SIGNS[:2]}, None, r"labels\[1\] is 0.5"),
        (np.array([[0, 1], [0, 2]]), {"y": SIGNS[:2]}, None, r"labels\[1, 1\] is 2; .* 0 and 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_scored_is_refused(
    labels: Any, outputs: Any, wanted: Scoring | None, message: str
) -> None:
    with pytest.raises(BadData, match=message):
        found(labels, wanted, **outputs)


def test_which_of_several_outputs_is_scored_can_be_said() -> None:
    outputs = {"a": one_hot(TWO, 3), "b": one_hot(THREE, 3)}
    assert found(THREE, Scoring("", "b"), **outputs)[1] == 1.0
    assert found(THREE, Scoring("multiclass", "a"), **outputs)[1] < 1.0
    assert task.find({}, {}, None, Scoring("none")).task == "none"


@pytest.mark.parametrize(
    ("guesses", "wanted", "remark"),
    [
        (TWO, TWO, ""),
        (1 - TWO, TWO, "accuracy 0.0000 is at or below chance: always answering 0 gives 0.5000"),
        (THREE + 1, THREE, "with every label 1 more it would be 1.0000"),
        (np.where(THREE == 2, 1, THREE), THREE, "never predicted: 2 of the 3 classes"),
        (TWO, np.ones(6, int), "all 6 labels are 1: the accuracy says little"),
    ],
)
def test_what_makes_an_accuracy_doubtful(guesses: Any, wanted: Any, remark: str) -> None:
    scores = scoring.Scores(np.asarray(guesses)[:, None], True)
    remarks = "; ".join(scoring.score(scores, wanted, Scoring("labels", "y")).remarks)
    assert remark in remarks
    assert bool(remark) == bool(remarks)


def test_batches_are_taken_apart_and_filling_is_ignored() -> None:
    outputs = [{"y": np.array([[0.1, 0.9], [0.8, 0.2]])}, {"y": np.array([[0.3, 0.7], [0.0, 1.0]])}]
    scores = scoring.gathered(outputs, 2, 3)
    labels = np.array([1, 1, 1])
    assert scoring.score(scores["y"], labels, Scoring("multiclass", "y")).accuracy == 2 / 3
    with pytest.raises(BadData, match="5 labels but only 4"):
        scoring.gathered(outputs, 2, 5)


def test_a_model_that_drops_the_axis_of_the_batch() -> None:
    scores = scoring.gathered([{"y": row} for row in one_hot(THREE, 3)], 1, 6)
    assert scoring.score(scores["y"], THREE, Scoring("multiclass", "y")).accuracy == 1.0


@pytest.mark.parametrize(
    ("share", "reference", "passed"),
    [(0.89, 0.90, True), (0.8899, 0.90, False), (0.95, 0.90, True), (0.1, None, True)],
)
def test_the_allowed_drop_is_inclusive(share: float, reference: float, passed: bool) -> None:
    strict = Tolerance(min_cosine=0.999, max_top1_drop=0.01)
    assert accuracy.against_source(Scored(share, 100, []), reference, strict).passed is passed
