"""What the confined child answers, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.domain.errors import FarmError, UserError
from orchestrator.domain.file_inspection import (
    CheckedFile,
    CountedWork,
    DatasetArrays,
    Drawing,
    OnnxFacts,
    OnnxLayouts,
    Question,
)
from orchestrator.inspection.client import ConfinedInspector
from support import malicious
from support.confined_readers import MIB, TFLITE, refusal
from support.inspectors import inspect


@pytest.mark.parametrize("answer", [OnnxFacts, OnnxLayouts, CountedWork, Drawing])
def test_an_onnx_file_is_read_as_in_this_process(
    home: Path, question: Question, answer: type[Any]
) -> None:
    asked = replace(question, form="onnx")
    assert ConfinedInspector(home, 60, MIB)(asked, answer) == inspect(asked, answer)
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("answer", [CheckedFile, CountedWork, Drawing])
def test_a_tflite_file_is_read_as_in_this_process(home: Path, answer: type[Any]) -> None:
    asked = Question(str(TFLITE), "net.tflite", "tflite", {"x": (1, 6, 6, 3)})
    assert ConfinedInspector(home, 60, MIB)(asked, answer) == inspect(asked, answer)


def test_a_data_set_larger_than_the_memory_is_read(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    many = np.zeros((300, 1 << 20), np.uint8)
    np.savez_compressed(path, inputs=many, labels=np.zeros(300), calibration=many[:2])
    found = ConfinedInspector(home, 60, 128)(Question(str(path), "set.npz"), DatasetArrays).shapes
    assert found == {"inputs": (300, 1 << 20), "labels": (300,), "calibration": (2, 1 << 20)}


def test_what_is_refused_says_what_the_reader_says(home: Path, question: Question) -> None:
    message = refusal(ConfinedInspector(home, 60, MIB), question)
    assert "mine.tflite: not a TFLite model (truncated, or another format?)" in message
    assert "could not be read" not in message


def test_a_reader_without_its_package_is_no_fault_of_the_file(
    evil: Callable[..., ConfinedInspector], question: Question
) -> None:
    with pytest.raises(FarmError, match="No module named 'no_such'") as caught:
        evil("import no_such")(question, CheckedFile)
    assert not isinstance(caught.value, UserError)


# --- files that want too much


@pytest.mark.parametrize(
    ("name", "make", "answer"),
    [
        ("bomb.onnx", malicious.onnx_bomb, OnnxFacts),
        ("nodes.onnx", lambda: malicious.onnx_of_empty_nodes(10_000_000), OnnxFacts),
        ("bomb.tflite", malicious.tflite_bomb, CheckedFile),
    ],
)
def test_a_file_that_wants_all_the_memory(
    home: Path, tmp_path: Path, name: str, make: Callable[[], bytes], answer: type[Any]
) -> None:
    path = tmp_path / "blob"
    path.write_bytes(make())
    asked = Question(str(path), name, Path(name).suffix[1:])
    message = refusal(ConfinedInspector(home, 120, MIB), asked, answer)
    assert message == (
        f"{name}: it could not be read within 120 s and 512 MiB: it wanted more memory "
        "(BENCHFARM_INSPECT_MIB sets the limit)"
    )


def test_a_data_set_that_says_it_unpacks_to_more_than_may_be(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    malicious.npz_that_says(path, 0xFFFFFFF0)
    message = refusal(
        ConfinedInspector(home, 60, MIB), Question(str(path), "set.npz"), DatasetArrays
    )
    assert (
        message == f"set.npz: it unpacks to {2 * 0xFFFFFFF0} bytes, at most 4294967296 are accepted"
    )


def test_a_data_set_that_says_it_unpacks_to_less_than_it_does(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    malicious.npz_that_says(path, 256)
    message = refusal(
        ConfinedInspector(home, 60, MIB), Question(str(path), "set.npz"), DatasetArrays
    )
    assert "not an .npz data set" in message


@pytest.mark.parametrize("offset", [0, 8, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_tflite_file_of_wild_offsets(home: Path, tmp_path: Path, offset: int) -> None:
    path = tmp_path / "blob"
    path.write_bytes(offset.to_bytes(4, "little") + b"TFL3" + b"\xff\xff\xff\xff" * 500)
    message = refusal(
        ConfinedInspector(home, 60, MIB), Question(str(path), "wild.tflite", "tflite")
    )
    assert "not a TFLite model" in message
