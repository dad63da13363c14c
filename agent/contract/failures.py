"""Why a job of the child gave no figure, by name; each becomes a ``Failure``."""

from __future__ import annotations

from typing import Iterable


class RunnerError(Exception):
    """``kind`` and ``transient`` become the failure's; ``status`` becomes the result's."""

    kind = "internal"
    status = "failed"
    transient = False


class RuntimeMissing(RunnerError):
    """The runtime, or something it needs, is not installed in this environment."""

    kind = "runtime_missing"

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__("%s; %s" % (what, remedy))


class Unsupported(RunnerError):
    """This runtime cannot run that model so: a result, not an error."""

    kind = "unsupported"
    status = "unsupported"


class UnsupportedOperator(Unsupported):
    """The runtime has no kernel for ``operator``."""

    kind = "unsupported_operator"

    def __init__(self, runtime: str, operator: str, detail: str = "") -> None:
        super().__init__(
            "%s does not support operator %s%s"
            % (runtime, operator, ": " + detail if detail else "")
        )
        self.operator = operator


class UnsupportedShape(Unsupported):
    """The model does not take inputs of the shape that was asked for."""

    kind = "unsupported_shape"


class UnsupportedPrecision(Unsupported):
    """The runtime does not compute in that precision here."""

    kind = "unsupported_precision"

    def __init__(self, runtime: str, precision: str, known: Iterable[str]) -> None:
        super().__init__(
            "%s does not run in %s here; it runs in %s" % (runtime, precision, listed(known))
        )


class UnsupportedTarget(Unsupported):
    """The runtime does not see that target on this device."""

    kind = "unsupported_target"

    def __init__(self, runtime: str, target: str, known: Iterable[str]) -> None:
        super().__init__("%s has no target %s here; it has %s" % (runtime, target, listed(known)))


class UnsupportedFormat(Unsupported):
    """Neither the runtime nor any converter leads from the model's format to what is wanted."""

    kind = "unsupported_format"


class UnsupportedScenario(Unsupported):
    """The measuring code has no loop for that kind of load."""

    kind = "unsupported_scenario"


class BadShape(RunnerError):
    """A free shape was not given a size, or what was given does not fit the model."""

    kind = "bad_shape"


class OtherNetwork(RunnerError):
    """A file that joins a model does not compute what the model computes."""

    kind = "other_network"


class BadOption(RunnerError):
    """The user's request holds an option, key or value, that this backend does not have."""

    kind = "bad_option"


class BadRequest(RunnerError):
    """The job on stdin is not one of this contract."""

    kind = "bad_request"


class BadModel(RunnerError):
    """The artifact is damaged, or is not of the format that it is said to be."""

    kind = "bad_model"


class BadData(RunnerError):
    """The reference or the data set does not fit the model."""

    kind = "bad_data"


class CalibrationMissing(RunnerError):
    """Quantising needs calibration data, and none was given."""

    kind = "calibration_missing"


class ConversionFailed(RunnerError):
    """A converter gave up on this model."""

    kind = "conversion_failed"


class BadOutput(RunnerError):
    """The network ran, but its outputs are no numbers or not of the reference's shape."""

    kind = "bad_output"
    status = "invalid"


class OffReference(RunnerError):
    """What a conversion made computes something else than its source."""

    kind = "off_reference"
    status = "invalid"


class ClockError(RunnerError):
    """The clock cannot time this: no figure of this trial can be trusted."""

    kind = "clock"
    status = "invalid"


def listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
