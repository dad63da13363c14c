"""The HTTP API over a real socket: blobs up and down, truncated, too large, on a slow disk."""

from __future__ import annotations

import errno
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from orchestrator.api.blob_routes import SMALL_BYTES
from orchestrator.client import Client
from orchestrator.domain.errors import UserError
from support.http_calls import BYTES, SHA256, beat, kind
from support.serving import Served


def test_blobs_go_in_and_come_out_whole_and_by_range(served: Served) -> None:
    path = f"/blobs/{SHA256}"
    with served.http(served.token("operator")) as person:
        assert person.head(path).status_code == 404
        assert kind(person.get(path)) == (404, "not_found")
        assert person.put(path, content=BYTES).status_code == 201
        assert person.put(path, content=BYTES).status_code == 200
        head = person.head(path)
        assert (head.status_code, head.headers["content-length"]) == (200, str(len(BYTES)))
        assert head.headers["etag"] == f'"{SHA256}"'
        assert person.get(path).content == BYTES
        rest = person.get(path, headers={"Range": "bytes=10000-"})
        assert (rest.status_code, rest.content) == (206, BYTES[10000:])
        assert rest.headers["content-range"] == f"bytes 10000-{len(BYTES) - 1}/{len(BYTES)}"
        beyond = person.get(path, headers={"Range": f"bytes={len(BYTES)}-"})
        assert beyond.status_code == 416


def test_a_folder_is_sent_as_one_archive(served: Served, operator: Client, tmp_path: Path) -> None:
    """Without TensorFlow the complete archive is refused only because the runtime is missing."""
    folder = tmp_path / "net"
    (folder / "variables").mkdir(parents=True)
    (folder / "variables" / "variables.index").write_bytes(b"index")
    with pytest.raises(UserError, match=r"net: this folder holds no saved_model\.pb"):
        operator.add_model(folder)
    (folder / "saved_model.pb").write_bytes(b"\x08\x01")
    with pytest.raises(UserError, match=f"^{re.escape(str(folder))}: .*tensorflow"):
        operator.add_model(folder)
    with pytest.raises(UserError, match="not a TFLite model"):
        operator.add_model(folder, form="tflite")
    assert served.kit.blobs() == set()


def test_a_damaged_or_oversize_upload_leaves_nothing(
    served: Served, operator: Client, board: httpx.Client, tmp_path: Path
) -> None:
    answer = board.put(f"/blobs/{SHA256}", content=BYTES[:-1])
    assert kind(answer) == (422, "bad_input")
    assert "hashes to" in answer.json()["error"]["message"]
    for name in ("xyz", SHA256.upper(), "0" * 63):
        assert kind(board.put(f"/blobs/{name}", content=b"x")) == (422, "bad_input")
        assert kind(board.get(f"/blobs/{name}")) == (422, "bad_input")
    big = tmp_path / "big.onnx"
    big.write_bytes(os.urandom(served.kit.farm.settings.max_upload_bytes * 8))
    with pytest.raises(UserError, match="larger than 1 MiB"):
        operator.add_model(big)
    assert served.kit.blobs() == set()


def test_an_upload_that_breaks_off_leaves_nothing(served: Served, board: httpx.Client) -> None:
    def broken() -> Iterator[bytes]:
        yield BYTES
        raise OSError("cable")

    with pytest.raises(OSError, match="cable"):
        board.put(f"/blobs/{SHA256}", content=broken())
    # what the first upload left does not disturb another of the same blob
    assert board.put(f"/blobs/{SHA256}", content=BYTES).status_code == 201
    assert [b for b in served.kit.blobs() if not b.startswith(".incoming")] == [SHA256]


@pytest.mark.parametrize("size", [200, 2 * SMALL_BYTES])
def test_an_upload_that_breaks_off_is_no_error_of_the_controller(
    served: Served, board: httpx.Client, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    said: list[str] = []
    log = logging.getLogger("uvicorn.error")
    monkeypatch.setattr(log, "error", lambda message, *_, **__: said.append(message))
    url = httpx.URL(served.url)
    head = (
        f"PUT /api/v1/blobs/{SHA256} HTTP/1.1\r\nHost: {url.host}\r\n"
        f"Content-Length: {size}\r\nAuthorization: {board.headers['authorization']}\r\n\r\n"
    )
    with socket.create_connection((url.host, url.port or 80)) as line:
        line.sendall(head.encode() + BYTES[:100])
        if size > SMALL_BYTES:  # a smaller body is read completely before it is written
            _until(lambda: bool(served.kit.blobs()))
    _until(lambda: not served.kit.blobs())
    assert board.put("/devices/board/heartbeat", json=beat()).status_code == 200
    assert said == []


def _until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_others_are_answered_while_a_disk_is_slow(
    served: Served, board: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heartbeats must not wait for the fsync of an upload: leases would run out."""
    slow, done, statuses = threading.Event(), threading.Event(), list[int]()

    def wait(_descriptor: int) -> None:
        slow.set()
        assert done.wait(20)

    def upload() -> None:
        with served.http(served.token("operator")) as http:
            statuses.append(http.put(f"/blobs/{SHA256}", content=BYTES).status_code)

    monkeypatch.setattr(os, "fsync", wait)
    thread = threading.Thread(target=upload)
    thread.start()
    try:
        assert slow.wait(20)
        assert board.put("/devices/board/heartbeat", json=beat()).status_code == 200
    finally:
        done.set()
        thread.join()
    assert statuses == [201]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_full_disk_is_told_and_nothing_is_kept(
    served: Served, board: httpx.Client, monkeypatch: pytest.MonkeyPatch, streamed: bool
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = f"/blobs/{SHA256}"
    monkeypatch.setattr(os, "fsync", full)
    answer = board.put(path, content=iter([BYTES]) if streamed else BYTES)
    assert kind(answer) == (503, "out_of_room")
    assert "No space left on device" in answer.json()["error"]["message"]
    assert answer.headers["retry-after"]
    assert served.kit.blobs() == set()
    monkeypatch.undo()
    assert board.put(path, content=BYTES).status_code == 201
