"""The routes that devices ask most, called without the framework in between.

FastAPI knows them and documents them as it does all others, and would answer with the same bytes
(a test compares): its dependencies, exit stacks and wrappers are most of what such a request costs
on the event loop, on which every board waits.
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
    """ASGI middleware: calls some ``endpoints`` of ``routes`` itself, and passes all else on.

    Each takes ``request``, ``farm``, ``sender`` and the parameters of its path. ``errors``: what
    answers an error, as the application has it.
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
        self._known: dict[str, list[tuple[re.Pattern[str], Endpoint]]] = {}
        for route in routes:
            if isinstance(route, Route) and route.endpoint in endpoints:
                pattern = compile_path(prefix + route.path)[0]
                for method in route.methods or ():
                    self._known.setdefault(method, []).append((pattern, route.endpoint))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for pattern, endpoint in self._known.get(scope["method"], ()):
                if found := pattern.match(scope["path"]):
                    request = Request(scope, receive, send)
                    response = await self._answered(request, endpoint, found.groupdict())
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)

    async def _answered(
        self, request: Request, endpoint: Endpoint, given: dict[str, str]
    ) -> Response:
        try:
            farm = request.app.state.farm
            return await endpoint(request=request, farm=farm, sender=bearer(request), **given)
        except Exception as error:
            for kind in type(error).__mro__:
                if kind in self._errors:
                    answer: Response = await self._errors[kind](request, error)
                    return answer
            raise
