"""The names and places under which a runtime is given an artifact."""

from __future__ import annotations

from pathlib import Path

from agent.formats.onnx_external_data import require_whole
from agent.formats.savedmodel import unpack
from agent.runtimes.formats import FORMATS


def named(artifact: Path, format: str, folder: Path) -> Path:
    """The artifact under a name that ends as its format's files do (blobs are named by hash, and
    runtimes go by the ending): itself, or a link to it in ``folder``. A SavedModel's zip is
    unpacked there; a folder stays as it is.

    Raises:
        Unsupported: an ONNX file whose weights are not all there.
        BadModel: a zip that cannot be unpacked.
    """
    if format == "savedmodel" and not artifact.is_dir():
        return unpack(artifact, folder)
    found = _named(artifact, format, folder)
    if format == "onnx":
        require_whole(found)
    return found


def _named(artifact: Path, format: str, folder: Path) -> Path:
    suffix = FORMATS[format].suffix if format in FORMATS else ""
    if not suffix or artifact.suffix == suffix or artifact.is_dir():
        return artifact
    link = folder / ("artifact" + suffix)
    if link.is_symlink():
        link.unlink()
    link.symlink_to(artifact.resolve())
    return link
