"""``benchfarm demo``: a whole sweep on this machine, from nothing to a report."""

from __future__ import annotations

import tempfile
import time
from importlib.resources import files
from pathlib import Path

import typer

from orchestrator.cli.context import CliContext
from orchestrator.cli.output import OutputFormat, duration, require_writable
from orchestrator.cli.up import device_name

MODELS = ("digits_cnn", "mobilenet_v2")
RUNTIMES = ("onnxruntime", "openvino")


def demo(
    context: typer.Context,
    html: Path = typer.Option(Path("report.html"), help="Where to write the HTML report."),
) -> None:
    """Register this machine, sweep two networks over two runtimes at two precisions, report."""
    from orchestrator import wiring
    from orchestrator.cli import zoo
    from orchestrator.cli.sweep.sweep import show_plan, watch_to_end
    from orchestrator.client import Client
    from orchestrator.domain.errors import FarmError
    from orchestrator.local import setup

    options: CliContext = context.obj
    require_writable(html)
    settings = options.settings()
    home = settings.home if options.home else settings.home / "demo"
    # any free port, because a controller may be running already
    settings = settings.model_copy(update={"home": home, "port": 0})
    device, began = device_name(), time.monotonic()
    text = (files("orchestrator.cli") / "demo.yaml").read_text(encoding="utf-8")
    with wiring.controller(settings) as running:
        typer.echo(f"controller: {running.url}; broker: {running.broker.description}")
        if fault := running.broker_fault():
            raise FarmError(f"{fault}; or leave BENCHFARM_BROKER_URL away")
        # the environments are kept for the next demo
        setup.build_runtimes(home, RUNTIMES, typer.echo)
        with (
            setup.local_agent(running, device),
            Client(running.url, running.token, running.farm.settings.ca_path) as farm,
        ):
            setup.wait_online(running, device)
            found = farm.device(device)
            names = [f"{r.backend} {r.version}" for r in found.runtimes if not r.missing]
            typer.echo(f"device {device} ({found.device_class}): {', '.join(names)}")
            with tempfile.TemporaryDirectory(prefix="benchfarm-demo-") as folder:
                for name in MODELS:
                    for file in zoo.emit(name, Path(folder)):
                        zoo.register(farm, name, file)
                    typer.echo(f"model {name} is registered")
            sweep = _free_name([s.name for s in farm.sweeps()])
            show_plan(farm.plan(text, "demo.yaml", sweep), OutputFormat.TABLE)
            farm.submit(text, "demo.yaml", sweep)
            code = watch_to_end(farm, sweep, html)
    typer.echo(f"the whole demo took {duration(time.monotonic() - began)}")
    raise typer.Exit(code)


def _free_name(taken: list[str]) -> str:
    candidates = ["demo", *(f"demo-{n}" for n in range(2, len(taken) + 3))]
    return next(c for c in candidates if c not in taken)
