"""What a runtime must offer to be measured. One file of this package per runtime.

A backend file holds one class ``BACKEND`` and imports its runtime inside functions only, so that
importing the file is free and works where the runtime is missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import (
    Any,
    ClassVar,
    Collection,
    Dict,
    Mapping,
    Protocol,
    Sequence,
    Tuple,
    runtime_checkable,
)

import numpy as np

from agent.contract import Clock, Memory, Option, RuntimeRef, Scenario, TensorSpec
from agent.device_facts import RuntimeFacts, TargetFacts
from agent.graph import Node
from agent.runner.errors import (
    BadOption,
    UnsupportedPrecision,
    UnsupportedShape,
    UnsupportedTarget,
    listed,
)
from agent.runner.measure import Laps

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

    def measured(self, scenario: Scenario) -> Laps:
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


class _Offering(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def accepts(self) -> Tuple[str, ...]: ...
    @property
    def options(self) -> Options: ...


def facts_of(backend: _Offering, version: str, targets: Sequence[TargetFacts]) -> RuntimeFacts:
    """What a probe found; whoever asked knows the name of the environment."""
    return RuntimeFacts(
        backend=backend.name,
        version=version,
        environment="",
        targets=tuple(targets),
        accepts=backend.accepts,
        options=dict(backend.options),
    )


def chosen(backend: str, accepted: Options, given: Mapping[str, Option]) -> Dict[str, str]:
    """The options in force: the given ones over each option's first accepted value (an option that
    lists none accepts any text; left out, it is empty).

    Raises:
        BadOption: an unknown key or value; the message says what would be accepted.
    """
    found = {key: values[0] if values else "" for key, values in accepted.items()}
    for key, value in given.items():
        if key not in accepted:
            raise BadOption(
                "%s has no option %r; it has %s" % (backend, key, listed(sorted(accepted)))
            )
        found[key] = _text(value, accepted[key])
        if accepted[key] and found[key] not in accepted[key]:
            raise BadOption(
                "%s option %s is %r; it accepts %s" % (backend, key, value, listed(accepted[key]))
            )
    return found


def _text(value: Option, accepted: Sequence[str]) -> str:
    """YAML reads ``on`` and ``off`` as booleans: they are meant as written."""
    if isinstance(value, bool):
        return ("on" if value else "off") if "on" in accepted else str(value).lower()
    return str(value)


def require_target(backend: str, target: str, known: Collection[str]) -> None:
    """Raises ``UnsupportedTarget`` where ``target`` is not among ``known``."""
    if target not in known:
        raise UnsupportedTarget(backend, target, known)


def require_precision(backend: str, precision: str, known: Sequence[str]) -> None:
    """Raises ``UnsupportedPrecision`` where ``precision`` is not among ``known``."""
    if precision not in known:
        raise UnsupportedPrecision(backend, precision, known)


def require_shapes(wanted: Sequence[TensorSpec], has: Sequence[TensorSpec]) -> None:
    """Every wanted input exists in the model and fits it (-1 fits all), and none is left out.

    Raises:
        UnsupportedShape: names the input, the model's shape and the one asked for.
    """
    by_name = {spec.name: spec for spec in has}
    if {spec.name for spec in wanted} != set(by_name):
        raise UnsupportedShape(
            "the model's inputs are %s; asked for %s"
            % (listed(sorted(by_name)), listed(sorted(spec.name for spec in wanted)))
        )
    for spec in wanted:
        found = by_name[spec.name].shape
        if not fits(spec.shape, found):
            raise UnsupportedShape(
                "input %s: the model takes %s, asked for %s"
                % (spec.name, shown(found), shown(spec.shape))
            )


def fits(shape: Sequence[int], model: Sequence[int]) -> bool:
    pairs = zip(shape, model)  # noqa: B905 - strict= is newer than 3.8
    return len(shape) == len(model) and all(m in (-1, d) for d, m in pairs)


def shown(shape: Sequence[int]) -> str:
    return "[%s]" % ", ".join("free" if d == -1 else str(d) for d in shape)


class HostBuffers:
    """The input arrays that a session runs on: made at the first bind, overwritten by the next,
    so that addresses given to a runtime stay good."""

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self.arrays: Dict[str, "np.ndarray[Any, Any]"] = {}

    def fill(self, feed: Feed) -> bool:
        """Copy ``feed`` in. True where the arrays are new, so must be given to the runtime.

        Raises:
            UnsupportedShape: a name, shape or element type that the session does not have.
        """
        given = [TensorSpec(name, str(a.dtype), a.shape) for name, a in feed.items()]
        require_shapes(given, list(self._specs.values()))
        for spec in given:
            if spec.dtype != self._specs[spec.name].dtype:
                raise UnsupportedShape(
                    "input %s is %s; the model takes %s"
                    % (spec.name, spec.dtype, self._specs[spec.name].dtype)
                )
        fresh = any(
            name not in self.arrays or self.arrays[name].shape != array.shape
            for name, array in feed.items()
        )
        for name, array in feed.items():
            if fresh:
                self.arrays[name] = np.array(array, order="C", copy=True)
            else:
                np.copyto(self.arrays[name], array)
        return fresh
