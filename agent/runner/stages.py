"""Where a job is: kept for its answer, and on disk for its parent, should the process die."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional

from agent.formats.onnx_external_data import require_whole
from agent.formats.savedmodel import unpack
from agent.runtimes.formats import FORMATS


class Progress:
    """The current stage, and whatever of the answer is known so far."""

    def __init__(self, folder: Optional[str] = None) -> None:
        self._folder = folder
        self.stage = "environment"
        self.phases: Dict[str, Optional[float]] = {}
        self.known: Dict[str, Any] = {}

    def enter(self, stage: str) -> None:
        """Note the stage, before its first step. A folder that cannot be written is no reason to
        stop: the file only helps to name the place of a crash."""
        self.stage = stage
        if self._folder is None:
            return
        try:
            Path(self._folder, "stage").write_text(stage, encoding="ascii")
        except OSError:
            self._folder = None

    @contextmanager
    def timing(self, phase: str, now_ns: Callable[[], int], unit_ns: float = 1e9) -> Iterator[None]:
        """Record the seconds (or whatever ``unit_ns`` is) that the block takes, if it ends well."""
        start = now_ns()
        yield
        self.phases[phase] = (now_ns() - start) / unit_ns


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
