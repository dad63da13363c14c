"""Uploads in parts, as the folder of blobs keeps them."""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.domain.errors import UserError
from orchestrator.store.blobs import PARTIAL, FolderBlobs
from orchestrator.store.uploads import (
    KEEP_PARTIAL_S,
    UploadBusy,
    UploadOutOfStep,
    UploadPart,
    Uploads,
)
from support.played_board import sha

WHOLE = bytes(range(256)) * 40
SHA = sha(WHOLE)
TOTAL = len(WHOLE)


class Cut(Exception):
    """The connection."""


@pytest.fixture
def blobs(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "blobs", max_bytes=1 << 20)


def send(
    blobs: FolderBlobs,
    start: int,
    data: bytes,
    *,
    who: str = "1-1",
    name: str = SHA,
    total: int = TOTAL,
    cut: bool = False,
) -> int:
    """A request that announces the rest of the blob and brings ``data``."""

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(data), 1000):
            yield data[at : at + 1000]
        if cut:
            raise Cut

    part = UploadPart(start, total - start, total)
    return asyncio.run(Uploads(blobs).receive(who, name, part, chunks()))


def kept(blobs: FolderBlobs) -> list[str]:
    return sorted(p.name for p in (blobs.root / PARTIAL).iterdir())


def test_what_was_cut_goes_on_where_it_stopped(blobs: FolderBlobs) -> None:
    with pytest.raises(Cut):
        send(blobs, 0, WHOLE[:3000], cut=True)
    assert Uploads(blobs).size("1-1", SHA) == 3000
    assert not blobs.has(SHA)
    with pytest.raises(Cut):
        send(blobs, 3000, WHOLE[3000:7000], cut=True)
    assert send(blobs, 7000, WHOLE[7000:]) == TOTAL
    assert blobs.read(SHA) == WHOLE
    assert kept(blobs) == []
    assert Uploads(blobs).size("1-1", SHA) == 0


def test_less_than_announced_is_kept(blobs: FolderBlobs) -> None:
    assert send(blobs, 0, WHOLE[:10]) == 10
    assert not blobs.has(SHA)


def test_a_part_may_begin_again_further_back_and_never_leave_a_gap(blobs: FolderBlobs) -> None:
    send(blobs, 0, b"x" * 5000)
    with pytest.raises(UploadOutOfStep) as told:
        send(blobs, 5001, WHOLE[5001:])
    assert told.value.size_bytes == 5000
    assert send(blobs, 0, WHOLE[:4000]) == 4000
    assert send(blobs, 3999, WHOLE[3999:]) == TOTAL
    assert blobs.read(SHA) == WHOLE


def test_what_hashes_to_something_else_is_not_kept(blobs: FolderBlobs) -> None:
    send(blobs, 0, b"x" * 5000)
    with pytest.raises(UserError, match="the transfer was damaged"):
        send(blobs, 5000, WHOLE[5000:])
    assert not blobs.has(SHA)
    assert kept(blobs) == []
    assert send(blobs, 0, WHOLE) == TOTAL


def test_nobody_goes_on_with_anothers(blobs: FolderBlobs) -> None:
    send(blobs, 0, WHOLE[:5000])
    assert Uploads(blobs).size("2-2", SHA) == 0
    with pytest.raises(UploadOutOfStep):
        send(blobs, 5000, WHOLE[5000:], who="2-2")
    send(blobs, 0, b"x" * 100, who="2-2")
    assert send(blobs, 5000, WHOLE[5000:]) == TOTAL
    assert blobs.read(SHA) == WHOLE


def test_one_request_at_a_time_has_the_file(blobs: FolderBlobs) -> None:
    send(blobs, 0, WHOLE[:5000])
    with (blobs.root / PARTIAL / f"1-1.{SHA}").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UploadBusy):
            send(blobs, 0, b"x" * 10)
    assert send(blobs, 5000, WHOLE[5000:]) == TOTAL


