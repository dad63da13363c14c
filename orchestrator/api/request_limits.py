"""Limits on every request's body, and security headers on every response.

There is no protection against cross-site request forgery because none is needed: no cookie is used,
and a page of another origin cannot set the Authorization header without CORS, which is never
allowed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 8 << 20
"""A spec of 1 MiB may be escaped to six bytes per character; blobs have their own limit."""
MAX_DEPTH = 64
"""Nesting of a JSON body; our own messages need less than 12."""

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
    # a report has inline styles and scripts, loads nothing, and runs in an opaque origin
    "Content-Security-Policy": (
        "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; "
        "script-src 'unsafe-inline'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'; "
        "sandbox allow-scripts"
    ),
}
HSTS = "max-age=31536000"
_HEADERS = {name.lower().encode(): value.encode() for name, value in HEADERS.items()}
_TLS_HEADERS = {**_HEADERS, b"strict-transport-security": HSTS.encode()}


class RequestLimits:
    """ASGI middleware: refuses bodies that are too large or too deeply nested."""

    def __init__(self, app: ASGIApp, streamed: str) -> None:
        """``streamed``: prefix of paths whose bodies are read in chunks."""
        self._app, self._streamed = app, streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                ours = _TLS_HEADERS if scope["scheme"] == "https" else _HEADERS
                given = [pair for pair in message["headers"] if pair[0].lower() not in ours]
                message["headers"] = [*given, *ours.items()]
            await send(message)

        if scope["path"].startswith(self._streamed):  # to a file, with its own limit
            await self._app(scope, receive, send_secured)
            return
        body, why = await _read_body(Headers(scope=scope), receive)
        if why:
            status = 413 if "larger" in why else 422
            answer = JSONResponse({"error": {"kind": "bad_input", "message": why}}, status)
            await answer(scope, receive, send_secured)
            return
        await self._app(scope, _replay(body, receive), send_secured)


async def _read_body(headers: Headers, receive: Receive) -> tuple[bytes, str]:
    """The body, and why it is refused; empty: it is not."""
    too_large = f"the body is larger than {MAX_BODY_BYTES >> 20} MiB"
    length = headers.get("content-length", "")
    if length.isdigit() and int(length[:20]) > MAX_BODY_BYTES:
        return b"", too_large
    chunks = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":  # disconnected: the application finds out itself
            return bytes(chunks), ""
        chunks += message.get("body", b"")
        if len(chunks) > MAX_BODY_BYTES:
            return b"", too_large
        if not message.get("more_body", False):
            break
    opened = chunks.count(b"[") + chunks.count(b"{")  # rarely so many that the depth matters
    if opened > MAX_DEPTH and depth(bytes(chunks)) > MAX_DEPTH:
        return b"", f"the body is nested deeper than {MAX_DEPTH} levels"
    return bytes(chunks), ""


def depth(text: bytes) -> int:
    """The maximum nesting of brackets in a JSON text."""
    brackets = _STRING.sub(b"", text).translate(None, _NOT_BRACKETS)
    if not brackets:
        return 0
    codes = np.frombuffer(brackets, dtype=np.uint8)
    steps = np.where((codes == ord("[")) | (codes == ord("{")), 1, -1)
    return int(np.cumsum(steps).max())


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
