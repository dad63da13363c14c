"""The protocols of a backend, by which the runner loads and runs a model.

``agent/runtimes/NAME/backend.py`` holds one class, named ``BACKEND`` at its end. It imports its
runtime inside functions only, so the file can be imported where the runtime is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import (
    Any,
    ClassVar,
    Dict,
    List,
    Mapping,
    Optional,
    Protocol,
    Sequence,
    Tuple,
    runtime_checkable,
)

import numpy as np

from agent.contract.conversion_graph import Node
from agent.contract.device import RuntimeFacts
from agent.contract.input_values import InputValues
from agent.contract.trial import Clock, Memory, RuntimeRef, Scenario, TensorSpec

Feed = Mapping[str, "np.ndarray[Any, Any]"]
Wants = Mapping[str, Tuple[Node, ...]]
Options = Mapping[str, Tuple[str, ...]]
"""Option → accepted values, the default first; empty: any text, default empty."""


class Session(Protocol):
    """A loaded model. ``inputs`` and ``outputs`` have the shapes it runs with; -1 means free."""

    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    placement: str
    """Where and how it runs, in the runtime's own words: device, threads, kernels."""

    def bind(self, feed: Feed) -> None:
        """Copy host arrays to the session. Raises ``UnsupportedShape`` where they do not fit."""

    def infer(self) -> None:
        """Run one inference on the bound inputs; returns when the device has finished."""

    def read(self) -> Dict[str, "np.ndarray[Any, Any]"]:
        """Copies of the last inference's outputs."""

    def close(self) -> None:
        """Free all resources; the session cannot be used afterwards."""


@runtime_checkable
class OwnLatency(Protocol):
    """A session whose runtime reports the latency of its last inference itself."""

    def own_latency_ns(self) -> int: ...


@runtime_checkable
class KnowsValues(Protocol):
    """A session of a format whose graph only its runtime reads."""

    def input_values(self) -> Dict[str, InputValues]:
        """What inputs must hold, as far as operators tell (``agent.formats.value_ranges``)."""


@runtime_checkable
class Resettable(Protocol):
    """A session of a network that keeps state from one inference to the next."""

    def reset(self) -> None:
        """Put the state back to what it was after the load. Never within the timed region."""


@runtime_checkable
class Explained(Protocol):
    """A session that can say why two inferences on the same inputs may differ."""

    def uncertain(self) -> Sequence[str]:
        """The operators that draw random numbers or keep state, by their names in the format."""


class RequestQueue(Protocol):
    """Requests on the bound inputs, at most ``depth`` of them in flight."""

    @property
    def depth(self) -> int: ...

    @property
    def caller_ns(self) -> Sequence[int]:
        """Latencies of requests as the caller sees them, in the order of completion."""

    @property
    def runtime_ns(self) -> Sequence[int]:
        """The same as the runtime reports them; empty where it does not."""

    def submit(self) -> None:
        """Start a request; waits while ``depth`` of them are in flight."""

    def drain(self) -> None:
        """Wait for all requests. Raises what a request raised."""


@runtime_checkable
class AsyncThroughput(Protocol):
    """A session that runs several requests at the same time."""

    def request_queue(self) -> RequestQueue:
        """A new queue whose requests read the inputs that are bound now."""


@runtime_checkable
class SelfMeasured(Protocol):
    """A session whose tool loads the model and runs the timed loop itself, in its own process and
    with its own clock. Each ``infer`` starts that tool: it serves verification, never timing."""

    clock: Clock

    def measured(self, scenario: Scenario) -> RawSamples:
        """Warm up and measure on the bound inputs.

        Raises ``UnsupportedScenario``, ``BadOutput``, ``ClockError``.
        """

    def tool_memory(self) -> Memory:
        """Peak memory of the tool during the last ``measured``."""


class Backend(Protocol):
    """A runtime's code.

    Attributes:
        accepts: source formats that it can run, directly or through a converter.
        wants: precision → the (format, precision) of artifacts that it loads for it, best first.
        options: name → accepted values, the default first; empty: any text.
    """

    name: ClassVar[str]
    accepts: ClassVar[Tuple[str, ...]]
    wants: ClassVar[Wants]
    options: ClassVar[Options]

    def import_runtime(self) -> str:
        """Import the runtime and give its version. Raises ``RuntimeMissing``."""

    def probe(self) -> RuntimeFacts:
        """Its version, and its targets with their precisions. Raises ``RuntimeMissing``."""

    def load(
        self, artifact: Path, runtime: RuntimeRef, inputs: Sequence[TensorSpec] = ()
    ) -> Session:
        """Load ``artifact`` to run on ``inputs`` of fixed shapes (none given: the file's own).

        Raises ``BadModel``, ``Unsupported…``, ``BadOption``, ``RuntimeMissing``.
        """


@dataclass(frozen=True)
class RawSamples:
    """What one measurement gave, before it is stored.

    ``caller_ns`` and, where the runtime reports its own latency, ``runtime_ns``: int64 arrays of
    one value per sample; ``wall_ns`` is the loop's outer wall time. The other fields are as in
    ``agent.contract.trial.Samples``.
    """

    caller_ns: Any
    runtime_ns: Optional[Any]
    calls_per_sample: int
    stopped_by: str
    wall_ns: int


def closed_session() -> None:
    """The ``infer`` of a session after ``close``."""
    raise RuntimeError("the session is closed")


Array = Any
"""A NumPy array; ``np.ndarray[Any, Any]`` cannot be evaluated on Python 3.8."""


Feeds = List[Dict[str, Array]]
"""One dictionary (input name → array) for each inference."""
