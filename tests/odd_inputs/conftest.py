"""One running controller for all odd inputs; the networks are built by each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.cli import Shell, running


@pytest.fixture(scope="session")
def farm_shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """``benchfarm up --local-agent``, shared: a test leaves it usable and names its own models."""
    with running(tmp_path_factory.mktemp("odd") / "home") as found:
        yield found
