"""Verb ``probe``: the runtimes and converters of this interpreter, with what they can do."""

from __future__ import annotations

import traceback
from dataclasses import replace

from agent.contract.child_jobs import Probed
from agent.contract.conversion_graph import Tool
from agent.contract.device import RuntimeFacts
from agent.contract.failures import RunnerError
from agent.runtimes import registry
from agent.runtimes.converter import missing


def run() -> Probed:
    """Probe every backend and converter; one that fails does not hide the others."""
    return Probed(
        tuple(_backend(name) for name in registry.backend_names()),
        tuple(_tool(name) for name in registry.converter_names()),
    )


def _backend(name: str) -> RuntimeFacts:
    try:
        backend = registry.find_backend(name)
        return replace(backend.probe(), wants=dict(backend.wants))
    except Exception as error:  # noqa: BLE001 - a vendor's library may raise anything
        if not isinstance(error, RunnerError):
            traceback.print_exc()
        return RuntimeFacts(name, "", "", missing=str(error) or type(error).__name__)


def _tool(name: str) -> Tool:
    converter = registry.find_converter(name)
    return Tool(
        name=name,
        edges=converter.edges,
        missing=tuple(missing(converter)),
        needs_calibration=converter.needs_calibration,
        keeps=converter.keeps,
        where=converter.where,
        options=dict(converter.options),
    )
