"""One command over one SSH session: its input, its framed output, its time limit."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from paramiko import Channel, SSHException, Transport

from playbooks.errors import ConnectionLost, NoShell, PlaybookError, StepFailed
from playbooks.framed_command import FrameReader, StreamReader, frame, frame_stream

TICK_S = 0.25
END_LIMIT_S = 5.0
INPUT_LIMIT_S = 60.0
"""Longest time in which a board takes no byte of what is sent to it."""
_PIECE = 1 << 15
_NO_EXIT_STATUS = -1
"""paramiko's value for a channel that closed without an exit status."""
_CONTROL = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x1f\x7f]"
)


@dataclass(frozen=True)
class Answer:
    """``started``: whether the command itself ran, not only the ``prefix`` before it. ``foreign``:
    what the login shell printed besides."""

    exit_code: int
    out: str
    err: str
    started: bool
    foreign: str


class Session:
    """Runs commands over one connection. ``name``: ``user@address``; ``on_tick`` is called a few
    times a second while a command runs."""

    def __init__(self, transport: Transport, name: str, on_tick: Callable[[], None]) -> None:
        self._transport = transport
        self._name = name
        self._on_tick = on_tick

    def run(
        self, command: str, stdin: BinaryIO | None, limit_s: float | None, prefix: str = ""
    ) -> Answer:
        """Run ``command`` by ``prefix``. Its input is sent once it is known to run, so that no
        profile reads it. Without a ``limit_s`` only input that is not taken ends it.

        Raises:
            ConnectionLost, NoShell, StepFailed: the limit is over.
        """
        framed = frame(command, prefix)
        reader = FrameReader(framed.mark)
        with self._channel(framed.words) as channel:
            self._exchange(channel, reader, stdin, limit_s)
            if not reader.complete:
                self._cut_short(channel, reader)
        return Answer(
            exit_code=int(reader.exit_code or 0),
            out=reader.output(b"o").decode(errors="replace"),
            err=reader.output(b"e").decode(errors="replace"),
            started=reader.started,
            foreign=plain(reader.foreign, reader.mark),
        )

    def stream(
        self, command: str, prefix: str, stdin: bytes, write: Callable[[bytes], object]
    ) -> None:
        """Pass the command's output to ``write`` as it arrives, until it ends; end of file on its
        stdin tells it to end.

        Raises:
            ConnectionLost, NoShell, StepFailed: its exit code is not 0.
        """
        framed = frame_stream(command, prefix)
        reader = StreamReader(framed.mark)
        message = b""
        with self._channel(framed.words) as channel:
            try:
                while reader.exit_code is None:
                    chunk = _receive(channel)
                    message = (message + _errors(channel))[-_PIECE:]
                    if chunk == b"":
                        break
                    if chunk:
                        write(reader.feed(chunk))
                    if reader.at_start and stdin:
                        channel.sendall(stdin)
                        stdin = b""
                    self._on_tick()
            finally:
                channel.shutdown_write()
                channel.status_event.wait(END_LIMIT_S)
            message += _errors(channel)
            if not reader.begun and reader.exit_code is None and _status(channel) == 0:
                reader.foreign += message
                raise self._no_shell(reader, "ended with 0")
            if reader.exit_code is None:
                self._went_away(channel)
        code = reader.exit_code if reader.exit_code is not None else _status(channel)
        if code != 0:
            text = message.partition(framed.mark + b":r\n")[2] or message
            raise StepFailed(f"{self._name}: {plain(text) or f'exit {code}'}")

    @contextlib.contextmanager
    def _channel(self, words: str) -> Iterator[Channel]:
        try:
            channel = self._transport.open_session()
            with contextlib.closing(channel):
                channel.settimeout(TICK_S)
                channel.exec_command(words)
                yield channel
        except PlaybookError:
            raise
        except (SSHException, OSError, EOFError) as error:
            why = str(error) or type(error).__name__
            if self._transport.is_active():
                raise NoShell(f"{self._name} does not let a command run ({why})") from None
            raise ConnectionLost(f"{self._name} went away: {why}") from None

    def _exchange(
        self, channel: Channel, reader: FrameReader, stdin: BinaryIO | None, limit_s: float | None
    ) -> None:
        deadline = time.monotonic() + limit_s if limit_s is not None else None
        given = _Input(channel, stdin)
        while not reader.complete:
            sending = reader.begun and reader.exit_code is None and given.push()
            if given.refused_s > INPUT_LIMIT_S:
                raise StepFailed(f"{self._name} took no input for {INPUT_LIMIT_S:.0f} s")
            if not sending or channel.recv_ready():
                chunk = _receive(channel)
                if chunk == b"":
                    break
                reader.feed(chunk or b"")
            reader.add_foreign(_errors(channel))
            self._on_tick()
            if deadline is not None and time.monotonic() > deadline:
                raise self._too_late(reader, limit_s or 0.0)
        reader.add_foreign(_errors(channel))
        reader.close()

    def _too_late(self, reader: FrameReader, limit_s: float) -> PlaybookError:
        if not reader.begun:
            return self._no_shell(reader, f"did not come to it within {limit_s:.0f} s")
        return StepFailed(f"{self._name}: a command was not done within {limit_s:.0f} s")

    def _cut_short(self, channel: Channel, reader: FrameReader) -> None:
        """Raises the error of a session that ended before the answer was complete."""
        self._went_away(channel)
        if not reader.begun:
            raise self._no_shell(reader, f"ended with {_status(channel)}")
        raise StepFailed(
            f"{self._name}: a command was cut short: {plain(reader.foreign) or 'nothing said why'}"
        )

    def _went_away(self, channel: Channel) -> None:
        if _status(channel) == _NO_EXIT_STATUS:
            raise ConnectionLost(f"{self._name} went away in the middle of a command")

    def _no_shell(self, reader: FrameReader | StreamReader, what: str) -> NoShell:
        said = plain(reader.foreign, reader.mark).rstrip(".")
        return NoShell(
            f"{self._name}: the login shell was given a command and {what}"
            f"{f'; it printed: {said}' if said else ', without a word'}. "
            "The account needs a shell that runs commands (not nologin), no forced command, and a "
            "profile (~/.bashrc, ~/.cshrc, config.fish) that neither starts another shell (`exec "
            "zsh`) nor waits for an answer where there is no terminal"
        )


