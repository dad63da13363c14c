"""The API's HTTP server: its listening socket, and uvicorn in a thread of its own."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.domain.errors import FarmError, UserError
from orchestrator.service.context import FarmContext

if TYPE_CHECKING:
    from uvicorn import Config, Server

START_LIMIT_S = 15.0


@contextlib.contextmanager
def listening_socket(host: str, port: int) -> Iterator[socket.socket]:
    """A TCP socket bound to ``host`` and ``port`` (0: any free port). Raises ``UserError``."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise UserError(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another --host or --port"
            ) from None
        yield listener


@contextlib.contextmanager
def running_api(farm: FarmContext, broker_url: str, listener: socket.socket) -> Iterator[None]:
    """The API answers on ``listener`` for as long as the block lasts.

    Raises:
        UserError: certificate or key cannot be used.
        FarmError: the server did not start.
    """
    import uvicorn

    server = uvicorn.Server(_uvicorn_config(farm, broker_url))
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [listener]}, name="api", daemon=True
    )
    thread.start()
    try:
        _wait_until_started(server, thread)
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=10)


def _uvicorn_config(farm: FarmContext, broker_url: str) -> Config:
    """Raises ``UserError`` where the TLS files cannot be used."""
    import uvicorn

    from orchestrator.api.app import create_app

    config = uvicorn.Config(
        create_app(farm, broker_url),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        ssl_certfile=farm.settings.tls_certificate,
        ssl_keyfile=farm.settings.tls_key,
    )
    try:
        config.load()
    except OSError as error:  # ssl.SSLError too
        raise UserError(
            f"BENCHFARM_TLS_CERTIFICATE {farm.settings.tls_certificate} with BENCHFARM_TLS_KEY "
            f"{farm.settings.tls_key} cannot be used: {error.strerror or error}"
        ) from None
    return config


def _wait_until_started(server: Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise FarmError("the API did not start; the log above says why")
        time.sleep(0.02)
