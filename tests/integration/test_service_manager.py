"""What provisioning runs on a board: joining with a token from stdin, the agent without a CLI."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from agent.worker import config
from support.controllers import JOIN_TOKEN, serving
from support.servers import free_port

LIMIT_S = 60


def agent(home: Path, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-m", *words],
        env={**os.environ, config.HOME_VARIABLE: str(home)},
        input=given,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )


def test_a_token_from_stdin_joins_and_the_agent_beats(tmp_path: Path) -> None:
    with serving(f"redis://127.0.0.1:{free_port()}/0") as controller:
        words = ("agent.cli", "join", controller.url, "-", "--name", "board")
        refused = agent(tmp_path, *words, given="not-it\n")
        assert refused.returncode == 2
        assert not (tmp_path / config.CONFIG_NAME).exists()

        joined = agent(tmp_path, *words, given=f"{JOIN_TOKEN}\n")
        assert joined.returncode == 0, joined.stderr
        assert JOIN_TOKEN not in joined.stdout + joined.stderr

        process = subprocess.Popen(
            [sys.executable, "-I", "-m", "agent.worker"],
            env={**os.environ, config.HOME_VARIABLE: str(tmp_path)},
            stderr=subprocess.DEVNULL,
        )
        try:
            controller.wait_for(lambda: controller.beats, within_s=LIMIT_S)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=LIMIT_S) == 0
        finally:
            process.kill()
            process.wait()


def test_one_that_has_not_joined_says_so(tmp_path: Path) -> None:
    ended = agent(tmp_path, "agent.worker")
    assert ended.returncode == 1
    assert "benchfarm-agent join URL TOKEN" in ended.stderr
    assert "Traceback" not in ended.stderr
