"""``benchfarm device logs``: an agent's log, over SSH or from this machine's file."""

from __future__ import annotations

import re
import sys
import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import typer

from orchestrator.cli.context import CliContext
from orchestrator.cli.device.ssh_options import ASK_PASSWORD, IDENTITY, SSH, address_of, login_to

UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
POLL_S = 0.2
_TIMESTAMP = re.compile(rb"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d{3} ")


def logs(
    context: typer.Context,
    name: str,
    lines: int = typer.Option(100, "-n", "--lines", min=0, help="So many of the last lines."),
    follow: bool = typer.Option(False, "-f", "--follow", help="Go on until Ctrl-C."),
    since: str = typer.Option("", "--since", help="Only the last 90s, 10m, 1h or 2d."),
    ssh: str = SSH,
    identity: str = IDENTITY,
    ask_password: bool = ASK_PASSWORD,
) -> None:
    """What the device's agent says of itself."""
    from orchestrator.cli.waiting import waiting
    from orchestrator.domain.errors import UserError
    from orchestrator.provisioning import boards
    from playbooks.host_keys import PinnedHostKeys
    from playbooks.logs import stream
    from playbooks.playbook import KNOWN_HOSTS

    since_s = seconds(since) if since else None
    options: CliContext = context.obj
    home = options.settings().home
    if boards.is_local(home, name) and not ssh:
        show_file(home / boards.LOCAL_AGENT / "agent.log", lines, follow=follow, since_s=since_s)
        return
    if not ssh and boards.AddressBook(home).get(name) is None:
        with options.client() as farm:
            farm.device(name)  # raises NotFound for an unknown name
        raise UserError(
            f"{name} joined by a token, no way in is known here: look on the board "
            "(`journalctl -u benchfarm-agent`), or say --ssh USER@HOST"
        )
    login = login_to(address_of(home, name, ssh, identity), ask_password)
    host_keys = PinnedHostKeys(
        home / boards.FOLDER / KNOWN_HOSTS, lambda line: typer.echo(line, err=True)
    )
    stream(login, host_keys, _write, lines=lines, follow=follow, since_s=since_s, waiting=waiting)


def seconds(text: str) -> float:
    """``1h`` as seconds. Raises ``UserError``."""
    from orchestrator.domain.errors import UserError

    found = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if found is None:
        raise UserError(f"--since {text!r}: expected a number and one of s, m, h, d, as in 1h")
    return float(found[1]) * UNITS_S[found[2]]


def show_file(path: Path, lines: int, *, follow: bool, since_s: float | None) -> None:
    """Print the end of a log file, and with ``follow`` what is appended. Raises ``UserError``."""
    from orchestrator.domain.errors import UserError

    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}): the agent beside the controller writes it, "
            "unless it runs within the controller's own process"
        ) from None
    with file:
        found = _since(file, since_s) if since_s is not None else iter(file)
        _write(b"".join(deque(found, maxlen=lines)))
        while follow:
            chunk = file.read()
            if chunk:
                _write(chunk)
            else:
                time.sleep(POLL_S)


def _since(file: BinaryIO, since_s: float) -> Iterator[bytes]:
    """The lines since then; a line without a time belongs to the one before."""
    first = datetime.now() - timedelta(seconds=since_s)
    started = False
    for line in file:
        stamp = _TIMESTAMP.match(line)
        if stamp is not None and not started:
            started = datetime.strptime(stamp[1].decode(), "%Y-%m-%d %H:%M:%S") >= first
        if started:
            yield line


def _write(chunk: bytes) -> None:
    sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()
