"""Verb ``probe``: which runtimes answer under this interpreter, and what each can do here."""

from __future__ import annotations

import traceback
from dataclasses import replace

from agent.contract import RuntimeFacts
from agent.jobs import Probed
from agent.runner import backends, convert
from agent.runner.errors import RunnerError


def run() -> Probed:
    """Every backend file, asked; one that fails, however, never hides another."""
    return Probed(tuple(_ask(name) for name in backends.names()))


def _ask(name: str) -> RuntimeFacts:
    try:
        backend = backends.find(name)
        facts = backend.probe()
        made = convert.reachable(name)
    except Exception as error:  # noqa: BLE001 - a vendor's library may raise anything
        if not isinstance(error, RunnerError):
            traceback.print_exc()
        return RuntimeFacts(name, "", "", missing=str(error) or type(error).__name__)
    targets = tuple(
        replace(target, precisions=tuple(p for p in target.precisions if p in made))
        for target in facts.targets
    )
    return replace(facts, targets=targets)
