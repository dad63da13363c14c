"""What a controller that starts does not wait for."""

from __future__ import annotations

import subprocess
import sys

SLOW = ["altair", "fabric", "nncf", "onnx", "onnxruntime", "openvino", "ruptures", "scipy"]
"""Seconds of import together; a report, a model or a board needs them, and imports them then."""

CODE = """
import sys
import orchestrator.api.app, orchestrator.cli, orchestrator.cli.up, orchestrator.wiring
assert "fastapi" in sys.modules and "sqlalchemy" in sys.modules
print(*sys.modules)
"""


def test_a_controller_starts_without_what_only_reports_models_and_boards_need() -> None:
    ended = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert sorted({*SLOW} & {*ended.stdout.split()}) == []
