"""The questions that the child answers. A refused file is an answer, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agent.contract import codec
from agent.runtimes.formats import precision
from orchestrator.domain import flops
from orchestrator.domain.errors import UserError
from orchestrator.domain.file_inspection import (
    REFUSED,
    CheckedFile,
    CountedWork,
    DatasetArrays,
    Drawing,
    InspectionRefused,
    Job,
    KnownValues,
    NamedArrays,
    OnnxFacts,
    OnnxLayouts,
    Question,
    counted,
)
from orchestrator.domain.network_graph import NetworkGraph


def answer(job: Job) -> tuple[int, str]:
    """The exit code and the JSON to write; unexpected errors are raised."""
    try:
        return 0, codec.dumps(COMMANDS[job.verb](job.question))
    except UserError as error:
        return REFUSED, codec.dumps(InspectionRefused("bad_input", str(error)))
    except MemoryError:
        return REFUSED, codec.dumps(InspectionRefused("memory", ""))
    except ImportError as error:
        return REFUSED, codec.dumps(InspectionRefused("missing", str(error)))


def check(question: Question) -> CheckedFile:
    from orchestrator.inspection.child import format_checks

    path = Path(question.path)
    if question.form == "onnx":
        from orchestrator.inspection.child import onnx_file

        found = onnx_file.onnx_precision(path, question.name)
        return CheckedFile("onnx", found.precision, found.described)
    file_format = format_checks.checked(path, question.name, question.form)
    return CheckedFile(file_format, precision(file_format, path))


def onnx(question: Question) -> OnnxFacts:
    from orchestrator.inspection.child import onnx_file

    return onnx_file.onnx_model(Path(question.path), question.name, question.shapes)


def layouts(question: Question) -> OnnxLayouts:
    from orchestrator.inspection.child import onnx_file

    return OnnxLayouts(onnx_file.onnx_layouts(Path(question.path), question.name))


def values(question: Question) -> KnownValues:
    from orchestrator.inspection.child import tflite_values

    return KnownValues(tflite_values.read(Path(question.path)))


def named_arrays(question: Question) -> NamedArrays:
    from orchestrator.inspection.child import datasets

    return NamedArrays(datasets.array_shapes(Path(question.path), question.name))


def arrays(question: Question) -> DatasetArrays:
    from orchestrator.inspection.child import datasets

    return datasets.arrays_of(Path(question.path), question.name)


def count(question: Question) -> CountedWork:
    return counted(flops.count(_graph(question)))


def draw(question: Question) -> Drawing:
    """The drawing's title is the question's name."""
    from orchestrator.report.network import svg

    network = _graph(question)
    return Drawing(svg.draw(question.name, network, flops.count(network)))


def _graph(question: Question) -> NetworkGraph:
    return graph(Path(question.path), question.form, question.shapes)


def graph(path: Path, file_format: str, shapes: Mapping[str, tuple[int, ...]]) -> NetworkGraph:
    """The graph of a registered (and so already checked) file, at its registered input shapes."""
    if file_format == "onnx":
        from orchestrator.inspection.child import onnx_graph

        return onnx_graph.read(path, shapes)
    from orchestrator.inspection.child import tflite_graph

    return tflite_graph.read(path, file_format, shapes)


COMMANDS: dict[str, Callable[[Question], Any]] = {
    "CheckedFile": check,
    "OnnxFacts": onnx,
    "OnnxLayouts": layouts,
    "DatasetArrays": arrays,
    "KnownValues": values,
    "NamedArrays": named_arrays,
    "CountedWork": count,
    "Drawing": draw,
}
"""Questions by the class name of their answer."""
