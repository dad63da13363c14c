"""The table of all failure kinds, and the errors that the measured child raises.

A kind is the machine-readable word of a ``Failure`` on the wire. Kinds without an error class here
are given by the worker or by the controller (``make_failure``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Dict, Iterable, Optional

from agent.contract.trial import Failure

INPUT, DEVICE, HARNESS = "input", "device", "harness"
"""Whose fault: the model, or what the sweep asks for; the board; benchfarm itself, the network to
it, or the environments that it runs things in."""


@dataclass(frozen=True)
class FailureKind:
    """What a kind of failure means.

    ``fault``: ``INPUT``, ``DEVICE`` or ``HARNESS``. ``early_fault``: the same in the stages before
    the model and its runtime are touched; ``None``: as ``fault``. ``late_fault``: likewise in
    conversion and verification, whose length the model and its data decide. ``transient``: another
    attempt could go better; an error that knows more may say otherwise. ``status``: that of the
    result.
    ``checks_board``: the controller has the board's health checked after it.
    """

    fault: str
    transient: bool = False
    status: str = "failed"
    early_fault: Optional[str] = None
    late_fault: Optional[str] = None
    checks_board: bool = False


FAILURE_KINDS: Dict[str, FailureKind] = {
    # What was asked for cannot run: another model, spec or runtime helps.
    "unsupported": FailureKind(INPUT, status="unsupported"),
    "unsupported_format": FailureKind(INPUT, status="unsupported"),
    "unsupported_operator": FailureKind(INPUT, status="unsupported"),
    "unsupported_precision": FailureKind(INPUT, status="unsupported"),
    "unsupported_scenario": FailureKind(INPUT, status="unsupported"),
    "unsupported_shape": FailureKind(INPUT, status="unsupported"),
    "unsupported_target": FailureKind(INPUT, status="unsupported"),
    # The model, its data or the spec is wrong.
    "bad_data": FailureKind(INPUT),
    "bad_model": FailureKind(INPUT),
    "bad_option": FailureKind(INPUT),
    "bad_output": FailureKind(INPUT, status="invalid"),
    "bad_shape": FailureKind(INPUT),
    "calibration_missing": FailureKind(INPUT),
    "conversion_failed": FailureKind(INPUT),
    "off_reference": FailureKind(INPUT, status="invalid"),
    "other_network": FailureKind(INPUT),
    "trtexec": FailureKind(INPUT),
    # The board: its memory, disk, clock, power or drivers.
    "agent_died": FailureKind(DEVICE, transient=True, checks_board=True),
    "clock": FailureKind(DEVICE, status="invalid"),
    "crash": FailureKind(DEVICE, early_fault=HARNESS, checks_board=True),
    "cuda": FailureKind(DEVICE, transient=True, early_fault=HARNESS),
    "disk_full": FailureKind(DEVICE, transient=True, checks_board=True),
    "io": FailureKind(DEVICE, transient=True, early_fault=HARNESS, checks_board=True),
    "lease_lost": FailureKind(DEVICE, transient=True, status="cancelled", checks_board=True),
    "lost": FailureKind(DEVICE),
    "out_of_memory": FailureKind(DEVICE, checks_board=True),
    "timeout": FailureKind(DEVICE, early_fault=HARNESS, late_fault=INPUT, checks_board=True),
    # benchfarm itself, and the environments on the board.
    "bad_answer": FailureKind(HARNESS),
    "bad_artifact": FailureKind(HARNESS),
    "bad_request": FailureKind(HARNESS),
    "blob_corrupt": FailureKind(HARNESS, transient=True),
    "blob_missing": FailureKind(HARNESS),
    "cancelled": FailureKind(HARNESS, status="cancelled"),
    "contract": FailureKind(HARNESS),
    "converter_fault": FailureKind(HARNESS),
    "environments": FailureKind(HARNESS),
    "internal": FailureKind(HARNESS, checks_board=True),
    "runtime_missing": FailureKind(HARNESS),
    "schema": FailureKind(HARNESS),
    "shutdown": FailureKind(HARNESS, transient=True, status="cancelled"),
}
"""Every kind that this release raises. Another release may send others."""


def make_failure(stage: str, kind: str, message: str, log_tail: str = "") -> Failure:
    """A failure that is transient where its kind is. Raises ``KeyError``: there is no such kind."""
    return Failure(stage, kind, message, FAILURE_KINDS[kind].transient, log_tail)


class RunnerError(Exception):
    """The measured child gives up; becomes a ``Failure`` of ``kind``."""

    kind: ClassVar[str] = "internal"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.kind not in FAILURE_KINDS:
            raise TypeError("%s: kind %r is not in FAILURE_KINDS" % (cls.__name__, cls.kind))

    @property
    def status(self) -> str:
        """The result's status."""
        return FAILURE_KINDS[self.kind].status

    @property
    def transient(self) -> bool:
        """Whether another attempt could go better."""
        return FAILURE_KINDS[self.kind].transient


