"""What the controller asks about a file that it does not open itself, and what it is answered.

The file is read by a confined child process (``orchestrator.inspection.client``): one ``Job`` as
JSON on its stdin, one answer as JSON on its stdout, both by ``agent.contract.codec``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from agent.contract.trial import TensorSpec
from orchestrator.domain.flops import ComputeWork

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Question:
    """``path``: the file's bytes; ``name``: how messages call it; ``form``: its format, where that
    matters. ``shapes``: of inputs that the file leaves free, or as they are registered."""

    path: str
    name: str
    form: str = ""
    shapes: Shapes = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """``verb`` is one of ``orchestrator.inspection.child.commands.COMMANDS``, named as its answer
    is. The limits are those that the child sets itself before it opens the file."""

    verb: str
    question: Question
    wall_s: float
    memory_mib: int


@dataclass(frozen=True)
class CheckedFile:
    """A file is whole and in this format; precision as in ``agent.runtimes.formats``."""

    format: str
    precision: str


@dataclass(frozen=True)
class CountedWork:
    """What one inference costs, as ``orchestrator.domain.flops.ComputeWork``; without ``counted``
    nothing of it could be counted, and ``macs`` means nothing."""

    counted: bool
    macs: int
    flops_by_operator: dict[str, int]
    not_counted: dict[str, int]
    unknown: dict[str, str]

    def plain(self) -> dict[str, object]:
        """As it is kept and sent: the same as ``ComputeWork.plain``."""
        return {
            "macs": self.macs if self.counted else None,
            "flops": 2 * self.macs if self.counted else None,
            "flops_by_operator": self.flops_by_operator,
            "not_counted": self.not_counted,
            "unknown": self.unknown,
        }


@dataclass(frozen=True)
class OnnxFacts:
    """What an ONNX file says of itself. ``inputs`` have fixed shapes. ``free_batch``: the file
    leaves the leading dimension of every input free, and the fixed shape has 1 there. ``layouts``:
    of inputs and outputs, where known. ``onnx``: the package's version that read it."""

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

    @property
    def details(self) -> dict[str, Any]:
        """As they are kept with the model."""
        return {
            "opset": self.opset,
            "ir_version": self.ir_version,
            "producer": self.producer,
            "parameters": self.parameters,
            "operators": self.operators,
            "work": self.work.plain(),
            "onnx": self.onnx,
        }


@dataclass(frozen=True)
class OnnxLayouts:
    """Layouts of an ONNX file's inputs and outputs, where they are known."""

    layouts: dict[str, str]


@dataclass(frozen=True)
class DatasetArrays:
    """The arrays of a data set, which go together."""

    shapes: Shapes


@dataclass(frozen=True)
class Drawing:
    """A network as the text of an SVG file."""

    svg: str


@dataclass(frozen=True)
class InspectionRefused:
    """Instead of an answer. ``kind``: ``bad_input`` (the message is for people), ``memory``, or
    ``missing``: this machine lacks what would read it."""

    kind: str
    message: str


REFUSED = 3
"""Exit code of a child that ended with a ``InspectionRefused``; with an answer it is 0."""

NO_LANDLOCK = "this kernel has no Landlock: a file's reader could read other files"
NO_SECCOMP = "no seccomp filter here: a file's reader could start programs and open sockets"
"""What the child says of walls that it has to do without."""

T = TypeVar("T")


class Inspector(Protocol):
    """Answers a question about a file.

    Raises:
        UserError: the file is not what it is said to be, or could not be read within the limits.
        Busy: too many files are being read.
        FarmError: no file can be read here at all.
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
