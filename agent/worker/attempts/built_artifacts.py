"""Pack an artifact built for other devices into a blob, and unpack such a blob."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from agent.contract.child_jobs import Converted
from agent.contract.trial import Built, ModelRef
from agent.formats import archive
from agent.system.durable import sync_folder
from agent.worker.attempts.engine_cache import folder_bytes
from agent.worker.errors import AgentError
from agent.worker.uplink.blob_cache import file_sha256


class NotPacked(AgentError):
    """The built artifact cannot be packed for another device."""

    failure_kind = "bad_artifact"


class NotUnpacked(AgentError):
    """A model's blob is no archive that can be unpacked safely."""

    failure_kind = "bad_model"


def pack_artifact(
    converted: Converted, precision: str, source: Path, folder: Path
) -> tuple[Built, Path]:
    """Copy the built artifact into ``folder``, durably; named by its SHA-256.

    ``source``: the blob that it was made of. Where that is the artifact itself, it is one file of
    the blob cache, whose folder holds other blobs too.

    Raises:
        NotPacked: the artifact contains a link or a device file.
    """
    artifact = Path(converted.artifact)
    content, entry = (artifact, "") if artifact == source else archive.content_of(artifact)
    with _temporary(folder) as path:
        if entry:
            try:
                archive.pack(content, path)
            except archive.BadArchive as error:
                raise NotPacked(f"what was built cannot be packed: {error}") from error
        else:
            shutil.copyfile(content, path)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        sha256, size_bytes = file_sha256(path), path.stat().st_size
        kept = folder / f"{sha256}{'.zip' if entry else '.blob'}"
        os.replace(path, kept)
    sync_folder(folder)
    built = Built(
        format=converted.format,
        precision=precision,
        sha256=sha256,
        size_bytes=size_bytes,
        entry=entry,
        inputs=converted.inputs,
        outputs=converted.outputs,
        steps=converted.steps,
    )
    return built, kept


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(prefix="building-", dir=folder)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def unpack_model(model: ModelRef, blob: Path, folder: Path) -> tuple[Path, int]:
    """The artifact that a model's blob holds, unpacked into ``folder`` if it is an archive; and its
    size in bytes.

    Raises:
        NotUnpacked.
    """
    if not model.entry:
        return blob, model.size_bytes
    shutil.rmtree(folder, ignore_errors=True)
    try:
        artifact = archive.unpack(blob, folder, model.entry)
    except archive.BadArchive as error:
        raise NotUnpacked(f"the archive of model {model.name}: {error}") from error
    return artifact, folder_bytes(folder)
