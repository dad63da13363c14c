"""Health checks of boards: what a check runs, how it is judged, and the board's next state. Pure.

A check is a trial of a tiny model with known outputs (the canary). Its result and the board's
vitals are a reading; a reading and the board's history give a verdict; a verdict and the current
state give the next state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import median

from agent.contract.conversion_graph import Node
from agent.contract.device import DeviceFacts, RuntimeFacts
from agent.contract.failures import FAILURE_KINDS
from agent.contract.trial import Failure
from orchestrator.domain.device_class import HealthPolicy
from orchestrator.domain.failure_cause import Fault, whose
from orchestrator.domain.matrix import Configuration
from orchestrator.domain.placement import PlacementDevice, PlacementModel, place

MODEL = "health-check"
SOURCES: tuple[Node, ...] = (("onnx", "fp32"), ("tflite", "fp32"))
PRECISION = "fp32"
MIN_COSINE = 0.9999
"""Cosine similarity of the canary's outputs: matrix products in tf32 or bfloat16 pass, a broken
kernel does not."""

BAD_AFTER = 2
"""Consecutive failed checks that quarantine a board."""
HISTORY = 20
"""Number of latest good checks that a canary's latency is compared with."""
ENOUGH = 3
"""The smallest number of checks that makes a history."""
SLOWEST = 2.0
"""A canary may take this multiple of the history's median, however small the scatter is."""
DEVIATIONS = 8.0
"""Or this number of median absolute deviations above the median, whichever is more."""
SKEW_LIMIT_S = 30.0
"""The same limit as in ``benchfarm-agent doctor``."""


class Health(StrEnum):
    """``bad`` is quarantined: it gets health checks only. ``maintenance`` is set by a person."""

    UNKNOWN = "unknown"
    GOOD = "good"
    BAD = "bad"
    MAINTENANCE = "maintenance"


ILL = frozenset({Health.BAD, Health.MAINTENANCE})
"""States in which a device gets health checks only."""


class CheckReason(StrEnum):
    """Why a check is made. ``before sweep`` is followed by the sweep's name."""

    REGISTRATION = "registration"
    SCHEDULE = "schedule"
    BEFORE_SWEEP = "before sweep"
    AFTER_FAILURE = "after failure"
    AFTER_MAINTENANCE = "after maintenance"
    ASKED = "asked for"


@dataclass(frozen=True)
class CheckConfiguration:
    """What a check runs: a runtime's version, on its first target, loading ``format``."""

    backend: str
    version: str
    target: str
    format: str

    def __str__(self) -> str:
        return f"{self.backend} {self.version} on {self.target}"


def choose(policy: HealthPolicy, facts: DeviceFacts) -> CheckConfiguration | None:
    """The policy's runtime if it can run the model, else the first that loads one of its files
    unconverted, else the first for which the board can convert one; ``None``: there is none."""
    answering = [r for r in facts.runtimes if not r.missing]
    order = sorted(
        answering,
        key=lambda r: (r.backend != policy.backend, not set(SOURCES) & set(_wants(r))),
    )
    return next((found for r in order if (found := _chosen(facts, r)) is not None), None)


def _wants(runtime: RuntimeFacts) -> tuple[Node, ...]:
    return runtime.wants.get(PRECISION, ())


def _chosen(facts: DeviceFacts, runtime: RuntimeFacts) -> CheckConfiguration | None:
    targets = (t.name for t in runtime.targets if PRECISION in (t.runs or t.precisions))
    target = next(targets, "")
    device = PlacementDevice("", {}, True, (runtime,), facts.tools, facts.machine)
    wanted = Configuration(MODEL, runtime.backend, runtime.version, target, PRECISION, 0, 1)
    placed = place(device, wanted, PlacementModel(MODEL, SOURCES, False, False))
    if placed.skip:
        return None
    return CheckConfiguration(runtime.backend, runtime.version, target, placed.format)


NO_RUNTIME = "no runtime of this board takes the check's model (ONNX or TFLite, fp32)"


@dataclass(frozen=True)
class CheckReading:
    """The data of one check; ``None``: not measured or not reported.

    ``status`` and ``failure`` are the trial's; ``lost``: its lease ran out. ``clock_skew_s``: the
    board's clock minus the controller's; ``usual_skew_s``: the median over all boards.
    """

    status: str = "ok"
    failure: Failure | None = None
    lost: bool = False
    outputs_right: bool | None = None
    latency_ms: float | None = None
    temperature_c: float | None = None
    storage_free_mib: float | None = None
    clock_skew_s: float | None = None
    usual_skew_s: float = 0.0


@dataclass(frozen=True)
class CheckVerdict:
    """``ok`` is ``None`` if the check says nothing about the board; ``again``: it must be repeated.
    ``reasons`` are text for people; empty if the board is good."""

    ok: bool | None
    reasons: tuple[str, ...] = ()
    again: bool = False


