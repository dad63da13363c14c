"""Host keys: pinned at first sight in a file of our own, beside the user's own known hosts."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from paramiko import HostKeys, MissingHostKeyPolicy, PKey, SSHClient

from playbooks.errors import HostKeyChanged

Note = Callable[[str], None]


class Pins:
    """The known hosts of ``path`` (OpenSSH's format), and those of the user, which are only read.

    ``expected``: a fingerprint ``SHA256:…``. A host is then pinned, or pinned anew, with that key
    and no other.
    """

    def __init__(self, path: Path, note: Note, expected: str = "") -> None:
        self._path = path
        self._note = note
        self._expected = expected

    def guard(self, client: SSHClient) -> None:
        """Have ``client`` talk to pinned hosts only, and pin those that nobody knows yet."""
        keys = client.get_host_keys()
        for path in (Path.home() / ".ssh" / "known_hosts", self._path):
            if path.exists():
                keys.load(str(path))
        client.set_missing_host_key_policy(_FirstSight(self))

    def pin(self, name: str, key: PKey) -> None:
        """Remember the key of a host seen for the first time. Raises ``HostKeyChanged``."""
        if self._expected and key.fingerprint != self._expected:
            raise HostKeyChanged(
                f"{name} shows the host key {shown(key)}, and --host-key says {self._expected}"
            )
        with self._alone():
            known = self._own()
            known.add(name, key.get_name(), key)
            self._save(known)
        self._note(f"pinned the host key of {name} at first sight: {shown(key)}")

    def changed(self, name: str, now: PKey, before: PKey) -> HostKeyChanged | None:
        """The refusal of another key than the pinned one; ``None`` if the user vouches for it."""
        own = self._own()
        if self._expected == now.fingerprint and name in own:
            with self._alone():
                own = self._own()
                own.pop(name, None)
                self._save(own)
            self.pin(name, now)
            return None
        where = self._path if name in own else "your ~/.ssh/known_hosts"
        return HostKeyChanged(
            f"the host key of {name} changed: {where} has {shown(before)}, the host now shows "
            f"{shown(now)}. Another machine may answer at this address. If the board was flashed "
            f"anew and that is its key, say so: --host-key {now.fingerprint}"
            + ("" if name in own else f", after `ssh-keygen -R '{name}'`")
        )

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Boards are registered side by side, and each pin rewrites the whole file."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._path.with_name(f"{self._path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _own(self) -> HostKeys:
        keys = HostKeys()
        if self._path.exists():
            keys.load(str(self._path))
        return keys

    def _save(self, keys: HostKeys) -> None:
        handle, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=".known_hosts.")
        os.close(handle)
        keys.save(temporary)
        os.replace(temporary, self._path)


class _FirstSight(MissingHostKeyPolicy):  # type: ignore[misc]  # untyped there
    def __init__(self, pins: Pins) -> None:
        self._pins = pins

    def missing_host_key(self, _client: SSHClient, hostname: str, key: PKey) -> None:
        self._pins.pin(hostname, key)


def shown(key: PKey) -> str:
    """``ssh-ed25519 SHA256:…`` as ssh-keygen and ssh print it."""
    return f"{key.get_name()} {key.fingerprint}"
