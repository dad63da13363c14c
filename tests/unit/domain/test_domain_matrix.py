"""From a spec to cells, and from cells to the order of their trials."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.matrix import Configuration, count, expand, interleave, may_be_baseline
from orchestrator.domain.spec import SweepSpec

WORDS = st.sampled_from(["a", "b", "c"])
OPTION_VALUES = st.one_of(
    st.booleans(), st.integers(0, 2), st.sampled_from([0.0, 1.0, 0.5]), st.sampled_from(["0", "x"])
)


def many(of: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(of, min_size=1, max_size=3)


RUNTIMES = st.fixed_dictionaries(
    {
        "backend": WORDS,
        "version": many(st.sampled_from(["", "1"])),
        "target": many(st.sampled_from(["CPU", "GPU.0"])),
        "precision": many(st.sampled_from(["fp32", "fp16", "int8"])),
        "threads": many(st.integers(0, 2)),
        "format": many(st.sampled_from(["", "onnx"])),
        "via": many(st.sampled_from(["", "tf2onnx", "freeze+tf2onnx"])),
        "options": st.dictionaries(WORDS, many(OPTION_VALUES), max_size=2),
    }
)
SPECS = st.fixed_dictionaries(
    {
        "name": st.just("s"),
        "models": many(
            st.fixed_dictionaries(
                {"name": WORDS, "calibration": st.sampled_from(["dataset", "random"])}
            )
        ),
        "runtimes": many(RUNTIMES),
        "batch_size": many(st.integers(1, 3)),
    }
).map(SweepSpec.model_validate)


def brute_force(spec: SweepSpec) -> list[tuple[Any, ...]]:
    """The product by nested loops. Options as text: to Python ``True == 1 == 1.0``."""
    return [
        (
            *(model.name, runtime.backend, version, target, precision, threads, batch),
            model.calibration if precision == "int8" else "",
            form,
            via,
            options,
        )
        for model in spec.models
        for runtime in spec.runtimes
        for version in runtime.version
        for target in runtime.target
        for precision in runtime.precision
        for threads in runtime.threads
        for batch in spec.batch_size
        for form in runtime.format
        for via in runtime.via
        for options in combinations(runtime.options)
    ]


def combinations(options: dict[str, list[Any]]) -> list[str]:
    found = [""]
    for key in sorted(options):
        found = [f"{one} {key}={value!r}" for one in found for value in options[key]]
    return found


def as_tuples(spec: SweepSpec) -> list[tuple[Any, ...]]:
    return [
        (
            *(c.model, c.backend, c.version, c.target, c.precision, c.threads, c.batch_size),
            c.calibration,
            c.format,
            c.via,
            "".join(f" {key}={value!r}" for key, value in c.options),
        )
        for c in expand(spec)
    ]


@given(SPECS)
def test_expansion_is_the_product_without_repeats(spec: SweepSpec) -> None:
    cells, expected = as_tuples(spec), brute_force(spec)
    assert set(cells) == set(expected)
    assert len(cells) == len(set(cells))
    assert count(spec) == len(expected) >= len(cells)


@given(SPECS)
def test_expansion_keeps_the_order_of_the_file(spec: SweepSpec) -> None:
    assert as_tuples(spec) == list(dict.fromkeys(brute_force(spec)))
    assert expand(spec) == expand(SweepSpec.model_validate(spec.model_dump()))


@given(SPECS)
def test_labels_tell_cells_apart(spec: SweepSpec) -> None:
    # what a label leaves out, nobody could tell apart in a report: only the calibration's kind
    told = Counter((c.label, c.calibration) for c in expand(spec) if not _ambiguous(c.options))
    assert [label for label, times in told.items() if times > 1] == []


def _ambiguous(options: tuple[tuple[str, Any], ...]) -> bool:
    return any(value == "0" for _, value in options)


@given(st.integers(0, 12), st.integers(1, 6), st.text(max_size=5))
def test_rounds_hold_every_cell_once(cells: int, trials: int, seed: str) -> None:
    order = interleave(range(cells), trials, seed)
    assert Counter(order) == Counter((c, t) for c in range(cells) for t in range(trials))
    for turn in range(trials):
        one_round = order[turn * cells : (turn + 1) * cells]
        assert sorted(one_round) == [(c, turn) for c in range(cells)]


@given(st.integers(0, 12), st.integers(1, 6), st.text(max_size=5))
def test_an_order_depends_on_its_seed_alone(cells: int, trials: int, seed: str) -> None:
    assert interleave(range(cells), trials, seed) == interleave(list(range(cells)), trials, seed)


def test_the_order_changes_from_round_to_round_and_from_seed_to_seed() -> None:
    order = [cell for cell, _ in interleave(range(10), 20, "0/board")]
    rounds = {tuple(order[i : i + 10]) for i in range(0, 200, 10)}
    assert len(rounds) == 20
    assert order != [cell for cell, _ in interleave(range(10), 20, "1/board")]
    followers = Counter(itertools.pairwise(order))
    assert max(followers.values()) < 10, "one cell nearly always follows another"


def test_another_process_gives_the_same_order() -> None:
    """A resumed controller must not depend on Python's hash seed."""
    program = (
        "from orchestrator.domain.matrix import interleave; print(interleave('abcde', 4, '7/x'))"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert runs == {f"{interleave('abcde', 4, '7/x')}\n"}


def test_a_baseline_fits_by_every_key_it_names() -> None:
    cell = Configuration("m", "openvino", "", "CPU", "fp32", 2, 1)
    for wanted in ({}, {"backend": "openvino", "threads": "2"}, {"device": "b", "version": "9"}):
        assert may_be_baseline(wanted, cell, "b")
    for wanted in ({"backend": "tvm"}, {"threads": "1"}, {"device": "c"}, {"batch_size": "8"}):
        assert not may_be_baseline(wanted, cell, "b")


@pytest.mark.parametrize(
    ("asked", "wanted", "fits"),
    [
        ("", "1.30.0", True),
        ("1.30", "1.30.0", True),
        ("1.30.0", "1.30", True),
        ("1.3", "1.30", False),
    ],
)
def test_a_baselines_version_and_a_sweeps_may_be_prefixes(
    asked: str, wanted: str, fits: bool
) -> None:
    cell = Configuration("m", "onnxruntime", asked, "CPU", "fp32", 0, 1)
    assert may_be_baseline({"version": wanted}, cell, "b") is fits
