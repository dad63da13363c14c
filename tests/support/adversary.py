"""The services against an adversary: messages reordered, duplicated, late or of other devices,
jumps of the clock, boards that join and leave, sweeps that are deleted."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from sqlalchemy import ColumnElement, Connection, select

from agent.contract.trial import Built, TrialResult
from orchestrator.domain.errors import NotFound, Superseded, UnknownAttempt, UserError
from orchestrator.domain.trial import FINAL, OUTSTANDING, RESUMABLE, TrialState
from orchestrator.service.context import FarmContext
from orchestrator.service.devices import devices as fleet
from orchestrator.service.devices import retirement
from orchestrator.service.scheduling import dispatch, ingest, scheduler
from orchestrator.service.sweeps import progress, retention, sweeps
from orchestrator.settings import Settings
from orchestrator.store.blobs import FolderBlobs
from orchestrator.store.database import Database
from orchestrator.store.tables import HEALTH, Attempt, Cell, Device, Sweep, Trial
from support import farms
from support.farms import TOOLS, Clock, DoorbellRecorder, FarmKit, device_facts, judged
from support.inspectors import inspect
from support.references import reference

BOARDS = ("b0", "b1", "b2")
BUILDER = "builder"
EVERYBODY = (*BOARDS, BUILDER)
INT8 = "[{backend: openvino, precision: int8}]"
"""A format that the boards' runtime loads and only the builder can make."""
RUNTIMES = ("[{backend: onnxruntime}]", INT8, "[{backend: onnxruntime}, {backend: openvino}]")
STATUSES = ("ok", "wrong", "failed", "transient", "unsupported", "invalid", "cancelled")
"""``wrong``: status ok, but a health check's outputs differ from the reference."""
SAMPLES = (1000, 1100, 1050)
TURN = st.integers(0, len(EVERYBODY) - 1)
"""Index of a joined device."""


@cache
def _template() -> tuple[tempfile.TemporaryDirectory[str], bytes]:
    """A farm with a model, three boards and a builder: the bytes of its database, and its
    folder."""
    folder = tempfile.TemporaryDirectory(prefix="benchfarm-model-")
    kit = farms.build(Path(folder.name))
    kit.add_model()
    for name in EVERYBODY:
        enrol(kit, name)
    kit.ok("", SAMPLES)
    with kit.farm.database.engine.connect() as connection:
        image = _driver(connection).serialize()
    kit.farm.database.close()
    # bytes 18 and 19: write-ahead log or not (https://www.sqlite.org/fileformat2.html); in memory
    # there is none
    return folder, image[:18] + b"\x01\x01" + image[20:]


def enrol(kit: FarmKit, name: str) -> None:
    if name == BUILDER:
        kit.enrol(name, builder="yes")
    else:
        bare = tuple(replace(tool, missing=("nncf",)) for tool in TOOLS)
        kit.enrol(name, replace(device_facts(name), tools=bare))


def _driver(connection: Connection):  # type: ignore[no-untyped-def]
    return connection.connection.driver_connection


@contextlib.contextmanager
def fresh(given: dict[str, Any]) -> Iterator[FarmKit]:
    """The template's farm with an in-memory database. ``given``: settings."""
    folder, image = _template()
    home = Path(folder.name)
    database = Database("sqlite://")
    with database.engine.connect() as connection:
        connection.rollback()
        _driver(connection).deserialize(image)
    clock, doorbells = Clock(), DoorbellRecorder()
    settings = Settings(home=home, max_upload_bytes=1 << 20, **given)
    farm = FarmContext(
        settings, database, FolderBlobs(home / "blobs"), doorbells, reference, clock, inspect
    )
    try:
        yield FarmKit(farm, clock, doorbells)
    finally:
        database.close()


def _is_permanent(attempt: Attempt) -> bool:
    failure = (attempt.result or {}).get("failure") or {}
    return (attempt.result or {}).get("status") == "failed" and not failure["transient"]


