"""``benchfarm device``: the boards."""

from __future__ import annotations

import typer

from orchestrator.cli import token
from orchestrator.cli.context import client
from orchestrator.cli.device import add, doctor, drain, health, logs, rename, upgrade, watch
from orchestrator.cli.join_line import authority_file, join_line
from orchestrator.cli.output import OUTPUT_OPTION, SELECTOR_OPTION, OutputFormat, show

app = typer.Typer(help="Boards and hosts of the farm.", no_args_is_help=True)
app.command("add")(add.add)
app.command("retire")(add.retire)
app.command("rename")(rename.rename)
app.command("upgrade")(upgrade.upgrade)
app.command("drain")(drain.drain)
app.command("enable")(drain.enable)
app.command("watch")(watch.watch)
app.command("logs")(logs.logs)
app.command("doctor")(doctor.doctor)
app.command("selftest")(health.selftest)
app.command("maintenance")(health.maintenance)
app.command("rotate")(token.rotate_device)


@app.command("list")
def list_(
    context: typer.Context,
    output: OutputFormat = OUTPUT_OPTION,
    selector: list[str] = SELECTOR_OPTION,
) -> None:
    """All devices: whether they are online, wanted, healthy (and why not), how they are, what they
    run just now, and what they can run."""
    from orchestrator.domain.selectors import matches, parse

    wanted = parse(selector)
    with client(context) as farm:
        found = [d for d in farm.devices() if matches(wanted, d.labels())]
    rows = [
        {
            "name": d.name,
            "class": d.device_class,
            "connection": d.connection,
            "enabled": drain.enabled(d),
            "health": health.health(d),
            "temperature": health.temperature(d.temperature_c),
            "disk free": health.free(d.storage_free_mib),
            "clock": health.skew(d.clock_skew_s),
            "runs": d.running.words() if d.running else "-",
            "tags": _tags(d.tags),
            "runtimes": ", ".join(f"{r.backend} {r.version}" for r in d.runtimes if not r.missing),
        }
        for d in found
    ]
    show(found, rows, output)


@app.command("show")
def show_(context: typer.Context, name: str, output: OutputFormat = OUTPUT_OPTION) -> None:
    """One device: its facts, and each runtime with its targets and precisions."""
    from agent.contract import codec
    from agent.contract.device import DeviceFacts
    from agent.facts.rows import rows

    with client(context) as farm:
        found = farm.device(name)
        checks = farm.checks(name, 5) if output is OutputFormat.TABLE else []
    facts: list[tuple[str, str]] = [
        ("class", found.device_class),
        ("connection", found.connection),
        ("enabled", drain.enabled(found)),
        ("tags", _tags(found.tags)),
    ]
    if found.facts is not None:
        facts += rows(codec.from_plain(DeviceFacts, found.facts))
    for runtime in found.runtimes:
        targets = "; ".join(f"{t}: {', '.join(p)}" for t, p in runtime.targets.items())
        value = runtime.missing or f"{runtime.version} ({targets})"
        facts.append((f"runtime {runtime.backend}", value))
    show([found], [{"fact": key, "value": value} for key, value in facts], output, title=name)
    if output is OutputFormat.TABLE:
        health.show_checks(checks)


def _tags(tags: dict[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(tags.items()))


@app.command("join-token")
def join_token(
    context: typer.Context,
    name: str,
    device_class: str = typer.Option("", "--class", help="Device class; empty: recognised."),
    tag: list[str] = typer.Option([], "--tag", help="KEY=VALUE; repeatable."),
) -> None:
    """A one-time token, and the line to run on the board with it."""
    from orchestrator.domain.selectors import parse
    from orchestrator.provisioning.boards import kept_lines

    with client(context) as farm:
        join = farm.join_token(name, device_class, parse(tag))
        ca_file = authority_file(context, farm)
    for line in kept_lines(join, ()):
        typer.echo(line)
    typer.echo(f"On the board, before {join.expires_at:%Y-%m-%d %H:%M} UTC, run:")
    typer.echo(join_line(join, ca_file))
    typer.echo("  benchfarm-agent run")


@app.command("tag")
def tag(
    context: typer.Context,
    name: str,
    tags: list[str] = typer.Argument(
        metavar="KEY=VALUE...", help="builder=yes, rack=2; KEY= removes."
    ),
) -> None:
    """Tag a device: for -l KEY=VALUE, for a sweep's devices.select; builder=yes: it converts for
    others."""
    from orchestrator.domain.selectors import parse

    with client(context) as farm:
        found = farm.tag(name, parse(tags))
    typer.echo(f"{name}: {_tags(found.tags) or 'no tags'}")
