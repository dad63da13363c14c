"""Calls the most frequent routes directly, without FastAPI in between.

FastAPI's dependencies, exit stacks and wrappers would be most of such a request's cost on the event
loop, which all boards share. The routes are registered with FastAPI too, for its documentation; a
test compares both answers byte by byte.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from orchestrator.api.dependencies import bearer

Endpoint = Callable[..., Awaitable[Response]]


class HotPath:
    """ASGI middleware: calls ``endpoints`` of ``routes`` itself, and passes all other requests on.

    An endpoint takes ``request``, ``farm``, ``sender`` and the parameters of its path. ``errors``:
    the application's exception handlers.
    """

    def __init__(
        self,
        app: ASGIApp,
        prefix: str,
        routes: Iterable[BaseRoute],
        endpoints: Collection[Endpoint],
        errors: Mapping[Any, Any],
    ) -> None:
        self._app, self._errors = app, errors
        self._endpoints: dict[str, list[tuple[re.Pattern[str], Endpoint]]] = {}
        for route in routes:
            if isinstance(route, Route) and route.endpoint in endpoints:
                pattern = compile_path(prefix + route.path)[0]
                for method in route.methods or ():
                    self._endpoints.setdefault(method, []).append((pattern, route.endpoint))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for pattern, endpoint in self._endpoints.get(scope["method"], ()):
                if found := pattern.match(scope["path"]):
                    request = Request(scope, receive, send)
                    response = await self._call(request, endpoint, found.groupdict())
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)

    async def _call(self, request: Request, endpoint: Endpoint, given: dict[str, str]) -> Response:
        try:
            farm = request.app.state.farm
            return await endpoint(request=request, farm=farm, sender=bearer(request), **given)
        except Exception as error:
            for kind in type(error).__mro__:
                if kind in self._errors:
                    answer: Response = await self._errors[kind](request, error)
                    return answer
            raise