def plain(printed: bytes, mark: bytes = b"") -> str:
    """The last lines of what was printed, on one line, without what steers a terminal, and without
    those with ``mark``: `set -x` prints the command itself."""
    lines = (
        _CONTROL.sub("", line.decode(errors="replace")).strip()
        for line in printed.replace(b"\r", b"\n").split(b"\n")
        if not (mark and mark in line)
    )
    return "; ".join([line for line in lines if line][-4:])[-600:]


def _receive(channel: Channel) -> bytes | None:
    """What arrived; empty at the end, ``None`` if nothing came within a tick."""
    try:
        return bytes(channel.recv(1 << 16))
    except TimeoutError:
        return None


def _errors(channel: Channel) -> bytes:
    """What is there of the session's stderr."""
    found = b""
    while channel.recv_stderr_ready():
        found += channel.recv_stderr(1 << 16)
    return found


class _Input:
    """Stdin of a session, sent piece by piece; end of file at once where there is none."""

    def __init__(self, channel: Channel, source: BinaryIO | None) -> None:
        self._channel = channel
        self._source = source
        self._pending = b""
        self._taken = time.monotonic()
        if source is None:
            channel.shutdown_write()

    @property
    def refused_s(self) -> float:
        """For how long nothing of it has been taken."""
        return time.monotonic() - self._taken if self._pending else 0.0

    def push(self) -> bool:
        """Send a piece; whether more may follow."""
        if self._source is None:
            return False
        if not self._pending:
            self._pending = self._source.read(_PIECE)
            self._taken = time.monotonic()
        if not self._pending:
            self._channel.shutdown_write()
            self._source = None
            return False
        try:
            sent = self._channel.send(self._pending)
        except TimeoutError:
            return True
        except OSError:
            sent = 0
        if sent:
            self._pending, self._taken = self._pending[sent:], time.monotonic()
        else:  # the other side reads no more: its answer says why
            self._pending, self._source = b"", None
        return self._source is not None


def _status(channel: Channel) -> int:
    """The session's exit status; ``_NO_EXIT_STATUS`` if the connection broke."""
    channel.status_event.wait(END_LIMIT_S)
    return int(channel.exit_status)
