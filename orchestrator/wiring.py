"""The only place where adapters are built: settings in, a running controller out."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from alembic.util import CommandError
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from agent.broker import make_app, no_answer
from orchestrator.broker.background_publisher import BackgroundPublisher
from orchestrator.broker.embedded import Broker, broker
from orchestrator.broker.redis_acl import RedisAcl
from orchestrator.broker.redis_publisher import DoorbellPublisher
from orchestrator.client import CONFIG_NAME, noted
from orchestrator.controller import Controller
from orchestrator.domain.errors import FarmError, NotAllowed, UserError
from orchestrator.inspection.client import ConfinedInspector
from orchestrator.local.reference_runs import ReferenceRunner
from orchestrator.service import rate_control
from orchestrator.service.context import FarmContext
from orchestrator.service.devices import tokens
from orchestrator.service.devices.broker_users import BrokerUsersSync
from orchestrator.service.farm_clock import FarmClock, source_of
from orchestrator.service.ports import BrokerAccess, BrokerAccessFailed
from orchestrator.service.scheduling.scheduler import Scheduler
from orchestrator.settings import Settings
from orchestrator.store.blobs import FolderBlobs
from orchestrator.store.database import Database

if TYPE_CHECKING:
    from uvicorn import Server


log = logging.getLogger(__name__)

START_LIMIT_S = 15.0


def build_farm(
    settings: Settings, broker_url: str, doors: BrokerAccess | None = None
) -> FarmContext:
    """The farm's ports over real adapters; the database is brought to the newest revision."""
    _make_home(settings.home)
    database = _database(settings)
    app = make_app(broker_url, "benchfarm-controller", settings.ca_path)
    clock = FarmClock(source_of(database))
    return FarmContext(
        settings=settings,
        database=database,
        blobs=FolderBlobs(settings.blobs_folder, settings.max_upload_bytes),
        ring=DoorbellPublisher(app),
        reference=ReferenceRunner(settings.home / "agent"),
        now=clock.now,
        inspect=ConfinedInspector(settings.home, settings.inspect_s, settings.inspect_mib),
        doors=doors,
        look=clock.look,
    )


@contextlib.contextmanager
def store(settings: Settings, *, make: bool = False) -> Iterator[tuple[Database, FolderBlobs]]:
    """A farm's database as it is, at whatever revision, and its blobs; without a controller.

    Raises:
        UserError: there is none, unless it is to be made.
        FarmError: the database does not answer.
    """
    url = make_url(settings.sqlalchemy_url)
    file = Path(url.database or "") if url.drivername.startswith("sqlite") else None
    if not make and file is not None and not file.is_file():
        raise UserError(f"there is no farm here: {file} is missing; choose another --home")
    _make_home(settings.home)
    try:
        database = Database(settings.sqlalchemy_url)
        try:
            yield database, FolderBlobs(settings.blobs_folder, settings.max_upload_bytes)
        finally:
            database.close()
    except SQLAlchemyError as error:
        raise _unusable(settings, error) from None


def _unusable(settings: Settings, error: Exception) -> FarmError:
    shown = make_url(settings.sqlalchemy_url).render_as_string(hide_password=True)
    first = str(error).strip().splitlines()[0]
    return FarmError(
        f"the database {shown} cannot be used: {first}; is BENCHFARM_DATABASE_URL right?"
    )


def _make_home(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UserError(
            f"{home} cannot be made ({error.strerror}); choose another --home"
        ) from None


def _database(settings: Settings) -> Database:
    try:
        database = Database(settings.sqlalchemy_url)
        database.migrate()
    except (SQLAlchemyError, CommandError) as error:
        raise _unusable(settings, error) from None
    return database


@contextlib.contextmanager
def controller(settings: Settings) -> Iterator[Controller]:
    """API, scheduler and broker for as long as the block lasts; noted for the command line.

    Raises:
        UserError: the port is taken, or another controller holds this home.
        FarmError: the database cannot be used; the broker or the API did not start.
    """
    _make_home(settings.home)
    with contextlib.ExitStack() as stack:
        stack.enter_context(alone(settings.home))
        listener = stack.enter_context(_listen(settings.host, settings.port))
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})
        if settings.broker_url:
            one_process = settings.broker_url.startswith("memory:")
            chosen = Broker(settings.broker_url, "that of BENCHFARM_BROKER_URL", one_process)
            doors = stack.enter_context(_doors(settings))
        else:  # its socket opens to this user alone, who could read every password anyway
            chosen = stack.enter_context(broker(settings.home))
            doors = None
        farm = build_farm(settings, chosen.url, doors)
        stack.callback(farm.database.close)
        ringer = BackgroundPublisher(farm.ring, settings.dispatch_s)
        stack.callback(ringer.close)
        farm = replace(farm, ring=ringer)
        rate_control.look(farm)  # before any board is told how often to beat
        token = _note_for_clients(farm)
        stack.enter_context(_serving(farm, chosen.url, listener))
        stack.enter_context(BrokerUsersSync(farm))
        stack.enter_context(Scheduler(farm))
        yield Controller(farm, settings.url, token, chosen)


@contextlib.contextmanager
def _doors(settings: Settings) -> Iterator[RedisAcl | None]:
    """The users of the broker that BENCHFARM_BROKER_URL names; none where it can have none.

    That it does not answer is a warning: doorbells are rung again once it is there.

    Raises:
        FarmError: BENCHFARM_BROKER_ACL demands users, and the broker lets us make none.
    """
    why = no_answer(make_app(settings.broker_url, "benchfarm-controller", settings.ca_path))
    if why:
        log.warning("the broker of BENCHFARM_BROKER_URL does not answer, nothing runs: %s", why)
    if settings.broker_acl == "off" or not settings.broker_url.startswith(("redis:", "rediss:")):
        yield None
        return
    users = RedisAcl(settings.broker_url, settings.ca_path)
    try:
        with contextlib.suppress(BrokerAccessFailed):
            warning = users.warning()
            if warning and settings.broker_acl == "on":
                raise FarmError(f"{warning}; BENCHFARM_BROKER_ACL=on demands better")
            if warning:
                log.warning("%s", warning)
        yield users
    finally:
        users.close()


@contextlib.contextmanager
def alone(home: Path) -> Iterator[None]:
    """No controller runs on ``home`` while the block lasts. Raises ``UserError``."""
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
                f"cannot listen on {host}:{port}: {error.strerror}; choose another --host or --port"
            ) from None
        yield listener


@contextlib.contextmanager
def _serving(farm: FarmContext, broker_url: str, listener: socket.socket) -> Iterator[None]:
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


def _note_for_clients(farm: FarmContext) -> str:
    """Write ``client.json`` (mode 0600), which the command line on this machine reads.

    The administrator's token in it is kept for as long as this database knows it.
    """
    from agent.worker.config import write_atomically

    path = farm.settings.home / CONFIG_NAME
    try:
        token = noted(path).get("token", "")
        tokens.identify(farm, token)
    except (UserError, NotAllowed):  # damaged, none, or another database's
        token = ""
    if not token:
        with farm.database.transaction() as session:
            token = tokens.issue(farm, session, "admin", note="benchfarm up")
    found = {"url": farm.settings.url, "token": token, "ca_file": farm.settings.ca_path}
    write_atomically(path, json.dumps(found), mode=0o600)
    return token
