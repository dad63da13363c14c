"""Live progress of a sweep in the terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from orchestrator.client import Client
    from orchestrator.service.views import SweepView, TrialProgress

POLL_S = 0.5
PLAIN_EVERY_S = 10.0
"""Shortest time between two lines where the output is no terminal."""
ENDED_STATES = ("done", "unsupported", "invalid", "failed", "cancelled")


def follow(farm: Client, name: str, console: Console) -> SweepView:
    """Show a sweep until it ends: live on a terminal, else a line whenever a trial ended.

    ``KeyboardInterrupt`` passes through and leaves the sweep running.
    """
    view = farm.sweep(name)
    if not console.is_terminal:
        return _follow_plain(farm, view, console)
    from rich.live import Live

    with Live(render(view), console=console, refresh_per_second=4, transient=True) as live:
        while view.state == "running":
            time.sleep(POLL_S)
            view = farm.sweep(name)
            live.update(render(view))
    console.print(render(view))
    return view


def _follow_plain(farm: Client, view: SweepView, console: Console) -> SweepView:
    printed, printed_at = "", 0.0
    while True:
        line = summary(view)
        if line != printed and (
            view.state != "running" or time.monotonic() - printed_at > PLAIN_EVERY_S
        ):
            console.print(line, markup=False, highlight=False)
            printed, printed_at = line, time.monotonic()
        if view.state != "running":
            return view
        time.sleep(POLL_S)
        view = farm.sweep(view.name)


def ended(view: SweepView) -> int:
    return sum(view.counts.get(state, 0) for state in ENDED_STATES)


def summary(view: SweepView) -> str:
    """``sweep demo: 7 of 24 trials ended (1 failed); running: …``."""
    bad = [f"{view.counts[s]} {s}" for s in ENDED_STATES[1:] if view.counts.get(s)]
    text = f"sweep {view.name}: {ended(view)} of {view.trials} trials ended"
    text += f" ({', '.join(bad)})" if bad else ""
    if view.state != "running":
        return f"{text}; {view.state}"
    running = [f"{_trial_name(t)} on {t.device}" for t in view.running]
    text += f"; running: {'; '.join(running)}" if running else ""
    waits_for = waiting(view)
    return text + (f"; waiting for {waits_for}" if waits_for else "")


def waiting(view: SweepView) -> str:
    """The devices that pending trials wait for, and why: ``offline a, b; c (in maintenance)``."""
    offline = [f"offline {', '.join(view.offline)}"] if view.offline else []
    held = [f"{name} ({why})" for name, why in view.held.items()]
    return "; ".join(offline + held + [_drained(name, note) for name, note in view.drained.items()])


def _drained(name: str, note: str) -> str:
    return f"{name} (drained: {note})" if note else f"{name} (drained)"


def _trial_name(trial: TrialProgress) -> str:
    return trial.cell if trial.build else f"{trial.cell}, trial {trial.number + 1}"


def _fault(trial: TrialProgress) -> str:
    return f" ({trial.fault})" if trial.fault else ""


def render(view: SweepView) -> RenderableType:
    """A progress bar, the running trials, the devices that are waited for, and failures."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    head = Table.grid(padding=(0, 1))
    head.add_row(
        Text(view.name, style="bold"),
        ProgressBar(total=max(view.trials, 1), completed=ended(view), width=40),
        Text(f"{ended(view)}/{view.trials} trials, {view.cells - view.skipped} cells"),
        Text(view.state, style={"running": "cyan", "done": "green"}.get(view.state, "red")),
    )
    lines: list[RenderableType] = [head]
    lines += [Text(f"  ▶ {t.device}: {_trial_name(t)}") for t in view.running]
    lines += [Text(f"  ⏸ {name} is offline: its trials wait", "yellow") for name in view.offline]
    lines += [
        Text(f"  ⏸ {name} is {why}: its trials wait", "yellow") for name, why in view.held.items()
    ]
    lines += [
        Text(f"  ⏸ {_drained(name, note)}: its trials wait until it is enabled", "yellow")
        for name, note in view.drained.items()
    ]
    lines += [
        Text(f"  ✗ {t.device}: {t.cell}: {t.message or t.state}{_fault(t)}", "red")
        for t in view.problems[:5]
    ]
    return Group(*lines)