def test_a_file_that_another_took_the_place_of_never_becomes_the_blob(blobs: FolderBlobs) -> None:
    path = blobs.root / PARTIAL / f"1-1.{SHA}"

    async def chunks() -> AsyncIterator[bytes]:
        yield WHOLE[:5000]
        path.unlink()
        path.write_bytes(b"another's")
        yield WHOLE[5000:]

    with pytest.raises(UploadBusy):
        asyncio.run(Uploads(blobs).receive("1-1", SHA, UploadPart(0, TOTAL, TOTAL), chunks()))
    assert not blobs.has(SHA)


def test_a_connection_that_says_nothing_lets_go(blobs: FolderBlobs) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield WHOLE[:5000]
        await asyncio.sleep(60)
        yield WHOLE[5000:]

    uploads = Uploads(blobs, idle_s=0.05)
    assert asyncio.run(uploads.receive("1-1", SHA, UploadPart(0, TOTAL, TOTAL), chunks())) == 5000
    assert send(blobs, 5000, WHOLE[5000:]) == TOTAL


def test_a_disk_that_takes_no_more_loses_nothing_of_what_arrived(blobs: FolderBlobs) -> None:
    """At the limit a raw write takes a part, and says so; the next one fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2500, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            send(blobs, 0, WHOLE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert Uploads(blobs).size("1-1", SHA) == 2500
    assert send(blobs, 2500, WHOLE[2500:]) == TOTAL


def test_more_than_announced_is_refused(blobs: FolderBlobs) -> None:
    with pytest.raises(UserError, match="more than the 10 bytes"):
        send(blobs, 0, WHOLE, total=10)
    assert not blobs.has(SHA)


def test_one_uploader_keeps_no_more_than_one_upload_may_hold(blobs: FolderBlobs) -> None:
    with pytest.raises(UserError, match="larger than 1 MiB"):
        send(blobs, 0, b"x", total=(1 << 20) + 1)
    third = 400_000
    names = [sha(bytes([n])) for n in range(3)]
    send(blobs, 0, b"y" * third, who="2-1", name=names[0], total=third + 1)
    for age, name in zip((30, 20, 10), names, strict=True):
        send(blobs, 0, b"x" * third, name=name, total=third + 1)
        at = time.time() - age
        os.utime(blobs.root / PARTIAL / f"1-1.{name}", (at, at))
    assert kept(blobs) == sorted([f"2-1.{names[0]}", f"1-1.{names[1]}", f"1-1.{names[2]}"])


def test_what_nobody_goes_on_with_is_dropped(blobs: FolderBlobs) -> None:
    send(blobs, 0, WHOLE[:5000], who="3-3")
    old = blobs.root / PARTIAL / f"3-3.{SHA}"
    os.utime(old, (time.time() - KEEP_PARTIAL_S - 1,) * 2)
    send(blobs, 0, WHOLE[:10])
    assert kept(blobs) == [f"1-1.{SHA}"]


def test_a_device_that_is_retired_leaves_none(blobs: FolderBlobs) -> None:
    for who in ("1-1", "1-7", "11-1"):
        send(blobs, 0, WHOLE[:10], who=who)
    Uploads(blobs).drop(1)
    assert kept(blobs) == [f"11-1.{SHA}"]


def test_the_check_of_the_folder_sees_each_as_what_was_broken_off(blobs: FolderBlobs) -> None:
    send(blobs, 0, WHOLE[:10])
    assert [p.name for p in blobs.strays()] == [f"1-1.{SHA}"]
    assert list(blobs.stored()) == []


@pytest.mark.parametrize(
    "header", ["bytes 0-9", "bytes 5-4/10", "bytes 0-10/10", "bytes */10", "bytes -1-2/3", ""]
)
def test_a_range_that_is_none(header: str) -> None:
    with pytest.raises(UserError, match="expected bytes FIRST-LAST/TOTAL"):
        UploadPart.parse(header)


def test_a_range() -> None:
    assert UploadPart.parse("bytes 5-9/10") == UploadPart(5, 5, 10)
