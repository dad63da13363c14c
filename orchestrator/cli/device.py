"""``benchfarm device``: the boards."""

from __future__ import annotations

import typer

from orchestrator.cli import board, token
from orchestrator.cli.context import client
from orchestrator.cli.output import FORM, LABELS, Form, show

app = typer.Typer(help="Boards and hosts of the farm.", no_args_is_help=True)
app.command("add")(board.add)
app.command("retire")(board.retire)
app.command("rotate")(token.rotate_device)


@app.command("list")
def list_(context: typer.Context, output: Form = FORM, selector: list[str] = LABELS) -> None:
    """All devices: whether they are online, wanted, healthy, and what they can run."""
    from orchestrator.domain.selectors import matches, parse

    wanted = parse(selector)
    with client(context) as farm:
        found = [d for d in farm.devices() if matches(wanted, d.labels())]
    rows = [
        {
            "name": d.name,
            "class": d.device_class,
            "connection": d.connection,
            "enabled": "yes" if d.enabled else "no",
            "health": d.health,
            "tags": _tags(d.tags),
            "runtimes": ", ".join(f"{r.backend} {r.version}" for r in d.runtimes if not r.missing),
        }
        for d in found
    ]
    show(found, rows, output)


@app.command("show")
def show_(context: typer.Context, name: str, output: Form = FORM) -> None:
    """One device: its facts, and each runtime with its targets and precisions."""
    with client(context) as farm:
        found = farm.device(name)
    facts = found.facts or {}
    rows: list[dict[str, object]] = [
        {"fact": key, "value": _plain(value)}
        for key, value in {
            "class": found.device_class,
            "connection": found.connection,
            "tags": _tags(found.tags),
            **{k: v for k, v in facts.items() if k not in ("runtimes", "unread")},
        }.items()
    ]
    for runtime in found.runtimes:
        targets = "; ".join(f"{t}: {', '.join(p)}" for t, p in runtime.targets.items())
        value = runtime.missing or f"{runtime.version} ({targets})"
        rows.append({"fact": f"runtime {runtime.backend}", "value": value})
    rows += [{"fact": f"unread {k}", "value": v} for k, v in facts.get("unread", {}).items()]
    show([found], rows, output, title=name)


def _tags(tags: dict[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(tags.items()))


def _plain(value: object) -> object:
    """A fact for people: no list's brackets, no fifth decimal of a mebibyte."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.0f}"
    return "-" if value is None else value


@app.command("join-token")
def join_token(
    context: typer.Context,
    name: str,
    device_class: str = typer.Option("", "--class", help="Device class; empty: recognised."),
    tag: list[str] = typer.Option([], "--tag", help="KEY=VALUE; repeatable."),
) -> None:
    """A one-time token, and the line to run on the board with it."""
    from orchestrator.domain.selectors import parse

    with client(context) as farm:
        join = farm.join_token(name, device_class, parse(tag))
    typer.echo(f"On the board, before {join.expires_at:%Y-%m-%d %H:%M} UTC, run:")
    typer.echo(f"  benchfarm-agent join {join.url} {join.join_token} --name {join.device}")
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


@app.command("enable")
def enable(context: typer.Context, name: str) -> None:
    """Give the device work again."""
    with client(context) as farm:
        farm.enable(name, True)
    typer.echo(f"{name} is enabled")


@app.command("drain")
def drain(context: typer.Context, name: str) -> None:
    """Let the running trial finish, then give the device no more work."""
    with client(context) as farm:
        farm.enable(name, False)
    typer.echo(f"{name} is draining: its running trial finishes, it is given no other")
