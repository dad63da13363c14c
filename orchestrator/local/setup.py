"""The controller's machine as a device: its agent, enrolment and runtime environments."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.broker.redis_acl import credentials_of, with_credentials
from orchestrator.controller import Controller
from orchestrator.domain import builders
from orchestrator.domain.errors import FarmError, NotAllowed, UserError
from orchestrator.local.agent_process import supervised_agent
from orchestrator.service.devices import broker_users, devices, registration, tokens

if TYPE_CHECKING:
    from agent.worker.config import AgentConfig


@contextlib.contextmanager
def local_agent(running: Controller, name: str) -> Iterator[None]:
    """Run this machine's agent, enrolled as ``name``, for as long as the block lasts.

    It is a process of its own, or a thread of this one where the broker is in-process memory.
    """
    from agent.worker.config import load

    home = running.farm.settings.home / "agent"
    _enrol_or_update(running, home, name)
    if running.broker.one_process:
        from agent.worker.agent import Agent

        agent = Agent(load(home))
        agent.start()
        try:
            yield
        finally:
            agent.stop()
        return
    with supervised_agent(home):
        yield


def build_runtimes(home: Path, names: Sequence[str], note: Callable[[str], None]) -> None:
    """Build the local agent's missing runtime environments before it starts.

    ``names``: as for ``benchfarm-agent runtimes add``.

    Raises:
        FarmError: one could not be built; the message is the agent's.
    """
    from agent.worker import cli_support
    from agent.worker.errors import AgentError

    wheelhouse = os.environ.get("BENCHFARM_WHEELHOUSE")
    runtimes = cli_support.runtimes(home / "agent")
    try:
        for name in names:
            runtimes.build(name, Path(wheelhouse) if wheelhouse else None, note)
    except AgentError as error:
        raise FarmError(str(error)) from error


def wait_online(
    running: Controller, name: str, stop: threading.Event | None = None, limit_s: float = 120.0
) -> bool:
    """Wait until the agent is online and has reported its runtimes; false if ``stop`` was set.

    Raises:
        FarmError: not within ``limit_s``.
    """
    stop = stop or threading.Event()
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        view = devices.device(running.farm, name)
        if view.connection == "online" and view.runtimes:
            return True
        if stop.wait(0.1):
            return False
    log_path = running.farm.settings.home / "agent" / "agent.log"
    raise FarmError(f"the local agent did not come online in {limit_s:.0f} s; see {log_path}")


def _enrol_or_update(running: Controller, home: Path, name: str) -> None:
    """Enrol the local agent, or, if it is enrolled, update the controller's and broker's addresses.

    Raises:
        UserError: this machine is registered under another name.
    """
    from agent.worker.config import load, save
    from agent.worker.errors import NotJoined
    from agent.worker.uplink.enrol import join

    settings, again = running.farm.settings, False
    try:
        config = load(home)
        if config.device != name:
            raise UserError(
                f"{home} is registered as {config.device!r}; keep that name, or use another --home"
            )
        again = tokens.was_device_token(
            running.farm, config.token, name
        )  # it was rotated and may enrol again
        tokens.identify(running.farm, config.token)
    except (NotJoined, NotAllowed):  # never joined, or another database than this one
        # a builder by default; `device tag NAME builder=no` changes that
        tags = {builders.TAG: builders.YES}
        token = registration.join_token(running.farm, name, tags=tags, again=again).join_token
        join(running.url, token, name, home, settings.ca_path)
        return
    save(
        replace(
            config,
            controller_url=running.url,
            broker_url=_current_broker_url(running, config),
            ca_file=settings.ca_path,
        )
    )


def _current_broker_url(running: Controller, config: AgentConfig) -> str:
    """The broker's current URL with the local agent's credentials, which are renewed if needed."""
    farm, url = running.farm, running.broker.url
    user, password = credentials_of(config.broker_url)
    if farm.broker_access is None:
        return url
    if broker_users.broker_digests(farm).get(config.device) == tokens.digest(password):
        return with_credentials(url, user, password)
    return registration.new_broker_url(farm, config.device)
