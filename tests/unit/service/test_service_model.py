"""The services against an adversary, with and without health checks."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, ClassVar

import hypothesis
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import rule
from sqlalchemy import select

from orchestrator.domain.errors import UserError
from orchestrator.domain.health import BAD_AFTER, ILL, Health
from orchestrator.domain.trial import FINAL, TrialState
from orchestrator.service.health import health_checks
from orchestrator.store.tables import HEALTH, Attempt, Device, HealthCheck, Sweep, Trial
from support.adversary import EVERYBODY, TURN, Adversary

Said = tuple[object, ...]


class CheckedAdversary(Adversary):
    """Adds boards that become ill, go into maintenance, and recover."""

    settings: ClassVar[dict[str, Any]] = {"health_retry_s": 20, "cell_failures": 2}

    def __init__(self) -> None:
        super().__init__()
        self.verdicts: dict[int, Said] = {}
        self.measuring: set[str] = set()

    @rule(name=st.sampled_from(EVERYBODY), on=st.booleans())
    def maintain(self, name: str, on: bool) -> None:
        with contextlib.suppress(UserError):
            health_checks.set_maintenance(self.farm, name, on)

    @rule(name=st.sampled_from(EVERYBODY))
    def ask(self, name: str) -> None:
        with contextlib.suppress(UserError):
            first = health_checks.request_check(self.farm, name)
            assert first.ended_at is None
            assert health_checks.request_check(self.farm, name).id == first.id, (
                "one that is open was asked for"
            )

    @rule(device=TURN)
    def fall_ill(self, device: int) -> None:
        """The next checks of a device fail, if doorbells reach it."""
        number = self._there(device)
        for _ in range(BAD_AFTER):
            self._behave(number, "ok")
            self._checks_hold()
            self.ask(self._name(number))
            self._checks_hold()
            self._behave(number, "wrong")

    def _start(self, device: int, attempt: str) -> None:
        self._checks_hold()  # a rule of several steps is looked at after each
        super()._start(device, attempt)

    def _finish(self, device: int, attempt: str, status: str) -> None:
        self._checks_hold()
        super()._finish(device, attempt, status)

    def _name(self, device: int) -> str:
        return next(name for name, number in self.devices.items() if number == device)

    def everything_holds(self) -> None:
        super().everything_holds()
        self._checks_hold()

    def _checks_hold(self) -> None:
        with self.farm.database.read_session() as session:
            checks = session.scalars(select(HealthCheck)).all()
            devices = session.scalars(select(Device)).all()
            hidden = select(Sweep.id).where(Sweep.kind == HEALTH)
            trials = session.scalars(select(Trial).where(Trial.sweep_id.in_(hidden))).all()
            others = session.scalars(
                select(Attempt).join(Trial).where(Trial.sweep_id.not_in(hidden))
            ).all()
        states = {t.id: TrialState(t.state) for t in trials}
        ran = [c.trial_id for c in checks if c.trial_id is not None]
        assert sorted(ran) == sorted(states), "each trial is one check's"
        waiting = [c.device_id for c in checks if c.ended_at is None]
        assert len(set(waiting)) == len(waiting), "one open check a device"
        self._judged_once(checks, states)
        for device in devices:
            bad = device.checks_failed >= BAD_AFTER
            assert (device.health == Health.BAD) == bad or device.health == Health.MAINTENANCE
        # a claim is the last thing that a step does
        new = {a.device_id for a in others if a.id not in self.measuring}
        barred = {d.id for d in devices if d.health in ILL} | set(waiting)
        assert not new & barred, "whoever is ill, or has a check before it, gets nothing else"
        self.measuring = {a.id for a in others}

    def _judged_once(self, checks: Sequence[HealthCheck], states: dict[int, TrialState]) -> None:
        said: dict[int, Said] = {}
        for check in checks:
            if check.ended_at is None:
                assert check.id not in self.verdicts, "what was judged stays judged"
                assert check.ok is None
                continue
            said[check.id] = (check.ended_at, check.ok, *check.reasons)
            assert self.verdicts.get(check.id, said[check.id]) == said[check.id]
            assert (check.ok is True) == (not check.reasons)
            if check.trial_id is not None:
                assert states[check.trial_id] in FINAL
        self.verdicts = said

    def _everything_ends(self) -> None:
        for name in EVERYBODY:
            with contextlib.suppress(UserError):
                health_checks.set_maintenance(self.farm, name, False)
        super()._everything_ends()

    def _at_rest(self) -> bool:
        with self.farm.database.read_session() as session:
            ill = session.scalar(select(Device.id).where(Device.health.in_(ILL)))
        return super()._at_rest() and ill is None


SETTINGS = hypothesis.settings(
    stateful_step_count=60,
    deadline=None,
    report_multiple_bugs=False,
    # sixty steps shrink for minutes; add Phase.shrink by hand to read a failure
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
Adversary.TestCase.settings = hypothesis.settings(SETTINGS, max_examples=25)
CheckedAdversary.TestCase.settings = hypothesis.settings(SETTINGS, max_examples=15)
TestAdversary = Adversary.TestCase
TestCheckedAdversary = CheckedAdversary.TestCase
