"""What the worker asks of its child processes: one JSON document in, one out, by verb.

Like ``agent.contract.trial``: frozen dataclasses of the standard library, Python 3.8 syntax.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Optional, Tuple

from agent.contract.conversion_graph import Edge, Tool
from agent.contract.device import RuntimeFacts
from agent.contract.trial import (
    Failure,
    Fidelity,
    ModelRef,
    RuntimeRef,
    TensorSpec,
    Tolerance,
    TrialRequest,
)


@dataclass(frozen=True)
class ConvertJob:
    """Walk ``way`` from ``source``, in this interpreter, below ``folder`` (verb ``convert``).

    ``model`` is as registered but for ``format``, ``own_inputs`` and ``own_outputs``, which are the
    source's; converters are told the options of ``runtime`` that they know.
    """

    model: ModelRef
    runtime: RuntimeRef
    source: str
    folder: str
    way: Tuple[Edge, ...]
    calibration: str = ""
    dataset: Optional[str] = None
    reference: Optional[str] = None
    seed: int = 0


@dataclass(frozen=True)
class Converted:
    """Answer of ``convert``: ``artifact`` is what to load, ``steps`` what ran, with versions.

    ``inputs`` and ``outputs`` are the artifact's own, in the model's order, empty where they are as
    the model's. ``checked``: it was held against the reference in this interpreter.
    """

    artifact: str = ""
    format: str = ""
    size_bytes: int = 0
    steps: Tuple[str, ...] = ()
    seconds: float = 0.0
    status: str = "ok"
    failure: Optional[Failure] = None
    inputs: Tuple[TensorSpec, ...] = ()
    outputs: Tuple[TensorSpec, ...] = ()
    checked: bool = False


@dataclass(frozen=True)
class TrialJob:
    """Measure ``artifact`` (verb ``trial``). Raw samples go to ``folder``/samples.i64.

    ``own_inputs`` and ``own_outputs`` are the artifact's, as in ``ModelRef``. The options of the
    request's runtime are the backend's alone here: converters have had theirs.
    """

    request: TrialRequest
    artifact: str
    artifact_format: str
    artifact_size_bytes: int
    reference: str
    folder: str
    dataset: Optional[str] = None
    own_inputs: Tuple[TensorSpec, ...] = ()
    own_outputs: Tuple[TensorSpec, ...] = ()


@dataclass(frozen=True)
class ReferenceJob:
    """Compute the FP32 reference of ``model`` (verb ``reference``) on ``feeds`` seeded inputs, or
    on the first samples of ``dataset`` where there is one; writes ``folder``/reference.npz.

    ``model.inputs`` empty: they are the file's own, and ``shapes`` (by input) fix the free ones.

    With ``expected``, a model's reference, nothing is written: ``source`` joins that model, and
    must give its outputs on its inputs, within the one of ``tolerances`` (by precision) that the
    file's precision has. ``model.inputs`` and ``outputs`` are then the model's.

    ``layouts``: of the file's tensors by name, where something else than its runtime tells.
    """

    model: ModelRef
    source: str
    folder: str
    feeds: int = 4
    seed: int = 0
    dataset: Optional[str] = None
    shapes: Dict[str, Tuple[int, ...]] = field(default_factory=dict)
    layouts: Dict[str, str] = field(default_factory=dict)
    expected: Optional[str] = None
    tolerances: Dict[str, Tolerance] = field(default_factory=dict)


@dataclass(frozen=True)
class Referenced:
    """Answer of ``reference``; ``outputs`` are the tensors that the model really gave.

    ``inputs`` are the file's own, with -1 where it leaves a dimension free; of a file that joins a
    model both are in the model's order and of its sizes. ``precision`` is the file's.
    """

    path: str = ""
    outputs: Tuple[TensorSpec, ...] = ()
    origin: str = ""
    top1: Optional[float] = None
    failure: Optional[Failure] = None
    inputs: Tuple[TensorSpec, ...] = ()
    precision: str = ""
    fidelity: Optional[Fidelity] = None


@dataclass(frozen=True)
class Probed:
    """Answer of ``probe``: every backend and converter file, asked under this interpreter."""

    runtimes: Tuple[RuntimeFacts, ...]
    tools: Tuple[Tool, ...] = ()
