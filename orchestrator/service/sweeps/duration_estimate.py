"""Estimates how long trials take, from what ran on this farm before.

An estimate, not a bound: only ``limits.trial_s`` and ``limits.convert_s`` bound a trial and a
conversion. Every ended attempt counts, failed and lost ones too: they take their time as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import fmean
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from agent.statistics import MAX_DURATION
from orchestrator.domain.placement import Placement
from orchestrator.domain.spec import SweepSpec
from orchestrator.store.tables import SWEEP, Attempt, Cell, Device, Sweep, Trial

HISTORY = 1000
"""Number of latest ended attempts that are read."""

START_UP_S = 5.0
"""Assumed time for spawn, import, load and verification where there is no history."""

SAME = ("version", "target", "threads", "batch_size", "options", "format", "via", "calibration")
"""With device, model, backend and precision: what must be equal for a conversion to be cached."""
WHEN_TO_STOP = ("min_duration_s", "min_samples", "percentile", "target_relative_ci")


@dataclass(frozen=True)
class Estimate:
    """Seconds of one trial, and of the conversion that the first of a cell may need; ``basis``:
    what they rest on."""

    trial_s: float
    convert_s: float
    basis: str


@dataclass(frozen=True)
class _Seen:
    """One ended attempt. ``convert_s``: of a conversion that succeeded and was not cached."""

    trial: int
    configuration: Mapping[str, Any]
    scenario: Mapping[str, Any]
    limit_s: float
    wall_s: float
    convert_s: float
    phases: Mapping[str, Any]
    stopped_by: str
    failure: Mapping[str, Any]

    def expected_s(self, spec: SweepSpec) -> float:
        """How long it would have taken under ``spec``, without its conversion."""
        measured_s = self.phases.get("measure_s")
        rest_s = self.wall_s - self.convert_s
        if self.failure.get("kind") == "timeout" and self.failure.get("stage") != "convert":
            return max(rest_s, rest_s - self.limit_s + spec.limits.trial_s)
        if measured_s is None:
            return rest_s
        spent_s = float(measured_s) + float(self.phases.get("warm_up_s") or 0.0)
        return rest_s - spent_s + spec.scenario.warm_up_s + self._measuring_s(spec)

    def _measuring_s(self, spec: SweepSpec) -> float:
        asked, measured_s = spec.scenario, float(self.phases["measure_s"])
        same = all(self.scenario.get(key) == getattr(asked, key) for key in WHEN_TO_STOP)
        if not same or self.stopped_by == MAX_DURATION:
            return asked.max_duration_s
        return min(max(measured_s, asked.min_duration_s), asked.max_duration_s)


@dataclass
class _History:
    seen: list[_Seen] = field(default_factory=list)

    def trial_s(self, spec: SweepSpec) -> float:
        """Mean over trials of the time of all their attempts: a plan adds them up."""
        trials = {s.trial for s in self.seen}
        return sum(s.expected_s(spec) for s in self.seen) / len(trials)

    def words(self, what: str) -> str:
        failed = sum(bool(s.failure) for s in self.seen)
        trials = len({s.trial for s in self.seen})
        text = f"{trials} earlier trial{'s' if trials != 1 else ''} {what}"
        return f"{text} ({failed} of the attempts failed)" if failed else text


class Estimator:
    """Reads the history once, and then estimates cell by cell."""

    def __init__(self, session: Session) -> None:
        self._alike: dict[tuple[str, ...], _History] = {}
        self._builds: dict[tuple[str, str], list[float]] = {}
        for device, model, build_key, seen in _ended(session):
            if build_key:
                self._builds.setdefault((device, model), []).append(seen.wall_s)
                continue
            c = seen.configuration
            key = (device, model, c["backend"], c["precision"])
            self._alike.setdefault(key, _History()).seen.append(seen)

    def estimate(self, placement: Placement, spec: SweepSpec) -> Estimate:
        """One trial of a cell, by what ran of the same configuration, else of the same model,
        runtime and precision on its device, else by a guess."""
        c = placement.configuration
        alike = self._alike.get((placement.device, c.model, c.backend, c.precision))
        if alike is None:
            longest = spec.scenario.max_duration_s + spec.scenario.warm_up_s
            guess = "a guess: nothing like it has run here yet; a conversion is not counted"
            return Estimate(START_UP_S + longest, 0.0, guess)
        wanted = {**vars(c), "options": dict(c.options)}
        if placement.version:
            wanted["version"] = placement.version
        same = _History(
            [s for s in alike.seen if all(s.configuration.get(k) == wanted[k] for k in SAME)]
        )
        if same.seen and not all(s.failure for s in same.seen):
            return Estimate(same.trial_s(spec), 0.0, same.words("of this configuration"))
        found = same if same.seen else alike
        converts = [s.convert_s for s in alike.seen if s.convert_s]
        what = "of this configuration" if same.seen else "of its model, runtime and precision"
        return Estimate(found.trial_s(spec), max(converts, default=0.0), found.words(what))

    def build_s(self, builder: str, model: str) -> float | None:
        """Mean time of a model's builds on a builder; ``None`` where none was built there."""
        found = self._builds.get((builder, model))
        return fmean(found) if found else None


def _ended(session: Session) -> Iterable[tuple[str, str, str, _Seen]]:
    """Device, model, build key and attempt, of each of the latest attempts that ended."""
    rows = session.execute(
        select(
            Device.name, Cell.model, Cell.build_key, Cell.configuration, Cell.request, Trial.id,
            Attempt.result, Attempt.started_at, Attempt.ended_at,
        )
        .join(Trial, Attempt.trial_id == Trial.id)
        .join(Cell, Trial.cell_id == Cell.id)
        .join(Device, Trial.device_id == Device.id)
        .join(Sweep, Trial.sweep_id == Sweep.id)
        .where(Attempt.ended_at.is_not(None), Sweep.kind == SWEEP)
        .order_by(Attempt.ended_at.desc())
        .limit(HISTORY)
    )  # fmt: skip
    for device, model, build_key, configuration, request, trial, result, started, ended in rows:
        seen = _seen(trial, configuration, request or {}, result or {}, (started, ended))
        if seen is not None:
            yield device, model, build_key, seen


def _seen(
    trial: int,
    configuration: Mapping[str, Any],
    request: Mapping[str, Any],
    result: Mapping[str, Any],
    span: Sequence[datetime | None],
) -> _Seen | None:
    """``None``: nobody knows how long it took; it never began."""
    phases, failure = result.get("phases") or {}, result.get("failure") or {}
    started, ended = span
    wall_s = phases.get("total_s")
    if wall_s is None and started is not None and ended is not None:
        wall_s = (ended - started).total_seconds()
    if wall_s is None or failure.get("kind") in ("cancelled", "shutdown"):
        return None
    converted = not result.get("convert_cached") and failure.get("stage") != "convert"
    return _Seen(
        trial=trial,
        configuration=configuration,
        scenario=request.get("scenario") or {},
        limit_s=(request.get("limits") or {}).get("trial_s", 0.0),
        wall_s=wall_s,
        convert_s=(phases.get("convert_s") or 0.0) if converted else 0.0,
        phases=phases,
        stopped_by=(result.get("samples") or {}).get("stopped_by", ""),
        failure=failure if result else {"kind": "lost"},
    )
