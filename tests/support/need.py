"""Services that a test needs: skipped with the reason on a laptop, a failure where required."""

from __future__ import annotations

import os

import pytest

REQUIRE = "BENCHFARM_REQUIRE"
"""Environment variable: services, separated by commas, that must be there (CI)."""


def need(name: str, available: bool, why: str) -> None:
    """Skip the test unless ``available``; fail it where ``BENCHFARM_REQUIRE`` names ``name``."""
    if available:
        return
    required = {word.strip() for word in os.environ.get(REQUIRE, "").split(",")}
    if name in required:
        pytest.fail(f"{name} is required here ({REQUIRE}) and is not there: {why}", pytrace=False)
    pytest.skip(f"needs {name}: {why}")
