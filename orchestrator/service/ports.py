"""The port to the broker's access control: each device has a user of its own there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

ASSERT_S = 10.0
"""Interval at which the broker's users are compared with the database."""


class BrokerAccessFailed(Exception):
    """The broker did not take a change of its users; it is tried again within ``ASSERT_S``."""


class BrokerAccess(Protocol):
    """The broker's access control. Every method may raise ``BrokerAccessFailed``."""

    def url_for(self, device: str, password: str) -> str:
        """The broker's address with this device's credentials, without them where it has no
        users."""

    def set_user(self, device: str, digest: str) -> None:
        """Give ``device`` the password with this SHA-256 and close its open connections."""

    def delete_user(self, device: str) -> None:
        """Refuse ``device`` from now on and close its connections."""

    def synchronise(self, digests: Mapping[str, str]) -> None:
        """Make the broker's device users exactly these: name → SHA-256 of the password."""

    def acl_lines(self, digests: Mapping[str, str]) -> list[str]:
        """The lines of an ACL file for these devices."""

    def controller_acl_line(self) -> str:
        """The ACL line of the controller's own user; empty where the broker's URL names none."""

    def url_without_credentials(self) -> str:
        """The broker's address without credentials."""
