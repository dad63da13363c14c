"""Runs steps: what is right already is left alone, so that a re-run resumes where one ended."""

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
    """One thing that shall be so. ``check`` says what is not yet right (empty: all of it),
    ``apply`` makes it right, and ``check`` then has to agree. Both may raise ``PlaybookError``.

    ``ahead``: a dry run cannot look further where this is not yet right.
    """

    name: str
    check: Callable[[BoardTarget], str]
    apply: Callable[[BoardTarget], None]
    ahead: bool = False


@dataclass(frozen=True)
class StepEvent:
    """A step that ended, or (``status`` empty) one that begins to change something."""

    step: str
    status: Status | Literal[""]
    text: str
    seconds: float = 0.0


@dataclass(frozen=True)
class RunOutcome:
    """How a playbook ended: how many steps, how many of them changed something (or would)."""

    steps: int
    changed: int


Tell = Callable[[StepEvent], None]


def play(
    steps: Iterable[Step], site: BoardTarget, tell: Tell, *, dry_run: bool = False
) -> RunOutcome:
    """Run ``steps`` in order. Raises the first ``PlaybookError``; what was done stays done."""
    seen = changed = 0
    for step in steps:
        began = time.monotonic()
        seen += 1
        why = step.check(site)
        if not why:
            tell(StepEvent(step.name, "ok", "", time.monotonic() - began))
            continue
        changed += 1
        if dry_run:
            tell(StepEvent(step.name, "would change", why, time.monotonic() - began))
            if step.ahead:
                break
            continue
        tell(StepEvent(step.name, "", why))
        step.apply(site)
        still = step.check(site)
        if still:
            raise StepFailed(f"{step.name}: done, and still {still}")
        tell(StepEvent(step.name, "changed", why, time.monotonic() - began))
    return RunOutcome(seen, changed)
