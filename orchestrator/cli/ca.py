"""``benchfarm ca``: a private certificate authority for the farm."""

from __future__ import annotations

from pathlib import Path

import typer

app = typer.Typer(help="A private certificate authority for TLS.", no_args_is_help=True)

FOLDER = typer.Option(Path("ca"), "--folder", help="Where the authority lies; keep it private.")


@app.command("init")
def init(
    folder: Path = FOLDER,
    name: str = typer.Option("benchfarm", "--name", help="What the authority is called."),
    days: int = typer.Option(3650, "--days", min=1, max=7300, help="How long it is valid."),
) -> None:
    """Make an authority: ca.pem, which everybody may have, and ca.key, which nobody may."""
    from orchestrator import certificates

    files = certificates.init(folder, name, days)
    typer.echo(
        f"wrote {files.certificate} (give it to boards and people) and {files.key} (keep it)"
    )


@app.command("issue")
def issue(
    name: str = typer.Argument(help="What the certificate is for: controller, redis, …"),
    san: list[str] = typer.Option(
        [], "--san", help="A host name or address it is reached by; repeatable."
    ),
    folder: Path = FOLDER,
    days: int = typer.Option(397, "--days", min=1, max=825, help="How long it is valid."),
) -> None:
    """A server's certificate, NAME.pem and NAME.key, for localhost, this host and each --san."""
    from orchestrator import certificates

    files, names = certificates.issue(folder, name, san, days)
    typer.echo(f"wrote {files.certificate} and {files.key}, for {', '.join(names)}")
