"""The port to the broker's access control: each device has a user of its own there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

ASSERT_S = 10.0
"""Between two looks at whether the broker still knows the devices, and nobody else's password."""


class BrokerAccessFailed(Exception):
    """The broker did not take a change of its users; it is made again within ``ASSERT_S``."""


class BrokerAccess(Protocol):
    """The broker's access control. Every method may raise ``BrokerAccessFailed``."""

    def url_for(self, device: str, password: str) -> str:
        """The broker's address with this device's credentials; without, where it has no users."""

    def admit(self, device: str, digest: str) -> None:
        """Let ``device`` in with the password of this SHA-256, and end what else it had open."""

    def dismiss(self, device: str) -> None:
        """Refuse ``device`` from now on, and end its connections."""

    def assert_all(self, digests: Mapping[str, str]) -> None:
        """Bring the broker's device users to exactly these (name to digest)."""

    def lines(self, digests: Mapping[str, str]) -> list[str]:
        """The lines of an ACL file for these devices."""

    def controller_line(self) -> str:
        """The line of the controller's own user; empty where its address names none."""

    def place(self) -> str:
        """The broker's address without credentials."""
