"""Commands whose answer can be told from everything else that a login shell prints. Pure.

sshd hands a command to the user's login shell, which may be any program (bash, tcsh, fish, nologin)
and whose profile may print, leave jobs in the background that print later, or never come to the
command at all. So a command is sent as words that each shell reads alike, and its answer comes as
records: lines that begin with a random mark, each written by one write(2), which Linux does not
mix with others' on a pipe. Every other line is foreign, wherever it stands.
"""

from __future__ import annotations

import secrets
import shlex
from dataclasses import dataclass, field

_WHOLE_LINE, _PART, _END = b"-", b"+", b"."
_CHUNK = 900
"""Bytes of a line in one record: well below PIPE_BUF, what one write keeps together."""
_KEPT = 1 << 16
"""Bytes of foreign output that are kept, for messages."""

# 3: the session's stdout; 4: the pipe of the command's stdout. The command has neither. g, which
# reads each byte by itself, is for a board without awk.
_WRAPPER = r"""
g() {
  while IFS= read -r l || [ -n "$l" ]; do printf '\n%s-%s\n' "$1" "$l"; done
  printf '\n%s.\n' "$1"
}
f() {
  command -v awk >/dev/null 2>&1 || { g "$1"; return; }
  LC_ALL=C awk -v p="$1" '{
    while (length($0) > CHUNK) {
      printf "\n%s+%s\n", p, substr($0, 1, CHUNK); fflush()
      $0 = substr($0, CHUNK + 1)
    }
    printf "\n%s-%s\n", p, $0; fflush()
  }
  END { printf "\n%s.\n", p }'
}
exec 3>&1
printf '\n%s\n' MARK:b
{
  {
    {
      RUN
    } 3>&- 4>&-
    printf '\n%s%s\n' MARK:x "$?" >&3
  } 2>&1 >&4 | f MARK:e >&3 4>&-
} 4>&1 | f MARK:o >&3
""".replace("CHUNK", str(_CHUNK))

_STREAM = r"""
printf '\n%s\n' MARK:b
RUN
printf '\n%s%s\n' MARK:x "$?"
"""


@dataclass(frozen=True)
class Framed:
    """``words`` are what the login shell is given."""

    words: str
    mark: bytes


def frame(command: str, prefix: str = "") -> Framed:
    """A POSIX shell command, run by ``prefix`` (``sudo -n ``), with framed output."""
    return _framed(_WRAPPER, command, prefix)


def frame_stream(command: str, prefix: str = "") -> Framed:
    """The same for a command whose output is passed on as it arrives."""
    return _framed(_STREAM, command, prefix)


def _framed(wrapper: str, command: str, prefix: str) -> Framed:
    mark = f"bf{secrets.token_hex(8)}"
    # what sudo and PAM print before the command begins is foreign, too
    began = f"printf '\\n%s\\n' {mark}:r; printf '\\n%s\\n' {mark}:r >&2\n"
    run = f"{prefix}sh -c {shlex.quote(began + command)}"
    return Framed(_shell_neutral(wrapper.replace("MARK", mark).replace("RUN", run)), mark.encode())


def _shell_neutral(script: str) -> str:
    """One line that bash, dash, zsh, ksh, csh, tcsh and fish read alike: csh knows no line ends and
    no literal ``!`` in quotes, fish gives ``\\\\`` and ``\\'`` a meaning in them."""
    encoded = "".join(
        chr(byte) if 32 <= byte < 127 and chr(byte) not in "'\\!" else f"\\0{byte:03o}"
        for byte in script.encode()
    )
    return f"sh -c 'eval \"$(printf %b \"$1\")\"' sh '{encoded}'"


@dataclass
class FrameReader:
    """Reads the session's stdout of a ``frame``; ``foreign`` is what is not the command's."""

    mark: bytes
    begun: bool = False
    exit_code: int | None = None
    foreign: bytes = b""
    _rest: bytes = b""
    _lines: dict[bytes, list[bytes]] = field(default_factory=lambda: {b"o": [], b"e": []})
    _parts: dict[bytes, bytes] = field(default_factory=lambda: {b"o": b"", b"e": b""})
    _ended: set[bytes] = field(default_factory=set)
    _returns: bool = False

    @property
    def complete(self) -> bool:
        """Whether the answer is here; the session may go on, with a profile's background job."""
        return self.exit_code is not None and len(self._ended) == 2

    @property
    def started(self) -> bool:
        """Whether the command itself ran: sudo may have refused to run it."""
        return self._started_at(b"o") is not None

    def output(self, stream: bytes) -> bytes:
        """What the command wrote to ``o`` (stdout) or ``e`` (stderr)."""
        lines = self._lines[stream][self._started_at(stream) or 0 :]
        return b"".join(line + b"\n" for line in lines)

    def feed(self, data: bytes) -> None:
        """Take in what arrived."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line)

    def close(self) -> None:
        """Nothing more arrives: what is left is a line without an end."""
        if self._rest:
            self._take(self._rest)
        self._rest = b""

    def add_foreign(self, data: bytes) -> None:
        """Keep what is known to be foreign: the session's own stderr."""
        self.foreign = (self.foreign + data)[-_KEPT:]

    def _take(self, line: bytes) -> None:
        head = self.mark + b":"
        if not line.startswith(head):
            if line:
                self.add_foreign(line + b"\n")
            return
        kind, rest = line[len(head) : len(head) + 1], line[len(head) + 1 :]
        if kind == b"b":
            self.begun, self._returns = True, rest == b"\r"  # a terminal between turns \n to \r\n
            return
        rest = rest.removesuffix(b"\r") if self._returns else rest
        if kind == b"x":
            self.exit_code = int(rest)
        elif rest[:1] == _PART:
            self._parts[kind] += rest[1:]
        elif rest[:1] == _WHOLE_LINE:
            self._lines[kind].append(self._parts[kind] + rest[1:])
            self._parts[kind] = b""
        elif rest[:1] == _END:
            self._ended.add(kind)

    def _started_at(self, stream: bytes) -> int | None:
        """Index of the first line after the mark that the command began."""
        try:
            return self._lines[stream].index(self.mark + b":r") + 1
        except ValueError:
            return None


@dataclass
class StreamReader:
    """Passes on the lines of a ``frame_stream`` between its marks. ``at_start``: the login shell
    came to it; ``begun``: so did sudo."""

    mark: bytes
    at_start: bool = False
    begun: bool = False
    exit_code: int | None = None
    foreign: bytes = b""
    _rest: bytes = b""
    _empty_line: bool = False

    def feed(self, data: bytes) -> bytes:
        """Take in what arrived; returns the command's whole lines in it."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        passed = []
        for line in lines:
            if self.exit_code is not None:
                break
            if not self.begun:
                self.at_start |= line.rstrip(b"\r") == self.mark + b":b"
                self.begun = line.rstrip(b"\r") == self.mark + b":r"
                self.foreign = (self.foreign + line + b"\n")[-_KEPT:] if not self.begun else b""
            elif line.startswith(self.mark + b":x"):
                self.exit_code = int(line[len(self.mark) + 2 :])
            elif line.rstrip(b"\r") == self.mark + b":r":  # stderr's, where the profile merges both
                self._empty_line = False
            else:
                passed.append(b"\n" if self._empty_line else b"")
                self._empty_line = not line  # the mark of the end begins with one
                passed.append(line + b"\n" if line else b"")
        return b"".join(passed)
