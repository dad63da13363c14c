"""Runs steps. A step that is already done is skipped, so a re-run resumes where one failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from playbooks.errors import StepFailed
from playbooks.target import BoardTarget

Status = Literal["ok", "would change", "changed"]


@dataclass(frozen=True)
class Step:
    """One part of a board's wanted state. ``check`` returns what is missing (empty: nothing),
    ``apply`` supplies it, and then ``check`` must return nothing. Both may raise ``PlaybookError``.

    ``ends_dry_run``: while the step is not done, the later ones cannot be checked.
    """

    name: str
    check: Callable[[BoardTarget], str]
    apply: Callable[[BoardTarget], None]
    ends_dry_run: bool = False


@dataclass(frozen=True)
class StepEvent:
    """A step ended, or (``status`` empty) it starts to change something."""

    step: str
    status: Status | Literal[""]
    text: str
    seconds: float = 0.0


@dataclass(frozen=True)
class RunOutcome:
    """Number of ``steps`` that ran, and of those that changed something (or would)."""

    steps: int
    changed: int


EventListener = Callable[[StepEvent], None]


def run_steps(
    steps: Iterable[Step], target: BoardTarget, on_event: EventListener, *, dry_run: bool = False
) -> RunOutcome:
    """Run ``steps`` in order. Raises the first ``PlaybookError``; earlier steps stay done."""
    count = changed = 0
    for step in steps:
        began = time.monotonic()
        count += 1
        why = step.check(target)
        if not why:
            on_event(StepEvent(step.name, "ok", "", time.monotonic() - began))
            continue
        changed += 1
        if dry_run:
            on_event(StepEvent(step.name, "would change", why, time.monotonic() - began))
            if step.ends_dry_run:
                break
            continue
        on_event(StepEvent(step.name, "", why))
        step.apply(target)
        remaining = step.check(target)
        if remaining:
            raise StepFailed(f"{step.name}: done, and still {remaining}")
        on_event(StepEvent(step.name, "changed", why, time.monotonic() - began))
    return RunOutcome(count, changed)
