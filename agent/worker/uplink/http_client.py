"""The agent's HTTP client: every request of a device to its controller (``/api/v1``)."""

from __future__ import annotations

import contextlib
import email.utils
import random
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urlsplit

import httpx

from agent import tls
from agent.contract import codec
from agent.contract.api_messages import (
    INLINE_HEADER,
    Enrolled,
    Enrolment,
    Heartbeat,
    HeartbeatAnswer,
    Started,
)
from agent.contract.device import DeviceFacts
from agent.worker.errors import (
    AgentError,
    AttemptSuperseded,
    AttemptUnknown,
    BadInput,
    BlobMissing,
    ControllerFailed,
    ControllerUnreachable,
    RequestRefused,
    Unauthorised,
)

T = TypeVar("T")

PREFIX = "/api/v1"
CHUNK_BYTES = 1 << 20
_BUSY = (429, 502, 503, 504)
_FIRST_WAIT_S = 0.25
_LONGEST_WAIT_S = 10.0


def check_controller_url(url: str) -> str:
    """Return ``url`` without a trailing slash. Raises ``BadInput``: not an http(s) address."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise BadInput(f"controller URL {url!r}: expected http://HOST:PORT or https://HOST")
    return url.rstrip("/")


class Uplink:
    """Requests to one controller; thread-safe. Raises the errors of ``agent.worker.errors``.

    A request that cannot reach the controller, or finds it busy, is repeated with growing, jittered
    waits for ``patience_s``; ``wait`` sleeps and returns whether to give up early.
    """

    def __init__(
        self,
        controller_url: str,
        token: str = "",
        *,
        ca_file: str = "",
        transport: httpx.BaseTransport | None = None,
        wait: Callable[[float], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(
            base_url=check_controller_url(controller_url) + PREFIX,
            headers=headers,
            timeout=httpx.Timeout(30.0, connect=5.0),
            verify=_trusting(ca_file),
            transport=transport,
        )
        self._wait = wait or _sleep
        self._clock = clock
        self.inline_bytes = 0
        """How many bytes of samples the controller accepts within a result, by its last answer."""

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Uplink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def enrol(self, enrolment: Enrolment) -> Enrolled:
        """Redeem a one-time join token."""
        answer = self._call("POST", "/enroll", codec.dumps(enrolment), patience_s=0)
        return _read(Enrolled, answer)

    def heartbeat(self, device: str, beat: Heartbeat, *, timeout_s: float = 5.0) -> HeartbeatAnswer:
        """Send one heartbeat. It is not repeated: the next one is due soon."""
        url = f"/devices/{quote(device, safe='')}/heartbeat"
        answer = self._call("PUT", url, codec.dumps(beat), patience_s=0, timeout_s=timeout_s)
        self.inline_bytes = _number(answer, INLINE_HEADER)
        return _read(HeartbeatAnswer, answer)

    def check_token(self, device: str) -> None:
        """Ask whether the token is that device's, without a heartbeat. Raises ``Unauthorised``."""
        self._call("GET", f"/devices/{quote(device, safe='')}/token", patience_s=0, timeout_s=5.0)

    def facts(self, device: str, facts: DeviceFacts, *, patience_s: float = 0.0) -> None:
        """Send this device's facts."""
        url = f"/devices/{quote(device, safe='')}/facts"
        self._call("PUT", url, codec.dumps(facts), patience_s=patience_s)

    def start(self, attempt_id: str, *, patience_s: float = 30.0) -> Started:
        """Lease an attempt.

        Raises:
            AttemptUnknown, AttemptSuperseded: there is nothing to execute.
            codec.ContractError: the trial's request is not one of this agent's contract.
        """
        url = f"/attempts/{quote(attempt_id, safe='')}/start"
        answer = self._call("POST", url, patience_s=patience_s)
        self.inline_bytes = _number(answer, INLINE_HEADER)
        return codec.loads(Started, answer.content)

    def result(self, attempt_id: str, result_json: str) -> None:
        """Send a result.

        Raises:
            AttemptSuperseded, AttemptUnknown, RequestRefused: final, sending again will not help.
        """
        url = f"/attempts/{quote(attempt_id, safe='')}/result"
        self._call("PUT", url, result_json, patience_s=0, timeout_s=60.0)

    def clock_skew_s(self) -> float:
        """This board's clock minus the controller's, to about a second (HTTP ``Date``)."""
        answer = self._send("GET", "/", None, None)
        sent = email.utils.parsedate_to_datetime(answer.headers["date"])
        return time.time() - sent.timestamp()

    @contextlib.contextmanager
    def open_blob(self, sha256: str, offset: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Request a blob's bytes from ``offset`` on. Gives (offset of the first byte, chunks).

        A controller that ignores ranges answers from 0. Raises ``BlobMissing``.
        """
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        try:
            with self._client.stream("GET", f"/blobs/{sha256}", headers=headers) as answer:
                if answer.status_code == 416:
                    yield offset, iter(())
                    return
                if answer.status_code == 404:
                    raise BlobMissing(f"the controller has no blob {sha256} for this device")
                if answer.status_code not in (200, 206):
                    answer.read()
                    _raise_for(answer)
                yield (
                    offset if answer.status_code == 206 else 0,
                    answer.iter_bytes(CHUNK_BYTES),
                )
        except httpx.TransportError as error:
            raise _unreachable(error) from error

    def has_blob(self, sha256: str) -> bool:
        """Whether the controller already holds a blob."""
        answer = self._send("HEAD", f"/blobs/{sha256}", None, None)
        if answer.status_code == 404:
            return False
        _raise_for(answer)
        return True

    def uploaded(self, sha256: str) -> int | None:
        """How many bytes of a blob the controller has from this device; ``None``: all of it.

        0 from a controller that keeps no partial uploads.
        """
        answer = self._send("HEAD", f"/blobs/{sha256}", None, None)
        if answer.status_code == 404:
            return _number(answer, "Upload-Offset")
        _raise_for(answer)
        return None

    def put_blob(self, sha256: str, path: Path, start: int | None = None) -> None:
        """Upload a file. Raises ``RequestRefused``: its SHA-256 differs.

        ``start``: how many bytes the controller has; they are not sent, and it keeps what arrives
        if the upload is cut. Where it has other or damaged bytes, all are sent. ``None``: send
        all, and keep no partial upload.
        """
        answer = self._put(sha256, path, start)
        if start and answer.status_code in (416, 422):
            answer = self._put(sha256, path, 0)
        _raise_for(answer)

    def _put(self, sha256: str, path: Path, start: int | None) -> httpx.Response:
        size, at = path.stat().st_size, start or 0
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size - at)}
        if start is not None:
            headers["Content-Range"] = f"bytes {at}-{size - 1}/{size}"
        try:
            with path.open("rb") as file:
                file.seek(at)
                return self._client.put(
                    f"/blobs/{sha256}",
                    content=iter(lambda: file.read(CHUNK_BYTES), b""),
                    headers=headers,
                    timeout=httpx.Timeout(120.0, connect=5.0),
                )
        except httpx.TransportError as error:
            raise _unreachable(error) from error

    def _call(
        self,
        method: str,
        url: str,
        body: str | None = None,
        *,
        patience_s: float,
        timeout_s: float | None = None,
    ) -> httpx.Response:
        deadline = self._clock() + patience_s
        waits = back_off()
        while True:
            try:
                answer = self._send(method, url, body, timeout_s)
                _raise_for(answer)
                return answer
            except (ControllerUnreachable, ControllerFailed):
                wait_s = next(waits)
                if self._clock() + wait_s >= deadline or self._wait(wait_s):
                    raise

    def _send(
        self, method: str, url: str, body: str | None, timeout_s: float | None
    ) -> httpx.Response:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        timeout = httpx.USE_CLIENT_DEFAULT if timeout_s is None else httpx.Timeout(timeout_s)
        try:
            return self._client.request(method, url, content=body, headers=headers, timeout=timeout)
        except httpx.TransportError as error:
            raise _unreachable(error) from error


def back_off(
    first_s: float = _FIRST_WAIT_S,
    longest_s: float = _LONGEST_WAIT_S,
    jitter: Callable[[float, float], float] = random.uniform,
) -> Iterator[float]:
    """Waits in seconds that double up to ``longest_s``, each drawn from its upper half."""
    wait_s = first_s
    while True:
        yield jitter(wait_s / 2, wait_s)
        wait_s = min(wait_s * 2, longest_s)


def _trusting(ca_file: str) -> ssl.SSLContext:
    try:
        return tls.trusting(ca_file)
    except tls.BadAuthority as error:
        raise BadInput(str(error)) from None


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _number(answer: httpx.Response, header: str) -> int:
    """A header's number; 0 where the header is missing or is no number."""
    text = answer.headers.get(header, "")
    return int(text) if text.isdecimal() and len(text) < 19 else 0


def _read(cls: type[T], answer: httpx.Response) -> T:
    try:
        return codec.loads(cls, answer.content)
    except codec.ContractError as error:
        raise ControllerFailed(f"the controller's answer is out of contract: {error}") from error


def _unreachable(error: httpx.TransportError) -> ControllerUnreachable:
    where = ""
    with contextlib.suppress(RuntimeError):  # httpx raises it where no request is attached
        where = f" at {error.request.url.copy_with(path='/', query=None)}"
    found = tls.fault(error, authority="`benchfarm-agent join --ca-file`")
    if found:
        return ControllerUnreachable(f"the controller{where}: {found}")
    with contextlib.suppress(RuntimeError):
        ended = isinstance(error, (httpx.RemoteProtocolError, httpx.ReadError))
        if ended and tls.is_meant(str(error.request.url)):
            return ControllerUnreachable(
                f"the controller{where} serves https:// there, not http://"
            )
    return ControllerUnreachable(f"no answer from the controller{where}: {_message(error)}")


def _message(error: Exception) -> str:
    return str(error) or type(error).__name__


def _raise_for(answer: httpx.Response) -> None:
    status = answer.status_code
    if status < 300:
        return
    errors: dict[int, type[AgentError]] = {
        401: Unauthorised,
        403: Unauthorised,
        404: AttemptUnknown,
        409: AttemptSuperseded,
    }
    error = errors.get(status, RequestRefused)
    if status >= 500 or status in _BUSY:
        error = ControllerFailed
    request = f"{answer.request.method} {answer.request.url.path}"
    raise error(f"{request}: {status} {_reason(answer)}".rstrip())


def _reason(answer: httpx.Response) -> str:
    """The message of the controller's error, ``{"error": {"message": …}}``, or the body's start."""
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, TypeError, KeyError):
        return answer.text[:300]
