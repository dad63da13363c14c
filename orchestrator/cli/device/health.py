"""``benchfarm device selftest|maintenance``, and health as text in lists."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from orchestrator.cli.context import client
from orchestrator.cli.output import (
    OUTPUT_OPTION,
    SELECTOR_OPTION,
    OutputFormat,
    console,
    duration,
    show,
)

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.service.views import DeviceView, HealthCheckView

POLL_S = 0.5


def selftest(
    context: typer.Context,
    name: str = typer.Argument("", help="The device; none: those of -l.", show_default=False),
    selector: list[str] = SELECTOR_OPTION,
    wait: float = typer.Option(
        300.0, "--wait", help="Seconds to wait for the end; the check stays asked for after that."
    ),
    output: OutputFormat = OUTPUT_OPTION,
) -> None:
    """Check a board's health now: exit code 1 where it is not found good."""
    from orchestrator.domain.errors import UserError
    from orchestrator.domain.selectors import matches, parse

    wanted = parse(selector)
    if bool(name) == bool(wanted):
        raise UserError("which devices? give a NAME, or -l KEY=VALUE")
    with client(context) as farm:
        found = [d for d in farm.devices() if wanted and matches(wanted, d.labels())]
        for device in found:
            if not device.runtimes:
                typer.echo(f"{device.name} is left out: it has not said what it can run", err=True)
        names = [name] if name else [d.name for d in found if d.runtimes]
        if not names:
            raise UserError(f"no device to check matches {', '.join(selector)}")
        checks = [farm.ask_check(n) for n in names]
        ended = _wait(farm, checks, wait)
    show(ended, [_row(c) for c in ended], output)
    if not all(c.ok for c in ended):
        raise typer.Exit(1)


def _wait(farm: Client, checks: list[HealthCheckView], limit_s: float) -> list[HealthCheckView]:
    """Wait until all checks have ended or the time is up, and print what is waited for."""
    printed, screen, deadline = "", console(stderr=True), time.monotonic() + limit_s
    while True:
        checks = [farm.check(c.device, c.id) if c.ended_at is None else c for c in checks]
        left = [c for c in checks if c.ended_at is None]
        if not left:
            return checks
        text = "; ".join(_progress(farm.device(c.device), c) for c in left)
        if text != printed:
            screen.print(text, markup=False, highlight=False)
            printed = text
        if time.monotonic() > deadline:
            screen.print(
                f"not ended after {duration(limit_s)}: `benchfarm device list` will show it",
                markup=False,
            )
            return checks
        time.sleep(POLL_S)


def _progress(device: DeviceView, check: HealthCheckView) -> str:
    if check.state == "running":
        return f"{check.device}: the check runs ({check.runtime})"
    if device.connection != "online":
        return f"{check.device}: is offline, its check waits for it"
    busy = f" for the end of {device.running.words()}" if device.running else ""
    return f"{check.device}: the check waits{busy}"


def _row(check: HealthCheckView) -> dict[str, object]:
    return {"device": check.device, **check_row(check)}


def check_row(check: HealthCheckView) -> dict[str, object]:
    """A check for people; also where a device's checks are listed."""
    return {
        "verdict": "not ended" if check.ended_at is None else _VERDICTS[check.ok],
        "why": check.why,
        "runtime": check.runtime or "-",
        "canary": "-" if check.latency_ms is None else f"{check.latency_ms:.3g} ms",
        "temperature": temperature(check.temperature_c),
        "disk free": free(check.storage_free_mib),
        "clock": skew(check.clock_skew_s),
        "reasons": "; ".join(check.reasons) or "-",
    }


def show_checks(found: list[HealthCheckView]) -> None:
    """A device's latest checks, below what it is."""
    if found:
        typer.echo("")
        rows = [{"health check": f"{c.asked_at:%Y-%m-%d %H:%M}", **check_row(c)} for c in found]
        show(found, rows, OutputFormat.TABLE)


_VERDICTS = {True: "good", False: "failed", None: "unknown"}


def health(device: DeviceView) -> str:
    """``good, 12 min ago``; ``bad, 2 min ago: 40 MiB are free …``."""
    text = device.health
    if device.checked_at is not None:
        # this machine's clock is not the controller's
        age_s = max(0.0, (datetime.now(UTC) - device.checked_at).total_seconds())
        text += f", {duration(age_s)} ago"
    if not device.health_reasons:
        return text
    failed = "its last check failed: " if device.health == "good" else ""
    return f"{text}: {failed}{'; '.join(device.health_reasons)}"


def temperature(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} °C"


def free(mib: float | None) -> str:
    if mib is None:
        return "-"
    return f"{mib:.0f} MiB" if mib < 1024 else f"{mib / 1024:.1f} GiB"


def skew(seconds: float | None) -> str:
    """The board's clock against the controller's, within a second: a heartbeat takes time."""
    if seconds is None:
        return "-"
    if abs(seconds) < 1:
        return "right"
    return f"{abs(seconds):.0f} s {'ahead' if seconds > 0 else 'behind'}"


def maintenance(
    context: typer.Context,
    name: str,
    on: bool = typer.Option(..., "--on/--off", help="Into maintenance, or out of it."),
) -> None:
    """Take a board out of work to see to it: it is given health checks only. --off: it is checked,
    and works again."""
    with client(context) as farm:
        found = farm.maintain(name, on)
    after = "it is given health checks only" if on else f"its health is {found.health}"
    typer.echo(f"{name} is {'in' if on else 'not in'} maintenance: {after}")
