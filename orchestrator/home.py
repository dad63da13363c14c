"""The controller's home folder: created privately, used by one controller at a time."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from orchestrator.domain.errors import UserError


def make_home(home: Path) -> None:
    """Create the folder with mode 0700 where it is missing. Raises ``UserError``."""
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UserError(
            f"{home} cannot be made ({error.strerror}); choose another --home"
        ) from None


@contextlib.contextmanager
def exclusive_home(home: Path) -> Iterator[None]:
    """No other controller runs on ``home`` for as long as the block lasts. Raises ``UserError``."""
    with (home / "controller.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"another controller runs on {home}; stop it, or choose another --home"
            ) from None
        yield
