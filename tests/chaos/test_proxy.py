"""A proxy mode of one step: requests of that step fail, all others pass."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from chaos.proxy import Proxy
from chaos.schedule import STEPS

PATHS = {
    "start": ("POST", "/api/v1/attempts/a1/start"),
    "heartbeat": ("PUT", "/api/v1/devices/board/heartbeat"),
    "blob": ("PUT", "/api/v1/blobs/00"),
    "result": ("PUT", "/api/v1/attempts/a1/result"),
}


class Server:
    """Answers every request, and records its path."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        paths = self.paths

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                paths.append(self.path)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_PUT = do_POST = answer

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever)
    thread.start()
    yield made
    made.http.shutdown()
    thread.join()
    made.http.server_close()


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("what", ["lost", "unanswered"])
def test_one_step_fails_and_the_others_pass(server: Server, step: str, what: str) -> None:
    with (
        Proxy([server.http.server_address[:2]]) as proxy,  # type: ignore[list-item]
        httpx.Client(base_url=f"http://127.0.0.1:{proxy.port}", timeout=20) as client,
    ):
        proxy.set(f"{what}_{step}")
        others = [PATHS[name] for name in PATHS if name != step]
        for method, path in others:
            assert client.request(method, path, content=b"{}").status_code == 200
        method, path = PATHS[step]
        with pytest.raises(httpx.TransportError):
            client.request(method, path, content=b"{}")
        assert proxy.hits == 1
        assert (path in server.paths) == (what == "unanswered")
        proxy.set("pass")
        assert client.request(method, path, content=b"{}").status_code == 200
