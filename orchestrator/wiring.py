"""The only place where adapters are built: settings in, a running controller out."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from agent.broker import make_app, ring
from agent.jobs import Referenced, ReferenceJob
from orchestrator.client import CONFIG_NAME
from orchestrator.domain.errors import FarmError, NotAllowed, UserError
from orchestrator.embedded import Broker, broker, tied
from orchestrator.service import access, register
from orchestrator.service.farm import Farm
from orchestrator.service.reconcile import Scheduler
from orchestrator.settings import Settings
from orchestrator.store.blobs import FolderBlobs
from orchestrator.store.database import Database

if TYPE_CHECKING:
    from uvicorn import Server

log = logging.getLogger(__name__)

START_LIMIT_S = 15.0
AGENT_STOP_S = 15.0
REFERENCE_LIMIT_S = 600.0
REFERENCE_MEMORY_MIB = 16384


@dataclass(frozen=True)
class Controller:
    """A controller that answers. ``token`` is an administrator's."""

    farm: Farm
    url: str
    token: str
    broker: Broker


def build_farm(settings: Settings, broker_url: str) -> Farm:
    """The farm's ports over real adapters; the database is brought to the newest revision."""
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = Database(settings.sqlalchemy_url)
    database.migrate()
    app = make_app(broker_url, "benchfarm-controller")
    return Farm(
        settings=settings,
        database=database,
        blobs=FolderBlobs(settings.home / "blobs", settings.max_upload_bytes),
        ring=lambda device, attempt_id: ring(app, device, attempt_id),
        reference=compute_reference,
        now=lambda: datetime.now(UTC),
    )


def compute_reference(job: ReferenceJob) -> Referenced:
    """The FP32 reference in a child of this interpreter, under a time and a memory limit."""
    from agent.worker.isolate import Bounds, Cancel
    from agent.worker.runner import Runner

    bounds = Bounds(wall_s=REFERENCE_LIMIT_S, memory_mib=REFERENCE_MEMORY_MIB)
    with Cancel() as cancel:
        outcome = Runner("reference").reference(
            sys.executable, job, Path(job.folder), bounds, cancel
        )
    if outcome.failure is not None:
        return Referenced(failure=outcome.failure)
    answer: Referenced = outcome.answer
    return answer


@contextlib.contextmanager
def controller(settings: Settings) -> Iterator[Controller]:
    """API, scheduler and broker for as long as the block lasts; noted for the command line.

    Raises:
        UserError: the port is taken, or another controller holds this home.
        FarmError: the broker or the API did not start.
    """
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_lock(settings.home))
        listener = stack.enter_context(_listen(settings.host, settings.port))
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})
        if settings.broker_url:
            one_process = settings.broker_url.startswith("memory:")
            chosen = Broker(settings.broker_url, "that of BENCHFARM_BROKER_URL", one_process)
        else:
            chosen = stack.enter_context(broker(settings.home))
        farm = build_farm(settings, chosen.url)
        stack.callback(farm.database.close)
        token = _note_for_clients(farm)
        stack.enter_context(_serving(farm, chosen.url, listener))
        stack.enter_context(Scheduler(farm))
        yield Controller(farm, settings.url, token, chosen)


@contextlib.contextmanager
def local_agent(running: Controller, name: str) -> Iterator[None]:
    """This machine's own agent, registered as ``name``, beside the controller.

    In a process of its own, or, where the broker is in-process memory, in a thread of this one.
    """
    from agent.worker.settings import load

    home = running.farm.settings.home / "agent"
    _join(running, home, name)
    if running.broker.one_process:
        from agent.worker.service import Agent

        agent = Agent(load(home))
        agent.start()
        try:
            yield
        finally:
            agent.stop()
        return
    with _agent_process(home):
        yield


def build_runtimes(home: Path, names: Sequence[str], note: Callable[[str], None]) -> None:
    """Runtime environments for the local agent of ``home``, before it starts: what is there already
    is kept. ``names`` as for ``benchfarm-agent runtimes add``.

    Raises:
        FarmError: one could not be built; the message is the agent's.
    """
    from agent.worker import inspect
    from agent.worker.errors import AgentError

    wheelhouse = os.environ.get("BENCHFARM_WHEELHOUSE")
    runtimes = inspect.runtimes(home / "agent")
    try:
        for name in names:
            runtimes.build(name, Path(wheelhouse) if wheelhouse else None, note)
    except AgentError as error:
        raise FarmError(str(error)) from error


def wait_online(running: Controller, name: str, limit_s: float = 120.0) -> None:
    """Until the agent has said what it can run, and beats. Raises ``FarmError``."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        view = register.device(running.farm, name)
        if view.connection == "online" and view.runtimes:
            return
        time.sleep(0.1)
    log_path = running.farm.settings.home / "agent" / "agent.log"
    raise FarmError(f"the local agent did not come online in {limit_s:.0f} s; see {log_path}")


def _join(running: Controller, home: Path, name: str) -> None:
    """Enrol the local agent once; later starts only follow the controller's address."""
    from agent.worker.errors import NotJoined
    from agent.worker.join import join
    from agent.worker.settings import load, save

    try:
        config = load(home)
    except NotJoined:
        token = register.join_token(running.farm, name).join_token
        join(running.url, token, name, home)
        return
    if config.device != name:
        raise UserError(
            f"{home} is registered as {config.device!r}; keep that name, or use another --home"
        )
    from dataclasses import replace

    save(replace(config, controller_url=running.url, broker_url=running.broker.url))


@contextlib.contextmanager
def _agent_process(home: Path) -> Iterator[None]:
    environment = {**os.environ, "BENCHFARM_AGENT_HOME": str(home)}
    with (home / "agent.log").open("ab") as out:
        process = subprocess.Popen(
            tied([sys.executable, "-m", "agent.cli", "run"]),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            # Ctrl-C is the controller's: it stops the agent itself, in order
            start_new_session=True,
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=AGENT_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _lock(home: Path) -> Iterator[None]:
    with (home / "controller.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"another controller runs on {home}; stop it, or choose another --home"
            ) from None
        yield


@contextlib.contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise UserError(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another --port"
            ) from None
        yield listener


@contextlib.contextmanager
def _serving(farm: Farm, broker_url: str, listener: socket.socket) -> Iterator[None]:
    import uvicorn

    from orchestrator.api.app import create_app

    config = uvicorn.Config(
        create_app(farm, broker_url),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [listener]}, name="api", daemon=True
    )
    thread.start()
    try:
        _wait_started(server, thread)
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=10)


def _wait_started(server: Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise FarmError("the API did not start; the log above says why")
        time.sleep(0.02)


def _note_for_clients(farm: Farm) -> str:
    """Write ``client.json`` (mode 0600), which the command line on this machine reads.

    The administrator's token in it is kept for as long as this database knows it.
    """
    path = farm.settings.home / CONFIG_NAME
    token = ""
    if path.is_file():
        token = json.loads(path.read_text(encoding="utf-8")).get("token", "")
        try:
            access.identify(farm, token)
        except NotAllowed:
            token = ""
    if not token:
        with farm.database.transaction() as session:
            token = access.issue(farm, session, "admin", note="benchfarm up")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"url": farm.settings.url, "token": token}, file)
    return token
