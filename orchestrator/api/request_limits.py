"""What every request and every answer passes: bounded bodies in, security headers out.

No cookie is ever set or read and no other origin is allowed to read an answer, so a foreign page
has nothing to forge a request with: each carries its token in a header, which a page of another
origin cannot add without a permission that is never given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 8 << 20
"""A spec of 1 MiB may be written with six bytes a character; blobs are bounded on their own."""
MAX_DEPTH = 64
"""Brackets within brackets: what any message of ours needs is below 12."""

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))

HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
    # a report has its own styles and scripts and loads nothing from anywhere; it runs in no origin
    "Content-Security-Policy": (
        "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; "
        "script-src 'unsafe-inline'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'; "
        "sandbox allow-scripts"
    ),
}
HSTS = "max-age=31536000"
_OURS = {name.lower().encode(): value.encode() for name, value in HEADERS.items()}
_OVER_TLS = {**_OURS, b"strict-transport-security": HSTS.encode()}


class RequestLimits:
    """ASGI middleware: refuses what is too large or too deep before anything reads it."""

    def __init__(self, app: ASGIApp, streamed: str) -> None:
        """``streamed``: how paths begin whose bodies are read piece by piece."""
        self._app, self._streamed = app, streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                ours = _OVER_TLS if scope["scheme"] == "https" else _OURS
                given = [pair for pair in message["headers"] if pair[0].lower() not in ours]
                message["headers"] = [*given, *ours.items()]
            await send(message)

        if scope["path"].startswith(self._streamed):  # to a file, and bounded there
            await self._app(scope, receive, guarded)
            return
        body, why = await _whole(Headers(scope=scope), receive)
        if why:
            status = 413 if "larger" in why else 422
            answer = JSONResponse({"error": {"kind": "bad_input", "message": why}}, status)
            await answer(scope, receive, guarded)
            return
        await self._app(scope, _replayed(body, receive), guarded)


async def _whole(headers: Headers, receive: Receive) -> tuple[bytes, str]:
    """The body, and what is wrong with it."""
    too_large = f"the body is larger than {MAX_BODY_BYTES >> 20} MiB"
    said = headers.get("content-length", "")
    if said.isdigit() and int(said[:20]) > MAX_BODY_BYTES:
        return b"", too_large
    chunks = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":  # gone: the application finds it out by itself
            return bytes(chunks), ""
        chunks += message.get("body", b"")
        if len(chunks) > MAX_BODY_BYTES:
            return b"", too_large
        if not message.get("more_body", False):
            break
    opened = chunks.count(b"[") + chunks.count(b"{")  # rarely so many that depth is a question
    if opened > MAX_DEPTH and depth(bytes(chunks)) > MAX_DEPTH:
        return b"", f"the body is nested deeper than {MAX_DEPTH} levels"
    return bytes(chunks), ""


def depth(text: bytes) -> int:
    """How deep the brackets of a JSON text are nested at most."""
    brackets = _STRING.sub(b"", text).translate(None, _NOT_BRACKETS)
    if not brackets:
        return 0
    codes = np.frombuffer(brackets, dtype=np.uint8)
    steps = np.where((codes == ord("[")) | (codes == ord("{")), 1, -1)
    return int(np.cumsum(steps).max())


def _replayed(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
