"""Logging in with the keys and the password that there are, in OpenSSH's order."""

from __future__ import annotations

import base64
import binascii
import contextlib
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from paramiko import (
    AuthenticationException,
    BadAuthenticationType,
    PKey,
    SSHConfig,
    SSHException,
    Transport,
)
from paramiko.agent import AgentSSH
from paramiko.auth_strategy import AuthStrategy

from playbooks.errors import InvalidRequest, LoginRefused
from playbooks.ssh_config import Hop

AGENT_LIMIT_S = 5.0


@dataclass(frozen=True)
class Credentials:
    """``identity``: the only private key to use; ``None``: those of the hop. ``password`` also
    opens an encrypted key file. ``advice`` says how to give others."""

    identity: Path | None = None
    password: str = field(default="", repr=False)
    advice: str = "name a key by --identity, or give the password by --ask-password"


FOR_JUMP_HOSTS = Credentials(
    advice="name its key by IdentityFile in ~/.ssh/config, or add it to ssh-agent"
)
"""Options of the command line are the target's."""


class Authentication(AuthStrategy):  # type: ignore[misc]  # untyped there
    """Tries the keys, then the password; an error says what was offered and what is taken."""

    def __init__(self, hop: Hop, credentials: Credentials) -> None:
        super().__init__(ssh_config=SSHConfig())
        self._hop = hop
        self._credentials = credentials
        self._tried = 0
        self._locked: list[Path] = []

    def authenticate(self, transport: Transport) -> None:
        """Raises ``LoginRefused`` or ``InvalidRequest``."""
        allowed = self._offer_nothing(transport)
        if allowed is None:
            return
        if "publickey" in allowed:
            with _agent_keys(self._hop.agent) as held:
                allowed = self._offer_keys(transport, allowed, held)
        asks = {"password", "keyboard-interactive"} & {*allowed}
        if asks and self._credentials.password and not transport.is_authenticated():
            allowed = self._offer_password(transport, allowed)
        if not transport.is_authenticated():
            raise self._refusal(allowed)

    def _offer_nothing(self, transport: Transport) -> list[str] | None:
        """The methods that the server takes; ``None``: it takes everybody."""
        try:
            transport.auth_none(self._hop.user)
        except BadAuthenticationType as error:
            return list(error.allowed_types)
        return None

    def _offer_keys(
        self, transport: Transport, allowed: list[str], held: Sequence[PKey]
    ) -> list[str]:
        """What is still asked for. ``held``: the keys of ssh-agent."""
        for key in self._keys(held):
            self._tried += 1
            try:
                left = list(transport.auth_publickey(self._hop.user, key))
            except BadAuthenticationType as error:
                return list(error.allowed_types)
            except (AuthenticationException, SSHException) as error:
                if not transport.is_active():
                    raise LoginRefused(
                        f"{self._hop.where} closed the connection at key {self._tried} of those of "
                        f"ssh-agent and of its configuration ({error}): name the right one by "
                        "--identity, or by IdentityFile with `IdentitiesOnly yes` in ~/.ssh/config"
                    ) from None
                continue
            return left
        return allowed

    def _offer_password(self, transport: Transport, allowed: list[str]) -> list[str]:
        try:
            return list(transport.auth_password(self._hop.user, self._credentials.password))
        except (AuthenticationException, SSHException):
            return allowed

    def _keys(self, held: Sequence[PKey]) -> Iterator[PKey]:
        """Those of ssh-agent that the hop's files name, its others, then the files."""
        if self._credentials.identity is not None:
            key = self._from_file(self._credentials.identity, required=True)
            if key is not None:
                yield key
            return
        named = {blob for path in self._hop.identities if (blob := _public_blob(path))}
        first = [key for key in held if key.asbytes() in named]
        yield from first
        if not self._hop.identities_only:
            yield from (key for key in held if key not in first)
        offered = {key.asbytes() for key in held}
        for path in self._hop.identities:
            if _public_blob(path) in offered:
                continue
            key = self._from_file(path)
            if key is not None:
                yield key

    def _from_file(self, path: Path, *, required: bool = False) -> PKey | None:
        """Raises ``InvalidRequest`` for a file that is ``required`` and is no private key."""
        why = "not a private key that is known here"
        for password in dict.fromkeys((None, self._credentials.password or None)):
            try:
                return PKey.from_path(path, password.encode() if password else None)
            except OSError as error:
                why = f"cannot be read: {error.strerror}"
                break
            except Exception as error:  # noqa: BLE001  cryptography has its own for each fault
                if "password" in str(error).lower() or "encrypted" in str(error).lower():
                    self._locked.append(path)
        if required and path not in self._locked:
            hint = "; the private key is the file without .pub" if path.suffix == ".pub" else ""
            raise InvalidRequest(f"{path}: {why}{hint}")
        return None

    def _refusal(self, allowed: list[str]) -> LoginRefused:
        where = self._hop.where
        if self._locked:
            return LoginRefused(
                f"{where}: the private key {self._locked[0]} is encrypted: add it to ssh-agent "
                "(`ssh-add`)"
            )
        identity = self._credentials.identity
        tried = str(identity) if identity else "ssh-agent and the keys of ~/.ssh"
        tried += " and the password" if self._credentials.password else ""
        takes = ", ".join(filter(None, allowed)) or "no method at all"
        had = "" if identity else f"; keys that were offered: {self._tried}"
        return LoginRefused(
            f"{where} refuses the login with {tried}: {self._credentials.advice} "
            f"(it takes {takes}{had})"
        )


class _AgentAt(AgentSSH):  # type: ignore[misc]  # untyped there
    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._connect(connection)


@contextlib.contextmanager
def _agent_keys(path: str) -> Iterator[Sequence[PKey]]:
    """The keys of the agent at a socket, which sign within the block; none if there is no agent."""
    with socket.socket(socket.AF_UNIX) as connection:
        held: Sequence[PKey] = ()
        with contextlib.suppress(OSError, SSHException):
            connection.settimeout(AGENT_LIMIT_S)
            if path:
                connection.connect(path)
                held = _AgentAt(connection).get_keys()
        yield held


def _public_blob(path: Path) -> bytes | None:
    """The public half of a key file, from the ``.pub`` beside it."""
    try:
        words = path.with_name(f"{path.name}.pub").read_text("utf-8").split()
        return base64.b64decode(words[1])
    except (OSError, UnicodeDecodeError, IndexError, binascii.Error):
        return None
