"""The API in a thread, on a free port of this machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn

from orchestrator.api.app import create_app
from orchestrator.service.devices import tokens
from support.farms import BROKER_URL, FarmKit
from support.servers import free_port


class Served:
    """A farm's API at ``url``."""

    def __init__(self, kit: FarmKit, url: str) -> None:
        self.kit, self.url = kit, url

    def token(self, role: str, note: str = "") -> str:
        with self.kit.farm.database.transaction() as session:
            return tokens.issue(self.kit.farm, session, role, note=note)

    def http(self, token: str = "") -> httpx.Client:
        """A bare client below ``/api/v1``; the caller closes it."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=f"{self.url}/api/v1", headers=headers, timeout=30.0)


@contextmanager
def serving(kit: FarmKit) -> Iterator[Served]:
    port = free_port()
    config = uvicorn.Config(
        create_app(kit.farm, BROKER_URL), host="127.0.0.1", port=port, log_level="error"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="api under test")
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the API did not start"
            time.sleep(0.01)
        yield Served(kit, f"http://127.0.0.1:{port}")
    finally:
        server.should_exit = True
        thread.join()
