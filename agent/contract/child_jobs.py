"""Jobs of the child process and its answers: one JSON document in, one out, for each verb.

Frozen dataclasses, standard library only, Python 3.8 syntax, like ``agent.contract.trial``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Optional, Tuple

from agent.contract.conversion_graph import Edge, Tool
from agent.contract.device import RuntimeFacts
from agent.contract.input_values import InputValues
from agent.contract.scoring import Scoring
from agent.contract.trial import (
    Failure,
    Fidelity,
    ModelRef,
    RuntimeRef,
    TensorSpec,
    Tolerance,
    TrialRequest,
)

SO_FAR = "so_far.json"
"""File in a trial's folder with the child's answer as far as it was known after measuring; its
parent reads it where the child was ended before it could answer."""


@dataclass(frozen=True)
class ConvertJob:
    """Convert ``source`` along the conversion path ``way``, in this interpreter (verb ``convert``).

    ``model`` is the registered one, with ``format``, ``own_inputs`` and ``own_outputs`` of the
    source. Results go below ``folder``. Each converter gets the options of ``runtime`` that it
    knows.
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
    """Answer of ``convert``: ``artifact`` is the file to load, ``steps`` what ran, with versions.

    ``inputs`` and ``outputs`` are the artifact's own, in the model's order, empty where they equal
    the model's. ``checked``: its outputs were compared with the reference in this interpreter.
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
    """Measure ``artifact`` (verb ``trial``); raw samples go to ``folder``/samples.i64.

    ``own_inputs`` and ``own_outputs`` are those of the artifact, as in ``ModelRef``. The options of
    the request's runtime are only the backend's here, without those of converters.
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
    """Compute the FP32 reference of ``model`` (verb ``reference``) and write it to
    ``folder``/reference.npz.

    It is computed on the feeds in the ``given`` .npz, else on the first ``feeds`` samples of
    ``dataset``, else on ``feeds`` seeded inputs.

    Attributes:
        model: its ``inputs`` are empty where they are the file's own; ``shapes`` then fix the free
            ones.
        shapes: input → shape.
        layouts: tensor of the file → layout, where another source than its runtime tells.
        expected: the reference of a model that ``source`` joins. Nothing is written then:
            ``source`` must give the expected outputs on the expected inputs, within the tolerance
            for the file's precision; ``model.inputs`` and ``outputs`` are that model's.
        tolerances: precision → tolerance.
        again: the reference that another process computed by the same job. Nothing else is written
            then: outputs that differ from it are marked in it.
        declared: input → what somebody said that its values are drawn from.
        found: the same as read from the graph, where another reader than the runtime tells.
        given: an .npz of feeds (``agent.runner.feeds.given_feeds``).
        scoring: what was declared of the task; ``None``: it is recognised.
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
    again: Optional[str] = None
    declared: Dict[str, InputValues] = field(default_factory=dict)
    found: Dict[str, InputValues] = field(default_factory=dict)
    given: Optional[str] = None
    scoring: Optional[Scoring] = None


@dataclass(frozen=True)
class Referenced:
    """Answer of ``reference``.

    ``outputs`` are the tensors that the model gave, with -1 where the ``feeds`` of the reference
    gave other sizes. ``values``: input → what it was drawn from. ``inputs`` are the file's own,
    with -1 for free dimensions. For a file that joins a model, both have the model's order and
    sizes. ``precision`` is the file's. ``top1`` is the accuracy on the data set, by ``scoring``;
    ``usual``: that is what agents of 0.1 do. ``remarks`` say what makes reference or accuracy
    doubtful.

    ``unrepeatable`` and ``stateful``: outputs that are no function of the inputs, with how far two
    runs differ (``agent.runner.repeatability``).
    """

    path: str = ""
    outputs: Tuple[TensorSpec, ...] = ()
    origin: str = ""
    top1: Optional[float] = None
    failure: Optional[Failure] = None
    inputs: Tuple[TensorSpec, ...] = ()
    precision: str = ""
    fidelity: Optional[Fidelity] = None
    unrepeatable: Dict[str, str] = field(default_factory=dict)
    stateful: Dict[str, str] = field(default_factory=dict)
    feeds: int = 0
    values: Dict[str, InputValues] = field(default_factory=dict)
    scoring: Optional[Scoring] = None
    usual: bool = False
    remarks: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Probed:
    """Answer of ``probe``: every backend and converter, as this interpreter has it."""

    runtimes: Tuple[RuntimeFacts, ...]
    tools: Tuple[Tool, ...] = ()
