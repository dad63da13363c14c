"""A wheelhouse, filled once in a test run from the package index that pip is configured for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from agent.worker.environments.recipes import parse

OLD, NEW = "1.30.0", "1.31.1"
"""The versions of onnxruntime that the wheelhouse holds; ``NEW`` is the tested one."""
LIMIT_S = 240.0


def onnxruntime_wheels(folder: Path) -> str:
    """Both versions, and what goes beside them; empty, or why the index gave nothing."""
    tested = parse(f"onnxruntime=={NEW}")
    why = download(folder, tested.main, *tested.beside)
    return why or download(folder, f"onnxruntime=={OLD}", "--no-deps")


def download(folder: Path, *requirements: str) -> str:
    """``pip download`` into ``folder``; empty, or why the index gave nothing."""
    command = [sys.executable, "-I", "-m", "pip", "download", "--quiet", "--only-binary", ":all:"]
    command += ["--retries", "1", "--timeout", "20", "--dest", str(folder), *requirements]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return f"no answer in {LIMIT_S:.0f} s"
    if ended.returncode == 0:
        return ""
    return (ended.stderr.strip().splitlines() or ["pip said nothing"])[-1]
