"""What a runtime must offer to be measured. One file of this package per runtime.

A backend file holds one class ``BACKEND`` and imports its runtime inside functions only, so that
importing the file is free and works where the runtime is missing.
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
from agent.contract.trial import Clock, Memory, RuntimeRef, Scenario, TensorSpec

Feed = Mapping[str, "np.ndarray[Any, Any]"]
Wants = Mapping[str, Tuple[Node, ...]]
Options = Mapping[str, Tuple[str, ...]]


class Session(Protocol):
    """A loaded model. ``inputs`` and ``outputs`` have the shapes that it runs with; -1 is free."""

    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    placement: str
    """Where and how it really runs, in the runtime's own words."""

    def bind(self, feed: Feed) -> None:
        """Copy host arrays in, once. Raises ``UnsupportedShape`` where they do not fit."""

    def infer(self) -> None:
        """One inference on what is bound; returns when the device has finished."""

    def read(self) -> Dict[str, "np.ndarray[Any, Any]"]:
        """Copies of the last inference's outputs."""

    def close(self) -> None:
        """Give everything back; the session is of no use after it."""


@runtime_checkable
class OwnLatency(Protocol):
    """A session whose runtime reports the latency of its last inference itself."""

    def own_latency_ns(self) -> int: ...


class RequestQueue(Protocol):
    """Requests on what is bound, ``depth`` of them in flight at most."""

    @property
    def depth(self) -> int: ...

    @property
    def caller_ns(self) -> Sequence[int]:
        """From a request's start to its end as the caller sees it, in the order of the ends."""

    @property
    def runtime_ns(self) -> Sequence[int]:
        """The same as the runtime reports it; empty where it does not."""

    def submit(self) -> None:
        """Start a request; waits while ``depth`` are in flight."""

    def drain(self) -> None:
        """Wait for all. Raises what a request raised."""


@runtime_checkable
class AsyncThroughput(Protocol):
    """A session that runs several requests at a time."""

    def request_queue(self) -> RequestQueue:
        """A new queue whose requests read what is bound now."""


@runtime_checkable
class SelfMeasured(Protocol):
    """A session whose tool loads the model and runs the timed loop itself, in its own process and
    by its own clock. Each ``infer`` starts that tool, so it is for verifying, never for timing."""

    clock: Clock

    def measured(self, scenario: Scenario) -> RawSamples:
        """Warm up and measure what is bound. Raises ``UnsupportedScenario``, ``BadOutput``."""

    def tool_memory(self) -> Memory:
        """Peak memory of the tool in the last ``measured``."""


class Backend(Protocol):
    """``accepts``: source formats, given directly or through a converter. ``wants``: for each
    precision, the artifacts that it loads for it, best first. ``options``: what each accepts."""

    name: ClassVar[str]
    accepts: ClassVar[Tuple[str, ...]]
    wants: ClassVar[Wants]
    options: ClassVar[Options]

    def import_runtime(self) -> str:
        """Import the runtime; its version. Raises ``RuntimeMissing``."""

    def probe(self) -> RuntimeFacts:
        """Version, targets, precisions per target. Raises ``RuntimeMissing``."""

    def load(
        self, artifact: Path, runtime: RuntimeRef, inputs: Sequence[TensorSpec] = ()
    ) -> Session:
        """Make ``artifact`` ready to run on ``inputs`` of fixed shapes (none: the file's own).

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


Array = Any
"""A NumPy array; ``np.ndarray[Any, Any]`` cannot be written at run time on Python 3.8."""


Feeds = List[Dict[str, Array]]