class RuntimeMissing(RunnerError):
    """The runtime, or something it needs, is not installed in this environment."""

    kind = "runtime_missing"

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__("%s; %s" % (what, remedy))


class Unsupported(RunnerError):
    """The runtime cannot run the model in this way. A result, not a fault of the farm."""

    kind = "unsupported"


class UnsupportedOperator(Unsupported):
    """The runtime has no kernel for ``operator``; with ``use``, not for this use of it."""

    kind = "unsupported_operator"

    def __init__(self, runtime: str, operator: str, detail: str = "", use: bool = False) -> None:
        super().__init__(
            "%s does not support %soperator %s%s"
            % (runtime, "this use of " if use else "", operator, ": " + detail if detail else "")
        )
        self.operator = operator


class UnsupportedShape(Unsupported):
    """The model does not take inputs of the requested shape."""

    kind = "unsupported_shape"


class UnsupportedPrecision(Unsupported):
    """The runtime does not compute in that precision here."""

    kind = "unsupported_precision"

    def __init__(self, runtime: str, precision: str, known: Iterable[str]) -> None:
        super().__init__(
            "%s does not run in %s here; it runs in %s" % (runtime, precision, listed(known))
        )


class NothingConverted(Unsupported):
    """A converter ran, and its result is the network as it was: no figure of that precision."""

    kind = "unsupported_precision"

    def __init__(self, converter: str, precision: str, operators: int, why: str = "") -> None:
        super().__init__(
            "%s made nothing of this network %s: 0 of %d operators and no weight changed%s; measure"
            " it in its own precision, or choose another converter or runtime for %s"
            % (converter, precision, operators, " (%s)" % why if why else "", precision)
        )


class UnsupportedTarget(Unsupported):
    """The runtime does not see that target on this device."""

    kind = "unsupported_target"

    def __init__(self, runtime: str, target: str, known: Iterable[str]) -> None:
        super().__init__("%s has no target %s here; it has %s" % (runtime, target, listed(known)))


class UnsupportedFormat(Unsupported):
    """The runtime does not load the model's format, and no converter leads to one that it loads."""

    kind = "unsupported_format"


class UnsupportedScenario(Unsupported):
    """The runner has no measuring loop for that scenario."""

    kind = "unsupported_scenario"


class BadShape(RunnerError):
    """A free dimension was given no size, or the given shape does not fit the model."""

    kind = "bad_shape"


class OtherNetwork(RunnerError):
    """A further file of a model does not compute the same network as the model."""

    kind = "other_network"


class BadOption(RunnerError):
    """The request holds an option, or a value of one, that the backend does not have."""

    kind = "bad_option"


class BadRequest(RunnerError):
    """The job on stdin is not one of this contract."""

    kind = "bad_request"


class BadModel(RunnerError):
    """The artifact is damaged, or is not of the declared format."""

    kind = "bad_model"


class BadData(RunnerError):
    """The reference or the data set does not fit the model."""

    kind = "bad_data"


class CalibrationMissing(RunnerError):
    """Quantising needs calibration data, and none was given."""

    kind = "calibration_missing"


class ConversionFailed(RunnerError):
    """A converter failed on this model."""

    kind = "conversion_failed"


class ConverterFault(RunnerError):
    """A converter wrote a file that its own runtime refuses. Neither the model nor the board is to
    blame: another converter, option or version helps."""

    kind = "converter_fault"

    def __init__(self, converter: str, reason: str) -> None:
        super().__init__(
            "%s wrote a file that cannot be used; the fault is the converter's, not the model's: %s"
            % (converter, reason)
        )


class BadOutput(RunnerError):
    """The network ran, but its outputs or times cannot be used, for example NaN."""

    kind = "bad_output"


class OffReference(RunnerError):
    """A converted model computes something else than its source."""

    kind = "off_reference"


class ClockError(RunnerError):
    """The clock cannot time this trial: no figure can be trusted."""

    kind = "clock"


def listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
