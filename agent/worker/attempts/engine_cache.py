"""The engine cache: converted artifacts of this device, by what they were converted from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent.contract import codec
from agent.contract.child_jobs import Converted, ConvertJob
from agent.system.durable import sync_folder
from agent.worker.errors import ChildFailed
from agent.worker.isolation.runner_client import ChildOutcome
from agent.worker.uplink.blob_cache import CacheEntry, to_evict

ANSWER_NAME = "converted.json"
_SOURCE = "@source"
"""In a cached answer: the artifact is the source itself."""

Convert = Callable[[ConvertJob, Path], ChildOutcome]
"""``convert(job, folder)`` runs the child's verb ``convert`` in ``folder``."""


@dataclass(frozen=True)
class CachedEngine:
    """A conversion's outcome: ``converted`` (whose status may not be ``ok``) or a failure."""

    outcome: ChildOutcome
    cached: bool

    @property
    def converted(self) -> Converted | None:
        """The child's answer, if there was one."""
        answer: Converted | None = self.outcome.answer
        return answer


def engine_key(parts: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON (sorted keys, no spaces), as 64 hexadecimal digits."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class EngineCache:
    """A folder of conversions by key. Thread-safe; one conversion runs at a time.

    An answer that is not ``ok`` is not cached.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder.absolute()
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob("tmp-*"):  # a power cut while converting
            shutil.rmtree(stale, ignore_errors=True)

    def get(
        self, parts: dict[str, Any], make: Callable[[Path], ConvertJob], run: Convert
    ) -> CachedEngine:
        """The cached conversion, else a new one. A hit starts no process.

        ``make(folder)`` gives the job; its ``source`` is what ``@source`` stands for.
        """
        key = engine_key(parts)
        home = self._folder / key
        with self._lock:
            found = self._find(home, make(home).source)
            if found is not None:
                return CachedEngine(ChildOutcome(None, answer=found), cached=True)
            self._evict(keep=key)
            return self._convert(home, parts, make, run)

    def _find(self, home: Path, source: str) -> Converted | None:
        try:
            converted = codec.loads(Converted, (home / ANSWER_NAME).read_bytes())
        except (OSError, codec.ContractError):
            return None
        artifact = Path(source) if converted.artifact == _SOURCE else home / converted.artifact
        if not artifact.exists():
            return None
        with contextlib.suppress(FileNotFoundError):
            os.utime(home / ANSWER_NAME)
        return replace(converted, artifact=str(artifact))

    def _convert(
        self,
        home: Path,
        parts: dict[str, Any],
        make: Callable[[Path], ConvertJob],
        run: Convert,
    ) -> CachedEngine:
        folder = Path(tempfile.mkdtemp(prefix="tmp-", dir=self._folder))
        try:
            job = make(folder)
            outcome = run(job, folder)
            converted: Converted | None = outcome.answer
            if converted is None or converted.status != "ok":
                return CachedEngine(outcome, cached=False)
            relative = _relative(converted.artifact, folder, job.source)
            answer = codec.dumps(replace(converted, artifact=relative))
            (folder / ANSWER_NAME).write_text(answer, "utf-8")
            (folder / "key.json").write_text(json.dumps(parts, indent=2), "utf-8")
            _sync_tree(folder)
            shutil.rmtree(home, ignore_errors=True)
            os.replace(folder, home)
            sync_folder(self._folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        artifact = job.source if relative == _SOURCE else str(home / relative)
        return CachedEngine(
            replace(outcome, answer=replace(converted, artifact=artifact)), cached=False
        )

    def _evict(self, keep: str) -> None:
        entries = []
        for home in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                used_ns = (home / ANSWER_NAME).stat().st_mtime_ns
                entries.append(CacheEntry(home.name, folder_bytes(home), used_ns))
        for name in to_evict(entries, self._max_bytes, {keep}):
            shutil.rmtree(self._folder / name, ignore_errors=True)


def folder_bytes(folder: Path) -> int:
    """Sum of the sizes of the files below a folder."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def _relative(artifact: str, folder: Path, source: str) -> str:
    if Path(artifact) == Path(source):
        return _SOURCE
    path = Path(os.path.abspath(artifact))  # without following links
    if not path.is_relative_to(folder):
        raise ChildFailed(f"the converter answered {artifact}, which is not in its folder {folder}")
    return str(path.relative_to(folder))


def _sync_tree(folder: Path) -> None:
    """Flush every file before the folder is renamed: after a power cut none may be incomplete."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
