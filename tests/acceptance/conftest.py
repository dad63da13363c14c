"""A running controller for tests that use the command line as a user does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.cli import Shell, running


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """One controller with embedded database and broker and the model digits_cnn, shared by all
    tests that leave it usable."""
    with running(tmp_path_factory.mktemp("farm") / "home") as found:
        found.fine("zoo", "build", "digits_cnn")
        yield found
