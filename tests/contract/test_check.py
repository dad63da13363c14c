"""``db check`` on both databases: every kind of damage is found, and a sound farm has none."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, text

from orchestrator.service.sweeps import retention, sweeps
from orchestrator.store.backup.integrity_check import findings, repair
from orchestrator.store.health_model import canary, digest
from orchestrator.store.tables import Attempt, Event, Sweep, Trial
from support.checked import EVERY_S, check
from support.farms import FarmKit, failed

HOUR = 3600.0


def found(kit: FarmKit, **options: float) -> list[str]:
    return list(findings(kit.farm.database, kit.farm.blobs, **options))  # type: ignore[arg-type]


@pytest.fixture
def busy(farm: FarmKit) -> FarmKit:
    """A sweep that is done, one that failed and went on, one that runs, one whose samples were
    pruned."""
    board = farm.device("board")
    farm.add_model()
    for name in ("pruned", "done"):
        farm.submit(name)
        farm.beat(board)
        farm.give(board, farm.ok(farm.last_rung(), (len(name), 2, 3)))
    retention.prune_samples(farm.farm, "pruned")
    farm.submit("again", attempts=1)
    farm.beat(board)
    farm.give(board, failed(farm.last_rung()))
    sweeps.resume(farm.farm, "again")
    farm.beat(board)
    farm.give(board, farm.ok(farm.last_rung(), (7, 8, 9)))
    farm.submit("runs", trials=3)
    farm.beat(board)
    return farm


def samples(kit: FarmKit) -> Path:
    with kit.farm.database.transaction() as session:
        results = session.scalars(select(Attempt.result).where(Attempt.accepted)).all()
    named = [r["samples"]["sha256"] for r in results if r and r.get("samples")]
    return kit.farm.blobs.path(next(n for n in named if n))


def test_a_sound_farm_has_no_findings(busy: FarmKit) -> None:
    assert found(busy, grace_s=0.0) == []
    assert found(busy, deep=True, grace_s=0.0) == []


def test_the_models_of_health_checks_are_not_taken_for_orphans(
    farm_on: Callable[..., FarmKit], database_url: str
) -> None:
    kit = farm_on(database_url, health_every_s=EVERY_S)
    check(kit, kit.device())
    forms = {digest(data) for data in canary().blobs}
    assert forms <= kit.blobs()  # of two forms of the model this board takes one
    assert found(kit, grace_s=0.0) == []
    repair(kit.farm.database, kit.farm.blobs, grace_s=0.0)
    assert forms <= kit.blobs()


def test_a_blob_that_is_missing_short_or_damaged(busy: FarmKit) -> None:
    path = samples(busy)
    sound = path.read_bytes()
    path.write_bytes(bytes([sound[0] ^ 1]) + sound[1:])
    assert found(busy) == []
    (line,) = found(busy, deep=True)
    assert (
        line == f"blob {path.name} (samples of an attempt) is damaged: its bytes have another hash"
    )
    path.write_bytes(sound[:-1])
    (line,) = found(busy)
    assert line.endswith(f"has {len(sound) - 1} bytes instead of {len(sound)}")
    path.unlink()
    (line,) = found(busy)
    assert line.endswith("is missing")


def test_what_nothing_uses_is_found_and_freed_once_it_is_old_enough(busy: FarmKit) -> None:
    blobs, kept = busy.farm.blobs, busy.blobs()
    orphan = blobs.put(b"orphan")
    half = blobs.root / "ab" / ".incoming-x"
    half.parent.mkdir(exist_ok=True)
    half.write_bytes(b"half")
    held = blobs.root / ".backup-x"
    held.mkdir()
    os.link(blobs.path(orphan), held / orphan)
    old = time.time() - 2 * HOUR
    assert found(busy, grace_s=HOUR) == []
    repair(busy.farm.database, blobs, grace_s=HOUR)
    assert blobs.has(orphan)
    for path in (blobs.path(orphan), half, held, *(blobs.path(name) for name in kept)):
        os.utime(path, (old, old))
    lines = found(busy, grace_s=HOUR)
    assert len(lines) == 3
    assert lines[0] == f"blob {orphan} is used by nothing; --repair frees it"
    assert all("is no blob" in line for line in lines[1:])
    freed = repair(busy.farm.database, blobs, grace_s=HOUR)
    assert freed.blobs == 3
    assert busy.blobs() == kept
    assert found(busy, grace_s=HOUR) == []


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ("UPDATE sweeps SET finished_at = created_at WHERE name = 'runs'", "is finished, yet has"),
        ("UPDATE sweeps SET finished_at = NULL WHERE name = 'done'", "is not finished, yet all"),
        ("UPDATE trials SET state = 'lost' WHERE state = 'dispatched'", "a state that there is"),
        ("UPDATE attempts SET ended_at = dispatched_at", "with its device by its state"),
        ("UPDATE attempts SET accepted = false", "done, yet has no accepted result"),
        ("UPDATE attempts SET number = number + 7 WHERE note = ''", "newer than its trial knows"),
        ("UPDATE alembic_version SET version_num = '0001'", "are at revision 0001"),
    ],
)
def test_rows_that_cannot_be_are_found(busy: FarmKit, spoil: str, says: str) -> None:
    with busy.farm.database.transaction() as session:
        session.execute(text(spoil))
    assert any(says in line for line in found(busy)), found(busy)


def test_two_measurements_of_one_trial_are_found(busy: FarmKit) -> None:
    with busy.farm.database.transaction() as session:
        query = select(Attempt).join(Trial).join(Sweep, Trial.sweep_id == Sweep.id)
        first = session.scalars(query.where(Sweep.name == "again", Attempt.number == 1)).one()
        last = session.scalars(query.where(Sweep.name == "again", Attempt.number == 2)).one()
        first.result, first.accepted = last.result, True
    (line,) = found(busy)
    assert line == f"trial {first.trial_id} has more than one accepted measurement"


def test_a_row_that_refers_to_nothing_is_found_in_sqlite(sqlite_farm: FarmKit) -> None:
    sqlite_farm.device("board")
    with sqlite_farm.farm.database.engine.connect() as connection:
        connection.execute(text("PRAGMA foreign_keys=OFF").execution_options(autocommit=True))
        connection.rollback()
        raw = connection.connection.dbapi_connection
        assert raw is not None
        raw.execute("PRAGMA foreign_keys=OFF")
        raw.execute("DELETE FROM devices")
    lines = found(sqlite_farm)
    assert any("refers to a row of devices that is not there" in line for line in lines), lines


def test_many_findings_of_a_kind_are_counted(sqlite_farm: FarmKit) -> None:
    for number in range(30):
        path = sqlite_farm.farm.blobs.path(sqlite_farm.farm.blobs.put(b"%d" % number))
        os.utime(path, (0, 0))
    lines = found(sqlite_farm, grace_s=timedelta(days=1).total_seconds())
    assert (len(lines), lines[-1]) == (21, "… and 10 more of that kind")


def test_a_damaged_file_of_sqlite_is_a_finding(sqlite_farm: FarmKit) -> None:
    with sqlite_farm.farm.database.transaction() as session:
        session.add_all(Event(kind="k" * 20, subject="s" * 40) for _ in range(3000))
    sqlite_farm.farm.database.close()
    path = Path(sqlite_farm.farm.database.engine.url.database or "")
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(bytes([7]) * 8 * 4096)
    lines = found(sqlite_farm)
    assert any("SQLite: " in line or "cannot be read any further" in line for line in lines), lines
