"""Where a job is: kept for its answer, and on disk for its parent, should the process die."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional


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
