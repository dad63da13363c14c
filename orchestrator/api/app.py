"""The FastAPI application: routes over the use cases, errors as data."""

from __future__ import annotations

import errno
import logging
import os

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from agent import __version__
from agent.contract.codec import ContractError
from orchestrator.api import (
    admin_routes,
    agent_routes,
    blob_routes,
    device_routes,
    model_routes,
    sweep_routes,
)
from orchestrator.api.dependencies import DeviceThreads
from orchestrator.api.hot_path import HotPath
from orchestrator.api.log_throttle import LogThrottle
from orchestrator.api.rate_limit import RateLimiter
from orchestrator.api.request_limits import RequestLimits
from orchestrator.domain.errors import (
    Busy,
    Conflict,
    FarmError,
    NotAllowed,
    NotFound,
    Superseded,
    TooOften,
    UnknownAttempt,
    UserError,
)
from orchestrator.service.context import FarmContext
from orchestrator.store.database import AWAY, first_line
from orchestrator.store.uploads import UploadBusy

log = logging.getLogger(__name__)

OUT_OF = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO)
"""Of system errors: it is neither the request's fault nor ours, and it may pass."""


_away, _out_of = LogThrottle(log), LogThrottle(log)

PREFIX = "/api/v1"

STATUS: tuple[tuple[type[Exception], int], ...] = (
    (NotFound, 404),
    (UnknownAttempt, 404),
    (Conflict, 409),
    (Superseded, 409),
    (NotAllowed, 403),
    (TooOften, 429),
    (UserError, 422),
    (ContractError, 422),
    (UploadBusy, 503),
    (Busy, 503),
    (FarmError, 500),
)
"""First match wins: the more particular error stands before its parent."""

HOT = (agent_routes.heartbeat, agent_routes.start, agent_routes.result, blob_routes.put_blob)
"""What a farm at work asks, over and over."""


def create_app(farm: FarmContext, broker_url: str) -> FastAPI:
    """The controller's HTTP application. ``broker_url`` is told to devices that enrol."""
    # no pages of documentation: they would run another site's scripts beside somebody's token
    app = FastAPI(
        title="benchfarm",
        version=__version__,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.farm = farm
    app.state.broker_url = broker_url
    settings = farm.settings
    app.state.throttle = RateLimiter(settings.enrolments_per_minute, settings.failures_per_minute)
    app.state.desks = DeviceThreads()
    routers = (
        agent_routes.router,
        device_routes.router,
        model_routes.router,
        sweep_routes.router,
        blob_routes.router,
        admin_routes.router,
    )
    for router in routers:
        app.include_router(router, prefix=PREFIX)
    for error, _status in STATUS:
        app.add_exception_handler(error, _answer)
    for kind in AWAY:
        app.add_exception_handler(kind, _answer_away)
    app.add_exception_handler(OSError, _answer_out_of)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_middleware(
        HotPath,
        prefix=PREFIX,
        routes=[route for router in routers for route in router.routes],
        endpoints=HOT,
        errors=app.exception_handlers,
    )
    app.add_middleware(
        RequestLimits, streamed=f"{PREFIX}/blobs/"
    )  # the last to be added is the outermost
    return app


async def _answer(_request: Request, error: Exception) -> JSONResponse:
    status = next(code for kind, code in STATUS if isinstance(error, kind))
    kind = getattr(error, "kind", "bad_contract")
    headers = {"Retry-After": "60"} if isinstance(error, TooOften) else None
    return JSONResponse({"error": {"kind": kind, "message": str(error)}}, status, headers)


async def _answer_away(request: Request, error: Exception) -> JSONResponse:
    """The database's own trouble: agents, and people, try again."""
    _away.warn("%s %s: %s", request.method, request.url.path, first_line(error))
    message = "the controller's database does not answer now; try again in a moment"
    body = {"error": {"kind": "database_away", "message": message}}
    return JSONResponse(body, 503, headers={"Retry-After": "5"})


async def _answer_out_of(request: Request, error: Exception) -> JSONResponse:
    """The machine's own trouble, a full disk mostly: agents, and people, try again."""
    assert isinstance(error, OSError)
    if error.errno not in OUT_OF:
        raise error
    reason = os.strerror(error.errno)
    _out_of.warn("%s %s: %s", request.method, request.url.path, reason)
    message = f"the controller's machine can not take this now ({reason}); try again in a while"
    body = {"error": {"kind": "out_of_room", "message": message}}
    return JSONResponse(body, 503, headers={"Retry-After": "30"})


async def _answer_nobody(_request: Request, _error: Exception) -> Response:
    """Whoever asked has gone in the middle of the body, as networks have it: no fault of ours."""
    return Response(status_code=400)


async def _answer_http(_request: Request, error: Exception) -> JSONResponse:
    """What the framework itself refuses: no such route, a body that is not JSON."""
    assert isinstance(error, HTTPException)
    body = {"error": {"kind": "bad_input", "message": str(error.detail)}}
    return JSONResponse(body, error.status_code, headers=error.headers)


async def _answer_invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    where = "; ".join(
        f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors()[:5]
    )
    message = where.encode(errors="replace").decode()  # a key may hold half a character
    return JSONResponse({"error": {"kind": "bad_input", "message": message}}, 422)
