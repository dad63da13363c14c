"""The paths under which a runtime gets an artifact."""

from __future__ import annotations

from pathlib import Path

from agent.formats.onnx_external_data import require_whole
from agent.formats.savedmodel import unpack
from agent.runtimes.formats import FORMATS


def named(artifact: Path, format: str, folder: Path) -> Path:
    """The artifact under a name with its format's suffix: itself, or a link to it in ``folder``.

    Blobs are named by hash, while runtimes go by the suffix. A SavedModel's zip is unpacked into
    ``folder``; an artifact that is a folder stays as it is.

    Raises:
        Unsupported: an ONNX file whose weights are missing.
        BadModel: a zip that cannot be unpacked.
    """
    if format == "savedmodel" and not artifact.is_dir():
        return unpack(artifact, folder)
    found = _with_suffix(artifact, format, folder)
    if format == "onnx":
        require_whole(found)
    return found


def _with_suffix(artifact: Path, format: str, folder: Path) -> Path:
    suffix = FORMATS[format].suffix if format in FORMATS else ""
    if not suffix or artifact.suffix == suffix or artifact.is_dir():
        return artifact
    link = folder / ("artifact" + suffix)
    if link.is_symlink():
        link.unlink()
    link.symlink_to(artifact.resolve())
    return link
