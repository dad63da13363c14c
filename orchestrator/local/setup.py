"""This machine as a device of its own farm: its agent, enrolment and runtime environments."""

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
from orchestrator.local.agent_process import kept_running
from orchestrator.service.devices import broker_users, devices, registration, tokens

if TYPE_CHECKING:
    from agent.worker.config import AgentConfig


@contextlib.contextmanager
def local_agent(running: Controller, name: str) -> Iterator[None]:
    """This machine's own agent, registered as ``name``, beside the controller.

    In a process of its own, or, where the broker is in-process memory, in a thread of this one.
    """
    from agent.worker.config import load

    home = running.farm.settings.home / "agent"
    _join(running, home, name)
    if running.broker.one_process:
        from agent.worker.agent import Agent

        agent = Agent(load(home))
        agent.start()
        try:
            yield
        finally:
            agent.stop()
        return
    with kept_running(home):
        yield


def build_runtimes(home: Path, names: Sequence[str], note: Callable[[str], None]) -> None:
    """Runtime environments for the local agent of ``home``, before it starts: what is there already
    is kept. ``names`` as for ``benchfarm-agent runtimes add``.

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
    """Until the agent has said what it can run, and beats; false if ``stop`` was set before.

    Raises:
        FarmError: it did not within ``limit_s``.
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


def _join(running: Controller, home: Path, name: str) -> None:
    """Enrol the local agent once; later starts only follow the controller's address.

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
        again = tokens.was_of(running.farm, config.token, name)  # rotated: it is still ours
        tokens.identify(running.farm, config.token)
    except (NotJoined, NotAllowed):  # never joined, or another database than this one
        # the controller's machine usually has every tool; `device tag NAME builder=no` says no
        tags = {builders.TAG: builders.YES}
        token = registration.join_token(running.farm, name, tags=tags, again=again).join_token
        join(running.url, token, name, home, settings.ca_path)
        return
    save(
        replace(
            config,
            controller_url=running.url,
            broker_url=_followed(running, config),
            ca_file=settings.ca_path,
        )
    )


def _followed(running: Controller, config: AgentConfig) -> str:
    """The broker's address as it is now, with the credentials that the local agent has for it."""
    farm, url = running.farm, running.broker.url
    user, password = credentials_of(config.broker_url)
    if farm.doors is None:
        return url
    if broker_users.digests(farm).get(config.device) == tokens.digest(password):
        return with_credentials(url, user, password)
    return registration.broker_url_of(farm, config.device)
