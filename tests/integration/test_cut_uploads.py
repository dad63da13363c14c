"""An upload over a connection that is cut, from the agent's own client to the real API."""

from __future__ import annotations

import fcntl
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from agent.worker.errors import ControllerUnreachable
from agent.worker.uplink.http_client import Uplink
from orchestrator.service.devices import retirement
from orchestrator.store.blobs import PARTIAL
from support.farms import FarmKit
from support.played_board import sha
from support.serving import Served, serving

CONTENT = os.urandom(800_000)
SHA = sha(CONTENT)
ALL = {"Content-Range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"}
CUT_AFTER = 300_000


@pytest.fixture
def served(sqlite_farm: FarmKit) -> Iterator[Served]:
    with serving(sqlite_farm) as running:
        yield running


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / SHA
    path.write_bytes(CONTENT)
    return path


class Line:
    """A forwarder of one port: ``limit`` bytes a connection, then the line is dead."""

    def __init__(self, to: str, limit: int) -> None:
        parts = urlsplit(to)
        self._to = (parts.hostname, parts.port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.limit = limit
        self.passed = 0

    def run(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                with near, socket.create_connection(self._to) as far:
                    self._forward(near, far)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _forward(self, near: socket.socket, far: socket.socket) -> None:
        back = threading.Thread(target=self._answers, args=(far, near))
        back.start()
        left = self.limit
        with suppress(OSError):
            while left and (chunk := near.recv(min(left, 65536))):
                far.sendall(chunk)
                left -= len(chunk)
                self.passed += len(chunk)
        for end in (far, near):
            with suppress(OSError):
                end.shutdown(socket.SHUT_WR if end is far else socket.SHUT_RDWR)
        back.join()

    @staticmethod
    def _answers(far: socket.socket, near: socket.socket) -> None:
        with suppress(OSError):
            while chunk := far.recv(65536):
                near.sendall(chunk)


@contextmanager
def line(to: str, limit: int) -> Iterator[Line]:
    made = Line(to, limit)
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        yield made
    finally:
        made.close()
        thread.join()


def arrived(uplink: Uplink) -> int | None:
    """Once the controller has noticed the cut."""
    deadline = time.monotonic() + 20
    while (found := uplink.uploaded(SHA)) == 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def test_a_cut_upload_goes_on_where_it_stopped(served: Served, file: Path) -> None:
    token = served.kit.enrol("board").token
    with (
        line(served.url, CUT_AFTER) as cut,
        Uplink(cut.url, token) as uplink,
        pytest.raises(ControllerUnreachable),
    ):
        uplink.put_blob(SHA, file, 0)
    with line(served.url, 1 << 30) as whole, Uplink(whole.url, token) as uplink:
        start = arrived(uplink)
        assert start is not None
        assert CUT_AFTER - 2000 < start < CUT_AFTER, "all but the request's head arrived"
        before = whole.passed
        uplink.put_blob(SHA, file, start)
        assert whole.passed - before < len(CONTENT) - start + 2000
    assert served.kit.farm.blobs.read(SHA) == CONTENT
    assert served.kit.blobs() == {SHA}


def test_what_lies_here_damaged_is_sent_anew(served: Served, file: Path) -> None:
    token = served.kit.enrol("board").token
    with Uplink(served.url, token) as uplink, served.http(token) as http:
        answer = http.put(f"/blobs/{SHA}", content=b"x" * 1000, headers=ALL)
        assert (answer.status_code, answer.headers["upload-offset"]) == (202, "1000")
        assert uplink.uploaded(SHA) == 1000
        uplink.put_blob(SHA, file, 1000)
    assert served.kit.farm.blobs.read(SHA) == CONTENT


def test_a_controller_that_has_less_than_was_thought_is_sent_all(
    served: Served, file: Path
) -> None:
    with Uplink(served.url, served.kit.enrol("board").token) as uplink:
        uplink.put_blob(SHA, file, 5000)
    assert served.kit.farm.blobs.read(SHA) == CONTENT


def test_while_another_request_has_it_the_board_is_to_come_back(served: Served) -> None:
    with served.http(served.kit.enrol("board").token) as http:
        http.put(f"/blobs/{SHA}", content=CONTENT[:5000], headers=ALL)
        [begun] = (served.kit.farm.blobs.root / PARTIAL).iterdir()
        with begun.open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            answer = http.put(f"/blobs/{SHA}", content=CONTENT, headers=ALL)
            assert answer.status_code == 503
            assert "try again in a moment" in answer.json()["error"]["message"]
        assert http.put(f"/blobs/{SHA}", content=CONTENT, headers=ALL).status_code == 201


def test_nobody_is_told_of_anothers_upload(served: Served, file: Path) -> None:
    kit = served.kit
    token = kit.enrol("a").token
    with (
        Uplink(served.url, token) as a,
        Uplink(served.url, kit.enrol("b").token) as b,
        served.http(token) as http,
    ):
        http.put(f"/blobs/{SHA}", content=CONTENT[:5000], headers=ALL)
        assert (a.uploaded(SHA), b.uploaded(SHA)) == (5000, 0)
        unknown = http.head(f"/blobs/{'0' * 64}")
        assert (unknown.status_code, "upload-offset" in unknown.headers) == (404, False)
        b.put_blob(SHA, file, 0)
        assert a.uploaded(SHA) == 5000, "that b handed it in is no business of a's"
        retirement.retire(kit.farm, "a")
        assert kit.blobs() == {SHA}


@pytest.mark.parametrize(
    ("header", "status"),
    [("bytes 0-0", 422), ("bytes 0-9/99999999999", 422), ("bytes 5-9/10", 416)],
)
def test_parts_that_are_none(served: Served, header: str, status: int) -> None:
    with served.http(served.kit.enrol("board").token) as http:
        answer = http.put(f"/blobs/{SHA}", content=b"x", headers={"Content-Range": header})
        assert answer.status_code == status
        assert (answer.headers.get("upload-offset") == "0") == (status == 416)
    assert not any(served.kit.farm.blobs.stored())


def test_a_viewer_may_not(served: Served) -> None:
    with served.http(served.token("viewer")) as http:
        part = {"Content-Range": "bytes 0-9/10"}
        assert http.put(f"/blobs/{SHA}", content=b"x" * 10, headers=part).status_code == 403
