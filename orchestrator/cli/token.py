"""``benchfarm token`` and ``device rotate``: who may do what."""

from __future__ import annotations

import re

import typer

from orchestrator.cli.context import client
from orchestrator.cli.join_line import authority_file, join_line
from orchestrator.cli.output import OUTPUT_OPTION, OutputFormat, show

app = typer.Typer(help="People's tokens, each with a role.", no_args_is_help=True)

SECONDS = {"h": 3600, "d": 86_400, "w": 7 * 86_400}
NEVER = "never"


@app.command("create")
def create(
    context: typer.Context,
    name: str = typer.Argument(help="Who will use it, e.g. alice or ci."),
    role: str = typer.Option("viewer", "--role", help="viewer, operator or admin."),
    expires: str = typer.Option("30d", "--expires", help="12h, 30d, 8w, or never."),
) -> None:
    """A token, printed once: only its digest is kept."""
    lifetime_s = lifetime(expires)
    with client(context) as farm:
        created = farm.create_token(role, name, lifetime_s)
        url = farm.url
    typer.echo(created.secret)
    end = (
        f"until {created.token.expires_at:%Y-%m-%d %H:%M} UTC"
        if created.token.expires_at
        else "for ever"
    )
    typer.echo(
        f"token {created.token.id} of {name}: {role}, valid {end}; it is shown this once. Use it "
        f"as BENCHFARM_TOKEN, with BENCHFARM_URL={url}",
        err=True,
    )


@app.command("list")
def list_(context: typer.Context, output: OutputFormat = OUTPUT_OPTION) -> None:
    """All tokens of people: role, whether it is valid, when it was last used."""
    with client(context) as farm:
        found = farm.tokens()
    rows = [
        {
            "id": t.id,
            "name": t.name,
            "role": t.role,
            "state": t.state,
            "expires": f"{t.expires_at:%Y-%m-%d %H:%M}" if t.expires_at else NEVER,
            "last used": f"{t.last_used_at:%Y-%m-%d %H:%M}" if t.last_used_at else "-",
        }
        for t in found
    ]
    show(found, rows, output)


@app.command("revoke")
def revoke(context: typer.Context, number: int = typer.Argument(help="As listed.")) -> None:
    """Refuse a token from now on."""
    with client(context) as farm:
        gone = farm.revoke_token(number)
    typer.echo(f"token {gone.id} of {gone.name} ({gone.role}) is revoked")


def rotate_device(context: typer.Context, name: str) -> None:
    """Refuse the device's token and broker password from now on, and let it join again."""
    with client(context) as farm:
        join = farm.rotate(name)
        ca_file = authority_file(context, farm)
    typer.echo(f"what {name} held is refused. On the board, before", nl=False)
    typer.echo(f" {join.expires_at:%Y-%m-%d %H:%M} UTC, run:")
    typer.echo(join_line(join, ca_file))
    typer.echo("and start its agent anew; a board that was added over SSH takes instead")
    typer.echo(f"  benchfarm device add {name}")


def lifetime(text: str) -> int | None:
    """Seconds of ``30d``; ``None`` for ``never``. Raises ``UserError``."""
    from orchestrator.domain.errors import UserError

    if text == NEVER:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,4})([hdw])", text)
    if found is None:
        raise UserError(f"--expires {text!r}: expected a number of h, d or w, as in 30d, or never")
    return int(found[1]) * SECONDS[found[2]]
