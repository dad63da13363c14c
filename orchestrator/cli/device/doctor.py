"""``benchfarm device doctor``: everything between the controller and one device, checked."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from orchestrator.cli.context import CliContext
from orchestrator.cli.device.ssh_options import ASK_PASSWORD, IDENTITY, SSH, address_of, login_to
from orchestrator.cli.output import OUTPUT_OPTION, OutputFormat, duration, show

if TYPE_CHECKING:
    from orchestrator.service.views import DeviceView
    from playbooks.doctor import DoctorFinding

_FIXED_BY_UP = frozenset({"joined", "token", "controller"})
"""Checks that ``benchfarm up`` repairs for the local agent."""


def doctor(
    context: typer.Context,
    name: str,
    output: OutputFormat = OUTPUT_OPTION,
    ssh: str = SSH,
    identity: str = IDENTITY,
    ask_password: bool = ASK_PASSWORD,
) -> None:
    """Check a device from both ends: heartbeat, version, SSH, unit, disk, clock, token, broker,
    runtimes. Exit 1 if anything is wrong."""
    from orchestrator.cli.waiting import waiting
    from orchestrator.provisioning import boards
    from orchestrator.service.views import CheckView
    from playbooks.doctor import examine
    from playbooks.host_keys import PinnedHostKeys
    from playbooks.playbook import KNOWN_HOSTS

    options: CliContext = context.obj
    home = options.settings().home
    with options.client() as farm:
        device = farm.device(name)
    found = known(device, datetime.now(UTC))
    if boards.is_local(home, name) and not ssh:
        found += _local_findings(home / boards.LOCAL_AGENT, name)
    elif ssh or boards.AddressBook(home).get(name) is not None:
        login = login_to(address_of(home, name, ssh, identity), ask_password)
        host_keys = PinnedHostKeys(
            home / boards.FOLDER / KNOWN_HOSTS, lambda line: typer.echo(line, err=True)
        )
        found += examine(name, login, host_keys, waiting)
    else:
        typer.echo(
            f"{name} joined by a token, no way in is known here: this is what the controller "
            "knows; `benchfarm-agent doctor` on the board says the rest",
            err=True,
        )
    rows = [
        {
            "from": f.side,
            "check": f.check,
            "ok": "ok" if f.ok else "FAILED",
            "found": f.text,
            "what to do": f.remedy,
        }
        for f in found
    ]
    show([CheckView(**asdict(f)) for f in found], rows, output)
    if not all(f.ok for f in found):
        raise typer.Exit(1)


def known(device: DeviceView, now: datetime) -> list[DoctorFinding]:
    """Findings from the controller's own data."""
    import agent
    from playbooks.doctor import DoctorFinding

    def check(name: str, ok: bool, text: str, remedy: str) -> DoctorFinding:
        return DoctorFinding("controller", name, ok, text, "" if ok else remedy)

    name, version = device.name, device.agent_version
    if device.seen_at is None:
        heartbeat = "none yet"
    else:
        heartbeat = f"{duration(max(0.0, (now - device.seen_at).total_seconds()))} ago"
    facts = device.facts
    runtimes = [f"{r.backend} {r.version}" for r in device.runtimes if not r.missing]
    reported = f"{facts.get('hostname')}, {facts.get('system')}" if facts else "none yet"
    return [
        check(
            "heartbeat",
            device.connection == "online",
            f"{heartbeat}: {device.connection}",
            f"is the board on, and its agent running? See `benchfarm device logs {name}`",
        ),
        check(
            "version",
            version == agent.__version__,
            f"agent {version or 'unknown'}, this command {agent.__version__}",
            f"benchfarm device upgrade {name}",
        ),
        check("facts", facts is not None, reported, f"run `benchfarm device add {name}`"),
        check(
            "runtimes",
            bool(runtimes),
            ", ".join(runtimes) or "none answers",
            "`benchfarm-agent runtimes add NAME` on the board",
        ),
    ]


def _local_findings(state_dir: Path, name: str) -> list[DoctorFinding]:
    """Findings of the local agent's doctor, run in this process."""
    from agent.worker import doctor as checks
    from playbooks.doctor import agent_finding

    found = [agent_finding(asdict(finding), name) for finding in checks.examine(state_dir)]
    remedy = "start `benchfarm up --local-agent` anew: it joins its own agent again"
    return [replace(f, remedy=remedy) if f.check in _FIXED_BY_UP and not f.ok else f for f in found]
