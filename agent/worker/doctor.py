"""Checks of this board and of its way to the controller; a failed one says what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent import broker, facts
from agent.worker import cli_support
from agent.worker.config import AgentConfig, load
from agent.worker.errors import AgentError
from agent.worker.isolation import agent_cgroup
from agent.worker.uplink.http_client import Uplink

SKEW_LIMIT_S = 30.0
FREE_LIMIT_MIB = 1024.0


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    check: str
    ok: bool
    text: str


def examine(state_dir: Path) -> list[Finding]:
    """All checks; without ``agent.json`` only those that need none."""
    try:
        config = load(state_dir)
    except AgentError as error:
        return [Finding("joined", False, str(error)), *_local(state_dir)]
    findings = [Finding("joined", True, f"as {config.device} to {config.controller_url}")]
    try:
        with Uplink(config.controller_url, config.token, ca_file=config.ca_file) as uplink:
            findings += [
                _check("controller", lambda: _controller(uplink)),
                _check("clock", lambda: _clock(uplink)),
                _check("token", lambda: _token(uplink, config)),
            ]
    except AgentError as error:
        findings.append(Finding("controller", False, str(error)))
    findings.append(_check("broker", lambda: _broker(config)))
    return [*findings, *_local(state_dir)]


def _local(state_dir: Path) -> list[Finding]:
    return [
        _check("disk", lambda: _disk(state_dir)),
        _check("runtimes", lambda: _runtimes(state_dir)),
        _check("bounds", lambda: _bounds(state_dir)),
    ]


def _check(name: str, look: Callable[[], tuple[bool, str]]) -> Finding:
    try:
        ok, text = look()
    except (AgentError, OSError) as error:
        return Finding(name, False, str(error))
    return Finding(name, ok, text)


def _controller(uplink: Uplink) -> tuple[bool, str]:
    uplink.clock_skew_s()
    return True, "answers"


def _clock(uplink: Uplink) -> tuple[bool, str]:
    skew_s = uplink.clock_skew_s()
    text = f"{abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} the controller's"
    return abs(skew_s) <= SKEW_LIMIT_S, text


def _token(uplink: Uplink, config: AgentConfig) -> tuple[bool, str]:
    uplink.check_token(config.device)
    return True, "accepted"


def _broker(config: AgentConfig) -> tuple[bool, str]:
    if config.broker_url.startswith("memory:"):
        return False, "memory:// works within the controller's own process only"
    app = broker.make_app(config.broker_url, "doctor", config.ca_file)
    why = broker.no_answer(app)
    return not why, why or f"{app.connection_for_write().as_uri()} answers"


def _disk(state_dir: Path) -> tuple[bool, str]:
    free = facts.collect(state_dir).storage_free_mib or 0.0
    return free >= FREE_LIMIT_MIB, f"{free:.0f} MiB free, {FREE_LIMIT_MIB:.0f} are wanted"


def _runtimes(state_dir: Path) -> tuple[bool, str]:
    found = cli_support.environments(state_dir).facts()
    answering = [f"{r.backend} {r.version}" for r in found if not r.missing]
    return bool(answering), ", ".join(answering) or "none answers; see `benchfarm-agent probe`"


def _bounds(state_dir: Path) -> tuple[bool, str]:
    """What bounds the agent's children. Never a failure, for the agent works either way."""
    try:
        return True, (state_dir / agent_cgroup.NOTE_NAME).read_text("utf-8").strip()
    except FileNotFoundError:
        return True, "not known before an agent has run as a process of its own"