class Adversary(RuleBasedStateMachine):
    """Boards, people and a broker that do anything at any time; checks the invariants.

    ``devices``: the joined ones. ``acknowledged``: attempts whose results boards may delete.
    """

    settings: ClassVar[dict[str, Any]] = {"health_every_s": 0, "cell_failures": 2}

    attempts = Bundle("attempts")
    names = Bundle("names")

    def __init__(self) -> None:
        super().__init__()
        self._stack = contextlib.ExitStack()
        self.kit = self._stack.enter_context(fresh(self.settings))
        self.farm = self.kit.farm
        self.devices = {name: self.kit.device_id(name) for name in EVERYBODY}
        self.acknowledged: dict[str, TrialResult] = {}
        self.seen: dict[int, tuple[str, int]] = {}
        self.resumed: set[int] = set()
        self.sweeps = 0

    def teardown(self) -> None:
        try:
            self._everything_ends()
        finally:
            self._stack.close()

    # --- people

    @initialize(target=names)
    def begin(self) -> str:
        for device in self.devices.values():
            self.kit.beat(device)
        return self._submit(3, 2, RUNTIMES[0])

    @precondition(lambda self: self.sweeps < 3)
    @rule(
        target=names,
        trials=st.integers(1, 3),
        attempts=st.integers(1, 3),
        runtimes=st.sampled_from(RUNTIMES),
    )
    def submit(self, trials: int, attempts: int, runtimes: str) -> str:
        return self._submit(trials, attempts, runtimes)

    def _submit(self, trials: int, attempts: int, runtimes: str) -> str:
        name = f"s{self.sweeps}"
        devices = f"{{names: [{', '.join(BOARDS)}]}}"
        model = "{name: dense, calibration: random}" if runtimes == INT8 else "dense"
        with contextlib.suppress(UserError):  # no builder is online now: nothing to run
            self.kit.submit(name, trials, attempts, runtimes=runtimes, devices=devices, model=model)
        self.sweeps += 1
        return name

    @rule(name=names)
    def cancel(self, name: str) -> None:
        with contextlib.suppress(UserError):
            sweeps.cancel(self.farm, name)

    @rule(name=names)
    def resume(self, name: str) -> None:
        with contextlib.suppress(UserError):
            before = {t.id for t in self.kit.trials() if TrialState(t.state) in RESUMABLE}
            sweeps.resume(self.farm, name)
            self.resumed |= before

    @rule(name=st.sampled_from(BOARDS), enabled=st.booleans())
    def enable(self, name: str, enabled: bool) -> None:
        with contextlib.suppress(NotFound):  # retired, and nothing of it was kept
            fleet.set_enabled(self.farm, name, enabled)

    @rule(name=names)
    def delete(self, name: str) -> None:
        gone = self._attempts_of(Sweep.name == name)
        with contextlib.suppress(UserError):
            retention.delete_sweep(self.farm, name)
            self._forget(gone)

    @rule(name=st.sampled_from(EVERYBODY))
    def retire_or_join(self, name: str) -> None:
        if name not in self.devices:
            self._join(name)
        elif len(self.devices) > 1:
            hidden = (Attempt.device_id == self.devices.pop(name), Sweep.kind == HEALTH)
            gone = self._attempts_of(*hidden)
            retirement.retire(self.farm, name)
            self._forget(gone)

    def _join(self, name: str) -> None:
        enrol(self.kit, name)
        self.devices[name] = self.kit.device_id(name)

    def _attempts_of(self, *which: ColumnElement[bool]) -> list[str]:
        with self.farm.database.read_session() as session:
            query = select(Attempt.id).join(Trial, Attempt.trial_id == Trial.id)
            return list(
                session.scalars(query.join(Sweep, Trial.sweep_id == Sweep.id).where(*which))
            )

    def _forget(self, gone: Iterable[str]) -> None:
        for attempt in gone:
            self.acknowledged.pop(attempt, None)

    # --- time, the broker, the scheduler

    @rule(seconds=st.sampled_from([0.1, 2.0, 5.0, 14.0, 29.0, 31.0, 3600.0]))
    def advance(self, seconds: float) -> None:
        self.kit.clock.advance(seconds)

    @rule(broken=st.booleans())
    def break_the_bell(self, broken: bool) -> None:
        self.kit.doorbells.error = OSError("the broker is away") if broken else None

    @rule()
    def tick(self) -> None:
        scheduler.tick(self.farm)

    @rule(device=TURN)
    def dispatch(self, device: int) -> None:
        dispatch.dispatch(self.farm, self._there(device))

    # --- boards

    @rule(
        target=attempts, turn=st.integers(0, 10_000), made_up=st.sampled_from([False] * 9 + [True])
    )
    def doorbell(self, turn: int, made_up: bool) -> str:
        """Any attempt that ever existed: messages are late, duplicated and out of order."""
        known = [attempt.id for attempt in self.kit.attempts()]
        if made_up or not known:
            return "0" * 32
        return known[-1 - turn % min(len(known), 6)]

    @rule(device=TURN, says=attempts, idle=st.booleans())
    def beat(self, device: int, says: str, idle: bool) -> None:
        answer = self.kit.beat(self._there(device), "" if idle else says)
        if not idle:
            assert answer.renewed != answer.cancel
            assert answer.renewed == self._holds(self._there(device), says)

    @rule(device=TURN, attempt=attempts)
    def start(self, device: int, attempt: str) -> None:
        self._start(self._there(device), attempt)

    @rule(attempt=attempts)
    def start_as_rung(self, attempt: str) -> None:
        self._start(self._owner(attempt), attempt)

    def _start(self, device: int, attempt: str) -> None:
        holds = self._holds(device, attempt)
        try:
            started = ingest.start_attempt(self.farm, device, attempt)
        except (UnknownAttempt, Superseded):
            assert not holds
        else:
            assert holds
            assert started.request.attempt_id == attempt

    @rule(attempt=attempts, status=st.sampled_from(STATUSES))
    def finish(self, attempt: str, status: str) -> None:
        self._finish(self._owner(attempt), attempt, status)

    @rule(device=TURN, status=st.sampled_from(STATUSES))
    def behave(self, device: int, status: str) -> None:
        """The usual case: a board starts and ends the attempt that it has."""
        self._behave(self._there(device), status)

    @rule(device=TURN, times=st.integers(2, 4))
    def crash_on_end(self, device: int, times: int) -> None:
        """A model that crashes its process every time."""
        number = self._there(device)
        for _ in range(times):
            self._behave(number, "failed")
            self.everything_holds()

    def _behave(self, number: int, status: str) -> None:
        self.kit.beat(number)
        for held in self._held(number):
            self._start(number, held)
            self._finish(number, held, status)

    @rule(
        device=TURN,
        attempt=attempts,
        status=st.sampled_from(STATUSES),
    )
    def finish_anothers(self, device: int, attempt: str, status: str) -> None:
        self._finish(self._there(device), attempt, status)

    @rule(attempt=attempts)
    def deliver_again(self, attempt: str) -> None:
        if attempt in self.acknowledged:
            self.kit.give(self._owner(attempt), self.acknowledged[attempt])

    def _finish(self, device: int, attempt: str, status: str) -> None:
        holds = self._holds(device, attempt)
        known = attempt in self.acknowledged and device == self._owner(attempt)
        given = self._result(attempt, status)
        try:
            self.kit.give(device, given)
        except (UnknownAttempt, Superseded):
            assert not holds
            assert not known
        except UserError:  # a build that says invalid
            assert status == "invalid"
        else:
            assert holds or known
            self.acknowledged.setdefault(attempt, given)

    def _result(self, attempt: str, status: str) -> TrialResult:
        if status in ("ok", "wrong") and self._checks(attempt):
            return judged(self.kit.ok(attempt, SAMPLES), right=status == "ok")
        status = "ok" if status == "wrong" else status
        if status == "ok" and self._builds(attempt):
            content = b"PK quantised"
            built = Built("openvino_ir", "int8", self.farm.blobs.put(content), len(content))
            return replace(self.kit.ok(attempt, SAMPLES), samples=None, built=built)
        if status == "ok":
            return self.kit.ok(attempt, SAMPLES)
        if status == "unsupported":
            return farms.unsupported(attempt)
        if status == "transient":
            return farms.failed(attempt, transient=True)
        return farms.failed(attempt, status=status)

    # --- queries of the test

    def _there(self, turn: int) -> int:
        return list(self.devices.values())[turn % len(self.devices)]

    def _attempt(self, attempt: str) -> Attempt | None:
        with self.farm.database.read_session() as session:
            return session.get(Attempt, attempt)

    def _owner(self, attempt: str) -> int:
        found = self._attempt(attempt)
        return found.device_id if found else self._there(0)

    def _checks(self, attempt: str) -> bool:
        return bool(self._attempts_of(Attempt.id == attempt, Sweep.kind == HEALTH))

    def _builds(self, attempt: str) -> bool:
        with self.farm.database.read_session() as session:
            query = select(Cell.build_key).join(Trial, Trial.cell_id == Cell.id)
            key = session.scalar(
                query.join(Attempt, Attempt.trial_id == Trial.id).where(Attempt.id == attempt)
            )
            return bool(key)

    def _holds(self, device: int, attempt: str) -> bool:
        """Whether the attempt is its trial's last one and the trial has not ended."""
        with self.farm.database.read_session() as session:
            found = session.get(Attempt, attempt)
            if found is None or found.device_id != device:
                return False
            trial = session.get_one(Trial, found.trial_id)
            return trial.attempt == found.number and TrialState(trial.state) in OUTSTANDING

    def _held(self, device: int) -> list[str]:
        out = Trial.state.in_([s.value for s in OUTSTANDING])
        return self._attempts_of(Attempt.device_id == device, Attempt.number == Trial.attempt, out)

    # --- invariants after every step

    @invariant()
    def hold(self) -> None:
        self.everything_holds()

    def everything_holds(self) -> None:
        with self.farm.database.read_session() as session:
            trials = session.scalars(select(Trial)).all()
            attempts = session.scalars(select(Attempt)).all()
            known = session.scalars(select(Sweep)).all()
            builds = set(session.scalars(select(Cell.id).where(Cell.build_key != "")))
        closed = {s.id for s in known if s.finished_at is not None}
        hidden = {s.id for s in known if s.kind == HEALTH}
        assert not closed & hidden, "there will be more checks"
        of_trial: dict[int, list[Attempt]] = {t.id: [] for t in trials}
        for attempt in attempts:
            of_trial[attempt.trial_id].append(attempt)
        busy: set[int] = set()
        by_id = {t.id: t for t in trials}
        for trial in trials:
            state = TrialState(trial.state)
            mine = of_trial[trial.id]
            self._moved_legally(trial, trial.sweep_id in hidden)
            assert sorted(a.number for a in mine) == list(range(1, trial.attempt + 1))
            assert {a.device_id for a in mine} <= {trial.device_id}
            assert sum(a.accepted for a in mine) <= 1, "a trial has one result that counts"
            if trial.device_id not in self.devices.values():
                assert state in FINAL, "a board that is gone has nothing to do"
            if state in OUTSTANDING:
                assert trial.device_id not in busy, "one attempt a device"
                busy.add(trial.device_id)
                last = max(mine, key=lambda a: a.number)
                assert last.ended_at is None
                assert (last.started_at is not None) == (state is TrialState.RUNNING)
            if state is TrialState.DONE:
                (counted,) = [a for a in mine if a.accepted]
                assert counted.number == trial.attempt
                assert counted.result is not None
                assert counted.result["status"] == "ok"
                what = "built" if trial.cell_id in builds else "samples"
                assert counted.result[what] is not None
            if trial.waits_for is not None:
                assert state is TrialState.PENDING or state in FINAL
                assert by_id[trial.waits_for].state != TrialState.DONE.value
        for sweep in {t.sweep_id for t in trials} - hidden:
            done = all(TrialState(t.state) in FINAL for t in trials if t.sweep_id == sweep)
            assert done == (sweep in closed), "a sweep is closed exactly when all of it has ended"
        for cell in {t.cell_id for t in trials if t.sweep_id not in hidden}:
            self._given_up_or_not([t for t in trials if t.cell_id == cell], of_trial)
        self._nothing_acknowledged_is_lost({a.id: a for a in attempts}, by_id)
        self.resumed.clear()
        self.seen = {t.id: (t.state, t.attempt) for t in trials}

    def _moved_legally(self, trial: Trial, check: bool) -> None:
        state, number = self.seen.get(trial.id, ("pending", 0))
        assert trial.attempt >= number, "the fencing token never turns back"
        if TrialState(state) in FINAL and trial.state != state:
            # a check without a verdict is repeated
            assert check or trial.id in self.resumed, f"{state} became {trial.state} by itself"
            assert TrialState(state) in RESUMABLE

    def _given_up_or_not(self, cell: list[Trial], of_trial: dict[int, list[Attempt]]) -> None:
        states = {TrialState(t.state) for t in cell}
        gave_something = states & {TrialState.DONE, TrialState.INVALID, TrialState.UNSUPPORTED}
        failed = [t for t in cell if t.state == TrialState.FAILED.value and t.waits_for is None]
        last = [max(of_trial[t.id], key=lambda a: a.number, default=None) for t in failed]
        crashed = [a for a in last if a is not None and a.accepted and _is_permanent(a)]
        if len(crashed) >= self.farm.settings.cell_failures and not gave_something:
            assert TrialState.PENDING not in states, "what only ever crashes is given up"
        if None in last:
            assert states <= {TrialState.FAILED, TrialState.CANCELLED}, "given up as a whole"
            assert len(failed) > self.farm.settings.cell_failures

    def _nothing_acknowledged_is_lost(
        self, attempts: dict[str, Attempt], trials: dict[int, Trial]
    ) -> None:
        for attempt_id, given in self.acknowledged.items():
            kept = attempts[attempt_id]
            assert kept.result is not None
            assert kept.result["status"] == given.status
            if given.status == "ok":
                assert kept.accepted
                assert trials[kept.trial_id].state == TrialState.DONE.value

    def _everything_ends(self) -> None:
        """From any state, well-behaved boards bring every trial to its end."""
        self.kit.doorbells.error = None
        for name in EVERYBODY:
            if name not in self.devices:
                self._join(name)
            fleet.set_enabled(self.farm, name, True)
        for _ in range(400):
            if self._at_rest():
                break
            self.kit.clock.advance(3.0)
            scheduler.tick(self.farm)
            self.everything_holds()
            for device in self.devices.values():
                held = self._held(device)
                self.kit.beat(device, *held)
                for attempt in held:
                    ingest.start_attempt(self.farm, device, attempt)
                    self._finish(device, attempt, "ok")
            self.everything_holds()
        assert self._at_rest()
        assert {t.state for t in self.kit.trials()} <= {s.value for s in FINAL}
        for name in {f"s{n}" for n in range(self.sweeps)}:
            with contextlib.suppress(UserError):
                assert progress.sweep(self.farm, name).state != "running"
        with self.farm.database.read_session() as session:
            assert set(session.scalars(select(Device.enabled))) == {True}

    def _at_rest(self) -> bool:
        return all(TrialState(t.state) in FINAL for t in self.kit.trials())
