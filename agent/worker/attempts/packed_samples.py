"""Packs the raw samples of a trial into a blob."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import zstandard

from agent.contract.trial import SAMPLES_ENCODING, Samples
from agent.system.durable import sync_folder
from agent.worker.errors import AgentError

_ZSTD_LEVEL = 3


class BadSamples(AgentError):
    """The child's file of samples has not the size that its answer announces."""

    failure_kind = "bad_answer"


def pack_samples(raw: Path, samples: Samples, folder: Path) -> tuple[Samples, Path]:
    """Compress the child's samples into ``folder``, durably; named by their SHA-256.

    ``raw`` holds little-endian int64, shape (len(series), count), nanoseconds. Returns ``samples``
    with the blob's SHA-256, size and encoding, and the blob's path.

    Raises:
        BadSamples: ``raw`` has another size.
    """
    expected = 8 * samples.count * len(samples.series)
    size = raw.stat().st_size if raw.is_file() else -1
    if size != expected or not expected:
        raise BadSamples(f"samples.i64 has {size} bytes, but {expected} were announced")
    packed = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(raw.read_bytes())
    sha256 = hashlib.sha256(packed).hexdigest()
    path = folder / f"{sha256}.zst"
    try:
        with path.open("wb") as file:
            file.write(packed)
            file.flush()
            os.fsync(file.fileno())
    except OSError:  # a full disk: no result names the half file, so nothing would delete it later
        path.unlink(missing_ok=True)
        raise
    sync_folder(folder)
    filled = replace(samples, sha256=sha256, size_bytes=len(packed), encoding=SAMPLES_ENCODING)
    return filled, path
