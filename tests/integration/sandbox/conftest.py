"""A home folder, a file to ask about, and a sandbox whose reader was taken over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.domain.file_inspection import Question
from orchestrator.inspection.client import ConfinedInspector
from support import onnx_files
from support.confined_readers import MIB, ROOT


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def evil(tmp_path: Path, home: Path) -> Callable[..., ConfinedInspector]:
    """A sandbox whose reader is what a taken-over one could be: it runs the given Python, with
    ``question`` at hand, where it would open the file. ``prelude`` runs before the walls."""

    def build(
        source: str, wall_s: float = 60.0, mib: int = MIB, prelude: str = ""
    ) -> ConfinedInspector:
        program = tmp_path / "reader.py"
        body = "\n".join("    " + line for line in source.strip().splitlines())
        program.write_text(
            f"import os, sys\nsys.path.append({str(ROOT)!r})\n"
            "from orchestrator.domain.file_inspection import CheckedFile\n"
            "from orchestrator.inspection.child import commands\n"
            "from orchestrator.inspection.child.__main__ import main\n"
            f"{prelude}\n"
            f"def read(question):\n{body}\n"
            "commands.COMMANDS['CheckedFile'] = read\n"
            "main()\n"
        )
        return ConfinedInspector(home, wall_s, mib, program)

    return build


@pytest.fixture
def question(tmp_path: Path) -> Question:
    path = tmp_path / "blob"
    path.write_bytes(onnx_files.dense_bytes())
    return Question(str(path), "mine.tflite", "tflite")
