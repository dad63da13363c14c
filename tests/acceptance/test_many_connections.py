"""A controller that starts with a service manager's low limit of open files serves many boards."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
from pathlib import Path
from urllib.parse import urlsplit

from support.cli import running

LIMIT = 128
CONNECTIONS = 400
REQUEST = b"GET /api/v1/ HTTP/1.1\r\nHost: controller\r\n\r\n"


def test_boards_connect_past_the_soft_limit_of_open_files(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, hard))
        try:
            shell = stack.enter_context(running(tmp_path / "home", ()))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        url = urlsplit(json.loads((shell.home / "client.json").read_text())["url"])
        boards = [
            stack.enter_context(socket.create_connection((url.hostname, url.port), timeout=60))
            for _ in range(CONNECTIONS)
        ]
        for board in boards:  # all at once: none is closed before the last one is answered
            board.sendall(REQUEST)
        answers = [board.recv(1 << 16)[:8] for board in boards]
    assert answers == [b"HTTP/1.1"] * CONNECTIONS
    assert "Too many open files" not in (tmp_path / "home" / "up.log").read_text()
