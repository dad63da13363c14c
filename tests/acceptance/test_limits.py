"""An attempt over its limits fails with its stage, in time, and the next trial runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.cli import Shell

SPEC = """
name: {name}
models: [mobilenet_v2]
runtimes: [{{backend: onnxruntime}}]
trials: 1
scenario: {{min_duration_s: 0.1, max_duration_s: {seconds}, target_relative_ci: 0.000001}}
limits: {{trial_s: {limit_s}, memory_mib: {memory_mib}}}
"""


def test_a_trial_over_its_time_and_one_over_its_memory_fail(shell: Shell, tmp_path: Path) -> None:
    shell.fine("zoo", "build", "mobilenet_v2")
    late = _run(shell, tmp_path, "late", seconds=30, limit_s=6, memory_mib=4096)
    assert late["status"] == "failed"
    assert (late["failure"]["stage"], late["failure"]["kind"]) == ("measure", "timeout")
    assert late["failure"]["message"].startswith("limits.trial_s of 6 s ran out while measuring")

    large = _run(shell, tmp_path, "large", seconds=1, limit_s=60, memory_mib=64)
    assert large["status"] == "failed"
    assert large["failure"]["kind"] in ("out_of_memory", "crash")
    assert large["failure"]["stage"] in ("environment", "load", "warm_up", "measure", "verify")

    after = _run(shell, tmp_path, "after", seconds=1, limit_s=60, memory_mib=4096)
    assert after["status"] == "ok"


def _run(
    shell: Shell, folder: Path, name: str, *, seconds: int, limit_s: int, memory_mib: int
) -> Any:
    spec = folder / f"{name}.yaml"
    spec.write_text(SPEC.format(name=name, seconds=seconds, limit_s=limit_s, memory_mib=memory_mib))
    ended = shell("sweep", "run", spec)
    row = json.loads(shell.fine("report", name, "-o", "json"))["rows"][0]
    assert ended.returncode == (0 if row["status"] == "ok" else 1), ended.stdout + ended.stderr
    return row
