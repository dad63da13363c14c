"""What a port says first, and whose fault it is if that is no SSH server's greeting."""

from __future__ import annotations

from typing import Any

LONGEST = 16 << 10
"""Bytes before the line ``SSH-…``. RFC 4253 allows lines before it; an endless one is no server."""


class GreetedSocket:
    """A socket (or channel) for paramiko, which remembers what came first. paramiko alone reads a
    line without an end for ever, and says the same of a closed and of a silent port."""

    def __init__(self, connected: Any) -> None:
        self._connected = connected
        self._first = b""
        self._closed = False
        self.greeted = False

    def recv(self, count: int) -> bytes:
        try:
            data: bytes = self._connected.recv(count)
        except ConnectionError:
            self._closed = True
            raise
        if not self.greeted:
            self._first = (self._first + data)[: LONGEST + 1]
            self._closed = self._closed or not data
            self.greeted = self._first.startswith(b"SSH-") or b"\nSSH-" in self._first
            if not self.greeted and len(self._first) > LONGEST:
                self._connected.close()
                return b""
        return data

    @property
    def silent(self) -> bool:
        """Whether nothing at all came."""
        return not self._first

    def fault(self, limit_s: float) -> str:
        """What is wrong with the server, ``""`` if it greeted as one."""
        if self.greeted:
            return ""
        if not self._first:
            if self._closed:
                return (
                    "accepts the connection and closes it without a word: sshd is starting, has "
                    "too many logins (MaxStartups) or bans this address (fail2ban), or the port "
                    "is another service's"
                )
            return (
                f"accepts the connection and says nothing within {limit_s:.0f} s: the board hangs, "
                "or the port is not sshd's"
            )
        line = self._first.decode("latin-1").strip().splitlines() or [""]
        said = "".join(c for c in line[0] if c.isprintable())[:80]
        return f"answers, but not as an SSH server: {said!r}; which port is sshd's?"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connected, name)
