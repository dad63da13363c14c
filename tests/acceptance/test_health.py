"""Health checks of a real agent on this machine: good, then broken, then repaired."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from support.cli import Shell, running

SPEC = """
name: patient
models: [digits_cnn]
runtimes: [{backend: onnxruntime}]
trials: 1
scenario: {min_duration_s: 0.1, max_duration_s: 0.5}
"""


def listed(shell: Shell) -> Any:
    return json.loads(shell.fine("device", "list", "-o", "json"))[0]


def wait_health(shell: Shell, wanted: str, within_s: float = 120.0) -> Any:
    deadline = time.monotonic() + within_s
    while (found := listed(shell))["health"] != wanted:
        assert time.monotonic() < deadline, found
        time.sleep(0.3)
    return found


def test_a_board_is_checked_as_it_joins_and_when_asked(tmp_path: Path) -> None:
    with running(tmp_path / "home") as shell:
        found = wait_health(shell, "good")
        assert found["health_reasons"] == []
        assert found["storage_free_mib"] > 0
        assert abs(found["clock_skew_s"]) < 5
        said = shell.fine("device", "selftest", "bench")
        assert "good" in said
        assert "onnxruntime" in said
        check = json.loads(shell.fine("device", "selftest", "-l", "name=bench", "-o", "json"))[0]
        assert (check["ok"], check["why"], check["state"]) == (True, "asked for", "ended")
        assert 0 < check["latency_ms"] < 1000
        table = shell.fine("device", "list")
        assert "good, " in table
        assert "iB" in table
        assert shell.fine("device", "show", "bench").count("asked for") == 2
        assert json.loads(shell.fine("sweep", "list", "-o", "json")) == []
        shell.fine("device", "join-token", "promised", "--tag", "rack=2")
        assert "promised is left out" in shell.refused("device", "selftest", "-l", "rack=2")
        assert "there is no device 'nobody'" in shell.refused("device", "selftest", "nobody")
        assert "-l KEY=VALUE" in shell.refused("device", "selftest")
        assert "no device to check matches" in shell.refused(
            "device", "selftest", "-l", "class=none"
        )

        assert "in maintenance" in shell.fine("device", "maintenance", "bench", "--on")
        assert listed(shell)["health"] == "maintenance"
        shell.fine("device", "maintenance", "bench", "--off")
        wait_health(shell, "good")


def test_a_board_whose_runtime_breaks_is_quarantined_until_it_is_mended(tmp_path: Path) -> None:
    settings = {"BENCHFARM_HEALTH_RETRY_S": "1"}
    with running(tmp_path / "home", **settings) as shell:
        shell.fine("zoo", "build", "digits_cnn")
        wait_health(shell, "good")
        blobs = shell.home / "agent" / "blobs"
        away = shell.home / "agent" / "mended"
        # the folder's content is gone, and nothing can be written there
        blobs.rename(away)
        blobs.write_text("no folder")
        failed = shell("device", "selftest", "bench")
        assert failed.returncode == 1, failed.stdout + failed.stderr
        assert "failed" in failed.stdout
        bad = wait_health(shell, "bad")
        assert "fetch" in bad["health_reasons"][0], bad

        spec = tmp_path / "sweep.yaml"
        spec.write_text(SPEC)
        shell.fine("sweep", "run", spec, "--detach")
        view = json.loads(shell.fine("sweep", "list", "-o", "json"))[0]
        assert view["counts"] == {"pending": 1}
        assert view["held"]["bench"].startswith("quarantined: the check did not run to its end")
        assert "bench (quarantined" in " ".join(shell.fine("sweep", "list").split())

        blobs.unlink()
        away.rename(blobs)
        wait_health(shell, "good")
        assert "1 of 1 trials ended; done" in shell.fine("sweep", "watch", "patient")
