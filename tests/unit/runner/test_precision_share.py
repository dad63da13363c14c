"""Shares of a precision: counted in files, written as words, read back."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from agent.contract.failures import NothingConverted, UnsupportedOperator
from agent.contract.precision_share import PrecisionShare, read_share
from agent.formats.onnx import input_dimensions
from agent.formats.onnx_old_inputs import write_without_listed_weights
from agent.formats.tflite import read
from agent.formats.tflite_precision import tflite_share
from agent.runtimes.onnxruntime.precision_count import onnx_share
from agent.runtimes.refusals import refusal, sentence
from support import onnx_files

TFLITE = Path(__file__).parents[2] / "fixtures" / "tflite"


@pytest.mark.parametrize("macs", [(3, 9), (0, 0)])
def test_a_share_comes_back_from_its_words(macs: tuple[int, int]) -> None:
    share = PrecisionShare("int8", (1, 4), (36, 484), macs)
    steps = ("other 1.0, weights fp16", f"tool 2.0, s8, {share.words()}, checked by x, cosine 0.99")
    assert read_share(steps) == share
    assert read_share(steps[:1]) is None


def test_nothing_changed_is_refused() -> None:
    with pytest.raises(NothingConverted, match="0 of 4 operators"):
        PrecisionShare("int8", (0, 4), (0, 9)).required("tool")


@pytest.mark.parametrize(
    ("name", "precision", "words"),
    [
        ("int8", "int8", "int8 in 3 of 3 operators, 132 of 132 weights, 1748 of 1748 MACs"),
        ("fp16", "fp16", "fp16 in 2 of 3 operators, 128 of 132 weights, 1748 of 1748 MACs"),
        ("nhwc", "int8", "int8 in 0 of 3 operators, 0 of 132 weights, 0 of 1748 MACs"),
    ],
)
def test_tflite_files_are_counted(name: str, precision: str, words: str) -> None:
    assert tflite_share(read(TFLITE / f"{name}.tflite"), precision).words() == words


def test_an_fp32_file_has_nothing_of_another_precision() -> None:
    for precision in ("fp16", "int8"):
        share = onnx_share(onnx_files.dense(), precision)
        assert (share.operators, share.weights, share.macs) == ((0, 2), (0, 21), (0, 18))


def test_weights_that_an_old_file_lists_among_its_inputs_are_taken_out(tmp_path: Path) -> None:
    old, new = tmp_path / "old.onnx", tmp_path / "new.onnx"
    made = onnx_files.dense()
    made.ir_version = 3
    for tensor in reversed(made.graph.initializer):
        value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        made.graph.input.insert(0, value)
    old.write_bytes(made.SerializeToString())
    assert write_without_listed_weights(old, new)
    assert list(input_dimensions(new)) == ["x"]
    written = onnx.load(str(new))
    onnx.checker.check_model(written, full_check=True)
    assert written.graph.initializer[0].raw_data == made.graph.initializer[0].raw_data
    assert not write_without_listed_weights(new, tmp_path / "again.onnx")


def test_a_message_is_cut_after_a_sentence_else_after_a_word() -> None:
    assert sentence("One two three. Four five six seven", 24) == "One two three. …"
    assert sentence("onetwo threefour fivesix", 20) == "onetwo threefour …"
    assert sentence("a\n  b \x1b[31mc\x1b[0m") == "a b c"


def test_a_refusal_is_about_the_model_alone() -> None:
    found = refusal("rt", RuntimeError("/a/b.cc:12 op_type:Foo, no kernel.\nStack trace:\n 0: x"))
    assert isinstance(found, UnsupportedOperator)
    assert str(found) == "rt does not support this use of operator Foo: op_type:Foo, no kernel."
    for error in (RuntimeError("CUDA error: out of memory"), MemoryError(), OSError("x"), KeyError):
        assert refusal("rt", error) is None  # type: ignore[arg-type]
