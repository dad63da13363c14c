"""The blob cache: resume, corruption, and what is dropped when it is full."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.worker.errors import BadInput, BlobCorrupt, BlobMissing, ControllerUnreachable, DiskFull
from agent.worker.uplink import blob_cache as module
from agent.worker.uplink.blob_cache import BlobCache, CacheEntry, to_evict

CONTENT = bytes(range(256)) * 400
SHA = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Source:
    """A controller: cuts the line after ``cuts[i]`` bytes of the i-th answer."""

    content: bytes = CONTENT
    cuts: list[int] = field(default_factory=list)
    ranges: bool = True
    asked: list[int] = field(default_factory=list)

    @contextlib.contextmanager
    def open(self, sha256: str, offset: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        self.asked.append(offset)
        start = offset if self.ranges else 0
        yield start, self._chunks(start)

    def _chunks(self, start: int) -> Iterator[bytes]:
        limit = self.cuts.pop(0) if self.cuts else len(self.content)
        for position in range(start, min(start + limit, len(self.content)), 1000):
            yield self.content[position : min(position + 1000, start + limit)]
        if limit < len(self.content) - start:
            raise ControllerUnreachable("cut")


@pytest.fixture
def blobs(tmp_path: Path) -> BlobCache:
    return BlobCache(tmp_path / "blobs", 1 << 30)


def parts(blobs: BlobCache) -> list[str]:
    return [p.name for p in blobs.path(SHA).parent.glob("*.part")]


def test_a_blob_is_fetched_once(blobs: BlobCache) -> None:
    source = Source()
    for _ in range(2):
        with blobs.in_use(SHA, len(CONTENT), source.open) as path:
            assert path.read_bytes() == CONTENT
    assert source.asked == [0]
    assert parts(blobs) == []


def test_an_interrupted_fetch_goes_on_where_it_stopped(blobs: BlobCache) -> None:
    source = Source(cuts=[30_000, 20_000])
    with blobs.in_use(SHA, len(CONTENT), source.open) as path:
        assert path.read_bytes() == CONTENT
    assert source.asked == [0, 30_000, 50_000]


def test_what_was_fetched_outlives_a_failure(blobs: BlobCache, tmp_path: Path) -> None:
    with (
        pytest.raises(ControllerUnreachable),
        blobs.in_use(SHA, len(CONTENT), Source(cuts=[100] * 9).open),
    ):
        pass
    source = Source()
    with BlobCache(tmp_path / "blobs", 1 << 30).in_use(SHA, len(CONTENT), source.open) as path:
        assert path.read_bytes() == CONTENT
    assert source.asked == [500]


def test_a_controller_without_ranges_is_read_from_the_start(blobs: BlobCache) -> None:
    source = Source(cuts=[30_000], ranges=False)
    with blobs.in_use(SHA, len(CONTENT), source.open) as path:
        assert path.read_bytes() == CONTENT


def test_a_damaged_part_is_thrown_away(blobs: BlobCache) -> None:
    path = blobs.path(SHA)
    path.parent.mkdir(parents=True)
    path.with_name(f"{SHA}.part").write_bytes(b"garbage")
    source = Source()
    with blobs.in_use(SHA, len(CONTENT), source.open) as found:
        assert found.read_bytes() == CONTENT
    assert source.asked == [7, 0]


def test_a_part_longer_than_the_blob_is_thrown_away(blobs: BlobCache) -> None:
    path = blobs.path(SHA)
    path.parent.mkdir(parents=True)
    path.with_name(f"{SHA}.part").write_bytes(CONTENT + b"more")
    with blobs.in_use(SHA, len(CONTENT), Source().open) as found:
        assert found.read_bytes() == CONTENT


def test_wrong_bytes_are_never_kept(blobs: BlobCache) -> None:
    source = Source(content=CONTENT[:-1] + b"!")
    with pytest.raises(BlobCorrupt, match=SHA), blobs.in_use(SHA, len(CONTENT), source.open):
        pass
    assert not blobs.path(SHA).exists()
    assert parts(blobs) == []


def test_a_missing_blob_is_said(blobs: BlobCache) -> None:
    @contextlib.contextmanager
    def missing(sha256: str, offset: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        raise BlobMissing(sha256)
        yield

    with pytest.raises(BlobMissing), blobs.in_use(SHA, 1, missing):
        pass


def test_a_full_disk_is_said_before_fetching(blobs: BlobCache) -> None:
    source = Source()
    with pytest.raises(DiskFull, match="MiB"), blobs.in_use(SHA, 1 << 60, source.open):
        pass
    assert source.asked == []


@pytest.mark.parametrize("name", ["", "../../etc/passwd", SHA.upper(), SHA[:-1], SHA + "0"])
def test_only_a_sha_256_names_a_blob(blobs: BlobCache, name: str) -> None:
    with pytest.raises(BadInput):
        blobs.path(name)


def test_storing_gives_the_name(blobs: BlobCache, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    assert blobs.store(CONTENT) == blobs.store(tmp_path / "file") == SHA
    assert blobs.path(SHA).read_bytes() == CONTENT


def test_the_least_recently_used_goes_first_and_a_held_one_stays(tmp_path: Path) -> None:
    blobs = BlobCache(tmp_path / "blobs", 250)
    first, second, third = (blobs.store(bytes([n]) * 100) for n in range(3))
    assert not blobs.path(first).exists()
    with blobs.in_use(second, 100, Source().open):
        fourth = blobs.store(b"4" * 100)
        assert not blobs.path(third).exists()
        fifth = blobs.store(b"5" * 200)
        assert blobs.path(second).exists()
        assert not blobs.path(fourth).exists()
    blobs.store(b"6" * 200)
    assert not blobs.path(second).exists()
    assert not blobs.path(fifth).exists()


def test_stray_parts_count_and_are_dropped(tmp_path: Path) -> None:
    blobs = BlobCache(tmp_path / "blobs", 1000)
    part = blobs.path(SHA).with_name(f"{SHA}.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 900)
    blobs.store(b"y" * 500)
    assert not part.exists()


ENTRIES = st.lists(
    st.builds(
        CacheEntry, st.text("ab", min_size=1, max_size=9), st.integers(0, 100), st.integers(0, 9)
    ),
    unique_by=lambda e: e.key,
)


@given(ENTRIES, st.integers(0, 500), st.data())
def test_eviction_frees_enough_and_no_more_than_it_must(
    entries: list[CacheEntry], budget: int, data: st.DataObject
) -> None:
    kept = data.draw(st.sets(st.sampled_from([e.key for e in entries]))) if entries else set()
    dropped = to_evict(entries, budget, kept)
    sizes = {e.key: e.size_bytes for e in entries}
    left = sum(sizes.values()) - sum(sizes[k] for k in dropped)
    assert not set(dropped) & kept
    assert left <= budget or set(dropped) == set(sizes) - kept
    if dropped:
        assert left + sizes[dropped[-1]] > budget
    used = {e.key: e.used_ns for e in entries}
    others = set(sizes) - kept - set(dropped)
    assert all(used[d] <= used[o] for d in dropped for o in others)


def test_disk_full_is_recognised() -> None:
    assert module.is_disk_full(OSError(28, "No space left on device"))
    assert not module.is_disk_full(OSError(2, "No such file"))
