"""Builds the adapters and connects them to the use cases: settings in, running controller out."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import replace

from agent import tls
from agent.broker import make_app, no_answer
from orchestrator import addresses
from orchestrator.broker.background_publisher import BackgroundPublisher
from orchestrator.broker.embedded import Broker, embedded_broker
from orchestrator.broker.redis_acl import RedisAcl
from orchestrator.broker.redis_publisher import DoorbellPublisher
from orchestrator.client_file import CLIENT_FILE, read_client_file, write_client_file
from orchestrator.controller import Controller
from orchestrator.domain.errors import FarmError, NotAllowed, UserError
from orchestrator.farm_store import open_blobs, open_migrated_database
from orchestrator.home import exclusive_home, make_home
from orchestrator.http_server import listening_socket, running_api
from orchestrator.inspection.client import ConfinedInspector
from orchestrator.local.reference_runs import ReferenceRunner
from orchestrator.service import rate_control
from orchestrator.service.context import FarmContext
from orchestrator.service.devices import tokens
from orchestrator.service.devices.broker_users import BrokerUsersSync
from orchestrator.service.farm_clock import FarmClock, time_source
from orchestrator.service.ports import BrokerAccess, BrokerAccessFailed
from orchestrator.service.scheduling.scheduler import Scheduler
from orchestrator.settings import Settings, reaches_one_machine

log = logging.getLogger(__name__)


@contextlib.contextmanager
def controller(settings: Settings) -> Iterator[Controller]:
    """API, scheduler and broker run for as long as the block lasts.

    Raises:
        UserError: the port is taken, or another controller uses this home.
        FarmError: the database cannot be used; the broker or the API did not start.
    """
    make_home(settings.home)
    with contextlib.ExitStack() as stack:
        stack.enter_context(exclusive_home(settings.home))
        listener = stack.enter_context(listening_socket(settings.host, settings.port))
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})
        settings, url = addresses.certified(settings)
        _require_authority(settings)
        broker, access = stack.enter_context(_broker(settings))
        farm = build_farm(settings, broker.url, access)
        stack.callback(farm.database.close)
        publisher = BackgroundPublisher(farm.publish_doorbell, settings.dispatch_s)
        stack.callback(publisher.close)
        farm = replace(farm, publish_doorbell=publisher)
        rate_control.refresh_pace(farm)  # before the first heartbeat is answered
        token = _write_client_file(farm, url)
        stack.enter_context(running_api(farm, broker.url, listener))
        stack.enter_context(BrokerUsersSync(farm))
        stack.enter_context(Scheduler(farm))
        yield Controller(farm, url, token, broker, lambda: broker_fault(settings, access))


def build_farm(
    settings: Settings, broker_url: str, broker_access: BrokerAccess | None = None
) -> FarmContext:
    """The use cases' ports over real adapters; upgrades the database to the newest revision."""
    make_home(settings.home)
    database = open_migrated_database(settings)
    app = make_app(broker_url, "benchfarm-controller", settings.ca_path)
    clock = FarmClock(time_source(database))
    return FarmContext(
        settings=settings,
        database=database,
        blobs=open_blobs(settings),
        publish_doorbell=DoorbellPublisher(app),
        compute_reference=ReferenceRunner(settings.home / "agent"),
        now=clock.now,
        inspect=ConfinedInspector(settings.home, settings.inspect_s, settings.inspect_mib),
        broker_access=broker_access,
        check_clock=clock.synchronise,
    )


@contextlib.contextmanager
def _broker(settings: Settings) -> Iterator[tuple[Broker, RedisAcl | None]]:
    """The broker that BENCHFARM_BROKER_URL names, with its users, or else an embedded one.

    The embedded one needs no users: its socket is open to this system user alone.
    """
    if not settings.broker_url:
        with embedded_broker(settings.home) as broker:
            yield broker, None
        return
    one_process = settings.broker_url.startswith("memory:")
    broker = Broker(settings.broker_url, "that of BENCHFARM_BROKER_URL", one_process)
    with _broker_access(settings) as access:
        yield broker, access


def broker_fault(settings: Settings, access: RedisAcl | None) -> str:
    """``Controller.broker_fault``; the embedded broker has none."""
    if not settings.broker_url:
        return ""
    why = no_answer(make_app(settings.broker_url, "benchfarm-controller", settings.ca_path))
    if why or access is None or reaches_one_machine(settings.broker_url):
        return why
    try:
        return access.closed_to_boards()
    except BrokerAccessFailed as error:
        return str(error)


def _require_authority(settings: Settings) -> None:
    try:
        tls.require_authority(settings.ca_path)
    except tls.BadAuthority as error:
        raise UserError(f"{error} (BENCHFARM_CA_FILE)") from None


@contextlib.contextmanager
def _broker_access(settings: Settings) -> Iterator[RedisAcl | None]:
    """Access control of the broker that BENCHFARM_BROKER_URL names; ``None`` where it has none.

    A broker that does not answer is no error: doorbells are published again later.

    Raises:
        FarmError: BENCHFARM_BROKER_ACL demands users, and the broker does not let us make them.
    """
    if settings.broker_acl == "off" or not settings.broker_url.startswith(("redis:", "rediss:")):
        yield None
        return
    access = RedisAcl(settings.broker_url, settings.ca_path)
    try:
        with contextlib.suppress(BrokerAccessFailed):
            warning = access.warning()
            if warning and settings.broker_acl == "on":
                raise FarmError(f"{warning}; BENCHFARM_BROKER_ACL=on demands better")
            if warning:
                log.warning("%s", warning)
        yield access
    finally:
        access.close()


def _write_client_file(farm: FarmContext, url: str) -> str:
    """Write ``client.json`` for the command line on this machine; returns the administrator's token
    in it, which is kept for as long as this database knows it."""
    path = farm.settings.home / CLIENT_FILE
    try:
        token = read_client_file(path).get("token", "")
        tokens.identify(farm, token)
    except (UserError, NotAllowed):  # damaged, missing, or of another database
        token = ""
    if not token:
        with farm.database.transaction() as session:
            token = tokens.issue(farm, session, "admin", note="benchfarm up")
    write_client_file(path, url, token, farm.settings.ca_path)
    return token
