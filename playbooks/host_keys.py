"""SSH host keys, pinned at the first connection (trust on first use) in a file of our own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from paramiko import HostKeys, MissingHostKeyPolicy, PKey, SSHClient, SSHException
from paramiko.hostkeys import HostKeyEntry, InvalidHostKey

from playbooks.errors import HostKeyChanged, InvalidRequest

MessageListener = Callable[[str], None]


class PinnedHostKeys:
    """Keys in the file ``path`` (OpenSSH's known_hosts) and in the user's own, which is only read.

    ``expected``: a fingerprint ``SHA256:…``. If given, a host is pinned, or its key replaced, only
    with that key.
    """

    def __init__(self, path: Path, on_message: MessageListener, expected: str = "") -> None:
        self._path = path
        self.on_message = on_message
        self._expected = expected

    def apply_to(self, client: SSHClient, others: Sequence[Path] = ()) -> None:
        """Make ``client`` accept pinned keys only, and pin those of unknown hosts. ``others`` are
        the user's own files.

        Raises:
            InvalidRequest: the file of pinned keys is damaged.
        """
        keys = client.get_host_keys()
        for path in others:
            if path.exists():
                _add(keys, path)
        if self._path.exists():
            _add(keys, self._path, whole=True)
        client.set_missing_host_key_policy(_PinUnknownKeys(self))

    def pin(self, name: str, key: PKey) -> None:
        """Pin the key of an unknown host. Raises ``HostKeyChanged`` if it is not the expected
        one."""
        if self._expected and key.fingerprint != self._expected:
            raise HostKeyChanged(
                f"{name} shows the host key {describe_key(key)}, and --host-key says "
                f"{self._expected}"
            )
        with self._locked():
            known = self._load()
            known.add(name, key.get_name(), key)
            self._save(known)
        self.on_message(f"pinned the host key of {name} at first sight: {describe_key(key)}")

    def changed(self, name: str, now: PKey, before: PKey) -> HostKeyChanged | None:
        """The error for a key other than the pinned one; ``None`` if it is the expected key, which
        replaces the pinned one."""
        stored = self._load()
        if self._expected == now.fingerprint and name in stored:
            with self._locked():
                stored = self._load()
                stored.pop(name, None)
                self._save(stored)
            self.pin(name, now)
            return None
        where = self._path if name in stored else "your ~/.ssh/known_hosts"
        return HostKeyChanged(
            f"the host key of {name} changed: {where} has {describe_key(before)}, the host now "
            "shows "
            f"{describe_key(now)}. Another machine may answer at this address. If the board was "
            f"flashed anew and that is its key, say so: --host-key {now.fingerprint}"
            + ("" if name in stored else f", after `ssh-keygen -R '{name}'`")
        )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Lock the file: boards are registered in parallel, and each pin rewrites all of it."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._path.with_name(f"{self._path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _load(self) -> HostKeys:
        keys = HostKeys()
        if self._path.exists():
            _add(keys, self._path, whole=True)
        return keys

    def _save(self, keys: HostKeys) -> None:
        handle, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=".known_hosts.")
        os.close(handle)
        keys.save(temporary)
        os.replace(temporary, self._path)


class _PinUnknownKeys(MissingHostKeyPolicy):  # type: ignore[misc]  # untyped there
    def __init__(self, store: PinnedHostKeys) -> None:
        self._store = store

    def missing_host_key(self, _client: SSHClient, hostname: str, key: PKey) -> None:
        self._store.pin(hostname, key)


def _add(keys: HostKeys, path: Path, *, whole: bool = False) -> None:
    """Add a file's keys to ``keys``. A line that is not one is left out, as by OpenSSH, or with
    ``whole`` refused: the host of a lost pin would be trusted at first sight."""
    for number, raw in enumerate(path.read_bytes().splitlines(), 1):
        line = raw.decode("utf-8", "replace").strip()
        if not line or line.startswith("#"):
            continue
        try:
            entry = HostKeyEntry.from_line(line, number)
        except (InvalidHostKey, SSHException, ValueError):
            entry = None
        if entry is not None:
            for name in entry.hostnames:
                keys.add(name, entry.key.get_name(), entry.key)
        elif whole:
            raise InvalidRequest(
                f"{path}:{number}: not a line of known_hosts: restore it, or remove it, and the "
                "host is pinned anew at the next connection"
            )


def describe_key(key: PKey) -> str:
    """``ssh-ed25519 SHA256:…``, the format of ssh-keygen and ssh."""
    return f"{key.get_name()} {key.fingerprint}"
