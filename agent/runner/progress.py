"""The stage of a job: kept for its answer, and in a file for its parent if the process dies."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional


class Progress:
    """The current stage, and the parts of the answer that are known so far."""

    def __init__(self, folder: Optional[str] = None) -> None:
        self._folder = folder
        self.stage = "environment"
        self.phases: Dict[str, Optional[float]] = {}
        self.known: Dict[str, Any] = {}

    def enter(self, stage: str) -> None:
        """Record the stage, before its first step. A folder that cannot be written does not stop
        the job: the file only serves to name the stage of a crash."""
        self.stage = stage
        if self._folder is None:
            return
        try:
            Path(self._folder, "stage").write_text(stage, encoding="ascii")
        except OSError:
            self._folder = None

    @contextmanager
    def timing(self, phase: str, now_ns: Callable[[], int], unit_ns: float = 1e9) -> Iterator[None]:
        """Record how long the block takes, in units of ``unit_ns``, if it does not raise."""
        start = now_ns()
        yield
        self.phases[phase] = (now_ns() - start) / unit_ns
