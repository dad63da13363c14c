"""An API over a real socket, an operator's client, and an online device."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from orchestrator.client import Client
from support.farms import FarmKit
from support.http_calls import beat
from support.serving import Served, serving


@pytest.fixture
def served(sqlite_farm: FarmKit) -> Iterator[Served]:
    with serving(sqlite_farm) as running:
        yield running


@pytest.fixture
def operator(served: Served) -> Iterator[Client]:
    with Client(served.url, served.token("operator")) as client:
        yield client


@pytest.fixture
def board(served: Served) -> Iterator[httpx.Client]:
    """HTTP with the token of the enrolled, online device ``board``."""
    with served.http(served.kit.enrol("board").token) as http:
        assert http.put("/devices/board/heartbeat", json=beat()).status_code == 200
        yield http
