"""Questions about uploaded files, which only a confined child process reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from agent.contract.input_values import InputValues
from agent.contract.trial import TensorSpec
from agent.runtimes.formats import SOURCES, precisions
from orchestrator.domain.errors import UserError
from orchestrator.domain.file_inspection import (
    CheckedFile,
    CountedWork,
    DatasetArrays,
    Drawing,
    Inspector,
    KnownValues,
    NamedArrays,
    OnnxFacts,
    OnnxLayouts,
    Question,
    Shapes,
)

GRAPHS = ("onnx", "tflite", "edgetpu_tflite")
"""Formats whose graph can be read, the preferred one first."""
MOST_AXES = 64
MOST_LETTERS = 400
"""Most letters of a value with its place, such as ``inputs[0, 3] is nan``."""


def check_format(
    inspect: Inspector, path: Path, name: str, form: str, facts_follow: bool = False
) -> CheckedFile:
    """Check that a file is in the promised format; returns its real one, because a TFLite file may
    turn out to be compiled for the Edge TPU.

    Args:
        facts_follow: ``onnx_facts`` will read an ONNX file and its precision; it is not read now.

    Raises:
        UserError: empty, truncated, another format.
    """
    if path.stat().st_size == 0:
        raise UserError(f"{name}: the file is empty; expected a {form} model")
    if form == "onnx" and facts_follow:
        return CheckedFile(form, precisions(form)[0])
    found = inspect(Question(str(path), name, form), CheckedFile)
    if found.format not in SOURCES or found.precision not in precisions(found.format):
        raise UserError(
            f"{name}: what reads it calls it {found.format!r:.60}, {found.precision!r:.60}"
        )
    return found


def onnx_facts(
    inspect: Inspector, path: Path, name: str, shapes: Mapping[str, Sequence[int]]
) -> OnnxFacts:
    """Inputs, outputs and details of an ONNX file, the shapes of its inputs fixed.

    Args:
        shapes: input name → shape, for inputs whose shape the file leaves free.

    Raises:
        UserError: not an ONNX model, or an input's shape is free and not given.
    """
    found = inspect(Question(str(path), name, "onnx", _tuples(shapes)), OnnxFacts)
    if found.precision not in precisions("onnx"):
        raise UserError(f"{name}: what reads it calls it {found.precision!r:.60}")
    if not all(_is_plausible(spec) for spec in found.inputs):
        raise UserError(f"{name}: an input has more axes or elements than any tensor can")
    return found


def layouts(inspect: Inspector, path: Path, name: str, form: str) -> dict[str, str]:
    """Tensor name → layout, for formats whose runtime does not report it; else empty."""
    if form != "onnx":
        return {}
    return inspect(Question(str(path), name, form), OnnxLayouts).layouts


def dataset_arrays(inspect: Inspector, path: Path, name: str) -> DatasetArrays:
    """Shapes and values of a data set's arrays. Raises ``UserError``: no data set, or inconsistent
    shapes."""
    found = inspect(Question(str(path), name), DatasetArrays)
    for values in found.values.values():
        texts = (values.dtype, values.first, values.not_finite, values.fraction)
        if not all(
            text.isprintable() and len(text) <= MOST_LETTERS
            for text in (*texts, values.low_at, values.high_at)
        ):
            raise UserError(f"{name}: what reads it describes its values in unprintable words")
    return found


def input_values(inspect: Inspector, path: Path, name: str, form: str) -> dict[str, InputValues]:
    """Input → what its values must be, for inputs of which an operator of a TFLite file tells;
    empty for formats whose graph only their runtime reads. ``onnx_facts`` has those of ONNX."""
    if form != "tflite":
        return {}
    return inspect(Question(str(path), name, form), KnownValues).values


def array_shapes(inspect: Inspector, path: Path, name: str) -> Shapes:
    """Shapes of the arrays of an .npz. Raises ``UserError``: not such a file."""
    return inspect(Question(str(path), name), NamedArrays).shapes


def count_work(
    inspect: Inspector, path: Path, name: str, form: str, inputs: Sequence[TensorSpec]
) -> dict[str, object]:
    """What one inference costs; for files in one of ``GRAPHS``."""
    shapes = {spec.name: spec.shape for spec in inputs}
    return inspect(Question(str(path), name, form, _tuples(shapes)), CountedWork).plain()


def draw(
    inspect: Inspector, path: Path, name: str, form: str, shapes: Mapping[str, Sequence[int]]
) -> str:
    """The graph as SVG with the title ``name``; for files in one of ``GRAPHS``."""
    return inspect(Question(str(path), name, form, _tuples(shapes)), Drawing).svg


def _tuples(shapes: Mapping[str, Sequence[int]]) -> Shapes:
    return {name: tuple(shape) for name, shape in shapes.items()}


def _is_plausible(spec: TensorSpec) -> bool:
    return len(spec.shape) <= MOST_AXES and all(0 <= size < 1 << 63 for size in spec.shape)
