"""Verb ``probe``: what runtimes and converters there are under this interpreter, and what for."""

from __future__ import annotations

import traceback
from dataclasses import replace

from agent.device_facts import RuntimeFacts
from agent.graph import Tool
from agent.jobs import Probed
from agent.runner import backends, converters
from agent.runner.converters.base import missing
from agent.runner.errors import RunnerError


def run() -> Probed:
    """Every backend and converter file, asked; one that fails, however, never hides another."""
    return Probed(
        tuple(_ask(name) for name in backends.names()),
        tuple(_tool(name) for name in converters.names()),
    )


def _ask(name: str) -> RuntimeFacts:
    try:
        backend = backends.find(name)
        return replace(backend.probe(), wants=dict(backend.wants))
    except Exception as error:  # noqa: BLE001 - a vendor's library may raise anything
        if not isinstance(error, RunnerError):
            traceback.print_exc()
        return RuntimeFacts(name, "", "", missing=str(error) or type(error).__name__)


def _tool(name: str) -> Tool:
    converter = converters.find(name)
    return Tool(
        name=name,
        edges=converter.edges,
        missing=tuple(missing(converter)),
        needs_calibration=converter.needs_calibration,
        keeps=converter.keeps,
        where=converter.where,
        options=dict(converter.options),
    )
