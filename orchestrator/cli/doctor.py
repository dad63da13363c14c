"""``benchfarm doctor``: check that the controller has everything it needs."""

from __future__ import annotations

import importlib.util
import shutil
import sys

import typer

from orchestrator.cli.context import CliContext, client


def doctor(context: typer.Context) -> None:
    """Check this machine and the controller it talks to; exit 1 if something is wrong."""
    from orchestrator.broker.embedded import find_server
    from orchestrator.domain.errors import FarmError

    options: CliContext = context.obj
    home = options.settings().home
    free = shutil.disk_usage(next(p for p in (home, *home.parents) if p.exists())).free
    server = find_server()
    checks: list[tuple[bool, str]] = [
        (sys.version_info >= (3, 11), f"Python {sys.version.split()[0]} (3.11 or newer)"),
        (free > 1 << 30, f"{free >> 30} GiB free below {home} (1 GiB or more)"),
        (True, f"embedded broker: {server[1] if server else 'in-process memory'}"),
    ]
    for package in ("onnx", "onnxruntime"):
        found = importlib.util.find_spec(package) is not None
        checks.append((found, f"{package} is installed (checks models, computes references)"))
    try:
        with client(context) as farm:
            devices = farm.devices()
        online = sum(d.connection == "online" for d in devices)
        checks.append((True, f"controller {farm.url}: {online} of {len(devices)} devices online"))
    except FarmError as error:
        checks.append((False, str(error)))
    for fine, text in checks:
        typer.echo(f"{'ok  ' if fine else 'FAIL'}  {text}")
    raise typer.Exit(0 if all(fine for fine, _ in checks) else 1)
