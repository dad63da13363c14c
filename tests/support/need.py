"""Services that a test needs: skipped with the reason on a laptop, a failure where required."""

from __future__ import annotations

import os

import pytest

from agent.runtimes import registry

REQUIRE = "BENCHFARM_REQUIRE"
"""Environment variable: services, separated by commas, that must be there (CI)."""
EVERY_RUNTIME = "runtimes"
"""In that list: every runtime that an environment can be built for."""


def need(name: str, available: bool, why: str) -> None:
    """Skip the test unless ``available``; fail it where ``BENCHFARM_REQUIRE`` names ``name``.

    ``name`` may be an environment, ``NAME@VARIANT``: naming its runtime requires it too.
    """
    if available:
        return
    required = {word.strip() for word in os.environ.get(REQUIRE, "").split(",")}
    if EVERY_RUNTIME in required:
        required |= {runtime.name for runtime, _ in registry.recipes()}
    if {name, name.partition("@")[0]} & required:
        pytest.fail(f"{name} is required here ({REQUIRE}) and is not there: {why}", pytrace=False)
    pytest.skip(f"needs {name}: {why}")
