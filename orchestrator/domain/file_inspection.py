"""Questions and answers about files that a confined child process reads for the controller.

The child (``orchestrator.inspection.client``) gets one ``Job`` as JSON on stdin and writes one
answer as JSON to stdout, both encoded by ``agent.contract.codec``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from agent.contract.input_values import InputValues
from agent.contract.trial import TensorSpec
from orchestrator.domain.flops import ComputeWork

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Question:
    """``path`` is the file, ``name`` its name in messages, ``form`` its format if that matters.
    ``shapes``: input shapes, given for free ones or as registered."""

    path: str
    name: str
    form: str = ""
    shapes: Shapes = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """``verb`` is a key of ``orchestrator.inspection.child.commands.COMMANDS``: the name of the
    answer's class. The child sets itself the limits before it opens the file."""

    verb: str
    question: Question
    wall_s: float
    memory_mib: int


@dataclass(frozen=True)
class CheckedFile:
    """The file is complete and in this format; precisions are those of
    ``agent.runtimes.formats``. ``stored``: what it holds, in words, where that says more."""

    format: str
    precision: str
    stored: str = ""


@dataclass(frozen=True)
class CountedWork:
    """The work of one inference (``orchestrator.domain.flops.ComputeWork``) in plain types. If
    ``counted`` is false, nothing could be counted and ``macs`` is meaningless."""

    counted: bool
    macs: int
    flops_by_operator: dict[str, int]
    not_counted: dict[str, int]
    unknown: dict[str, str]

    def plain(self) -> dict[str, object]:
        """The JSON form, equal to that of ``ComputeWork.plain``."""
        return {
            "macs": self.macs if self.counted else None,
            "flops": 2 * self.macs if self.counted else None,
            "flops_by_operator": self.flops_by_operator,
            "not_counted": self.not_counted,
            "unknown": self.unknown,
        }


@dataclass(frozen=True)
class OnnxFacts:
    """Facts of an ONNX file. ``inputs`` have fixed shapes. ``free_batch``: the leading dimension of
    every input is free in the file, and 1 in the fixed shape. ``layouts`` of inputs and outputs, if
    known. ``precision``: one of ``agent.runtimes.formats.precisions``; ``stored``: what the file
    holds, in words. ``random``: output → the operators that draw the random numbers it depends on.
    ``onnx``: version of the package that read the file. ``values``: as ``KnownValues``."""

    inputs: tuple[TensorSpec, ...]
    free_batch: bool
    layouts: dict[str, str]
    opset: dict[str, int]
    ir_version: int
    producer: str
    parameters: int
    operators: dict[str, int]
    work: CountedWork
    onnx: str
    precision: str = "fp32"
    stored: str = "fp32"
    random: dict[str, str] = field(default_factory=dict)
    values: dict[str, InputValues] = field(default_factory=dict)

    @property
    def details(self) -> dict[str, Any]:
        """The JSON form that is stored with the model."""
        return {
            "opset": self.opset,
            "ir_version": self.ir_version,
            "producer": self.producer,
            "precision": self.precision,
            "stored": {"onnx": self.stored},
            "parameters": self.parameters,
            "operators": self.operators,
            "work": self.work.plain(),
            "onnx": self.onnx,
        }


@dataclass(frozen=True)
class OnnxLayouts:
    """Layouts of an ONNX file's inputs and outputs, if known."""

    layouts: dict[str, str]


@dataclass(frozen=True)
class KnownValues:
    """Input → what its values must be, as far as operators tell."""

    values: dict[str, InputValues]


@dataclass(frozen=True)
class NamedArrays:
    """The shapes of the arrays of an .npz, which may be anything."""

    shapes: Shapes


@dataclass(frozen=True)
class ArrayValues:
    """What the values of one array are. ``first``, ``not_finite``, ``fraction`` (the first value
    that is not whole), ``low_at`` and ``high_at`` are a place and its value (``inputs[0, 3] is
    nan``), empty where there is none. ``kind``: of numpy's type."""

    dtype: str
    kind: str
    first: str
    not_finite: str
    fraction: str
    low: float
    low_at: str
    high: float
    high_at: str


@dataclass(frozen=True)
class DatasetArrays:
    """The arrays of a data set: their shapes, checked against each other, and their values."""

    shapes: Shapes
    values: dict[str, ArrayValues] = field(default_factory=dict)


@dataclass(frozen=True)
class Drawing:
    """A network as the text of an SVG file."""

    svg: str


@dataclass(frozen=True)
class InspectionRefused:
    """An error instead of an answer. ``kind``: ``bad_input`` (the message says what is wrong with
    the file), ``memory``, or ``missing`` (a package that reads it is not installed)."""

    kind: str
    message: str


REFUSED = 3
"""Exit code of a child that wrote an ``InspectionRefused``; with an answer it is 0."""

NO_LANDLOCK = "this kernel has no Landlock: a file's reader could read other files"
NO_SECCOMP = "no seccomp filter here: a file's reader could start programs and open sockets"
"""Messages of the child about confinement that this machine does not offer."""

T = TypeVar("T")


class Inspector(Protocol):
    """Answers a question about a file.

    Raises:
        UserError: the file is not valid, or could not be read within the limits.
        Busy: too many files are being read.
        FarmError: this machine cannot read any file.
    """

    def __call__(self, question: Question, answer: type[T]) -> T: ...


def counted(work: ComputeWork) -> CountedWork:
    plain: Any = work.plain()
    return CountedWork(
        counted=work.macs is not None,
        macs=work.macs or 0,
        flops_by_operator=plain["flops_by_operator"],
        not_counted=plain["not_counted"],
        unknown=plain["unknown"],
    )