def judge(policy: HealthPolicy, reading: CheckReading, history: Sequence[float]) -> CheckVerdict:
    """The verdict on a board.

    Args:
        history: latencies, in ms, of the canary in the board's last good checks with this runtime.
    """
    if reading.status == "cancelled" and not reading.lost:
        return CheckVerdict(None, again=True)
    if reading.status == "unsupported":
        return CheckVerdict(None, (f"{NO_RUNTIME}: {_failure_text(reading.failure)}",))
    reasons = [*_failure_reasons(reading), *_slow_reasons(policy, reading.latency_ms, history)]
    reasons += _vital_reasons(policy, reading)
    return CheckVerdict(not reasons, tuple(reasons))


def _failure_reasons(reading: CheckReading) -> list[str]:
    if reading.lost:
        return ["the board fell silent during the check: its lease ran out"]
    if reading.status != "ok":
        return [f"the check did not run to its end: {_failure_text(reading.failure)}"]
    return [] if reading.outputs_right else ["its outputs are wrong: not what the model computes"]


def _failure_text(failure: Failure | None) -> str:
    return f"{failure.stage}: {failure.kind}: {failure.message}" if failure else "it says no more"


def _slow_reasons(
    policy: HealthPolicy, latency_ms: float | None, history: Sequence[float]
) -> list[str]:
    if latency_ms is None:
        return []
    limit = policy.max_latency_ms
    if limit is not None and latency_ms > limit:
        return [f"its canary took {latency_ms:.3g} ms, over the class's limit of {limit:g} ms"]
    longest = band_ms(history)
    if longest is None or latency_ms <= longest:
        return []
    usual = median(history)
    return [f"its canary took {latency_ms:.3g} ms, against {usual:.3g} ms in its good checks"]


def band_ms(history: Sequence[float]) -> float | None:
    """The longest acceptable latency, in ms: twice the history's median, or the median plus eight
    median absolute deviations, whichever is more. ``None``: the history is too short."""
    latest = history[:HISTORY]
    if len(latest) < ENOUGH:
        return None
    middle = median(latest)
    deviation = median(abs(value - middle) for value in latest)
    return max(SLOWEST * middle, middle + DEVIATIONS * deviation)


def _vital_reasons(policy: HealthPolicy, reading: CheckReading) -> list[str]:
    reasons = []
    hot, free, skew = reading.temperature_c, reading.storage_free_mib, reading.clock_skew_s
    if hot is not None and hot > policy.max_temperature_c:
        reasons.append(f"it is at {hot:.0f} °C, over {policy.max_temperature_c:g} °C")
    if free is not None and free < policy.min_free_mib:
        reasons.append(f"{free:.0f} MiB are free on its disk, under {policy.min_free_mib:g} MiB")
    # if most boards have the same skew, the controller's clock is wrong
    if skew is not None and min(abs(skew), abs(skew - reading.usual_skew_s)) > SKEW_LIMIT_S:
        side = "ahead of" if skew > 0 else "behind"
        reasons.append(f"its clock is {abs(skew):.0f} s {side} the controller's")
    return reasons


def usual_skew_s(skews: Sequence[float]) -> float:
    """Median skew of all boards' clocks; 0 if there are too few to tell whose clock is wrong."""
    return median(skews) if len(skews) >= ENOUGH else 0.0


@dataclass(frozen=True)
class HealthState:
    """A device's health, and its number of consecutive failed checks."""

    health: Health = Health.UNKNOWN
    failed: int = 0

    def after(self, verdict: CheckVerdict) -> HealthState:
        """The state after a verdict. In maintenance, failed checks are only counted."""
        if verdict.ok is None:
            nothing_known = self.health is Health.GOOD and not verdict.again
            return replace(self, health=Health.UNKNOWN) if nothing_known else self
        failed = 0 if verdict.ok else self.failed + 1
        if self.health is Health.MAINTENANCE:
            return HealthState(self.health, failed)
        if verdict.ok:
            return HealthState(Health.GOOD)
        return HealthState(Health.BAD if failed >= BAD_AFTER else self.health, failed)

    def maintained(self, on: bool) -> HealthState:
        """The state after maintenance is set or ended; then the health is unknown."""
        if on:
            return replace(self, health=Health.MAINTENANCE)
        return HealthState() if self.health is Health.MAINTENANCE else self


def may_be_the_board(failure: Failure | None) -> bool:
    """Whether a trial's failure may be the board's own fault, not the model's or the runtime's."""
    kind = FAILURE_KINDS.get(failure.kind) if failure else None
    if failure is None or kind is None:
        return False
    return kind.checks_board and whose(failure) is not Fault.INPUT
