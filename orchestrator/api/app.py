"""The FastAPI application: routes over the use cases, errors as JSON."""

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
    BoardsNotReady,
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
from orchestrator.store.database import DATABASE_UNAVAILABLE, first_line
from orchestrator.store.uploads import UploadBusy

log = logging.getLogger(__name__)

RESOURCE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO)
"""System errors for lack of a resource: not the request's fault, and a later try may succeed."""

_unavailable_log, _resource_log = LogThrottle(log), LogThrottle(log)

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
    (BoardsNotReady, 503),
    (FarmError, 500),
)
"""HTTP status by error; the first match counts, so a subclass comes before its parent."""

HOT_ENDPOINTS = (
    agent_routes.heartbeat,
    agent_routes.start,
    agent_routes.result,
    blob_routes.put_blob,
)
"""The most frequent requests of devices, which bypass FastAPI (``hot_path``)."""


def create_app(farm: FarmContext, broker_url: str) -> FastAPI:
    """The controller's HTTP application. ``broker_url``: returned to devices that enrol."""
    # no documentation pages: they would run another site's scripts next to a person's token
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
    app.state.device_threads = DeviceThreads()
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
        app.add_exception_handler(error, _answer_known_error)
    for kind in DATABASE_UNAVAILABLE:
        app.add_exception_handler(kind, _answer_database_unavailable)
    app.add_exception_handler(OSError, _answer_resource_error)
    app.add_exception_handler(ClientDisconnect, _answer_disconnected)
    app.add_exception_handler(RequestValidationError, _answer_invalid_request)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_middleware(
        HotPath,
        prefix=PREFIX,
        routes=[route for router in routers for route in router.routes],
        endpoints=HOT_ENDPOINTS,
        errors=app.exception_handlers,
    )
    app.add_middleware(
        RequestLimits, streamed=f"{PREFIX}/blobs/"
    )  # the last to be added is the outermost
    return app


async def _answer_known_error(_request: Request, error: Exception) -> JSONResponse:
    status = next(code for kind, code in STATUS if isinstance(error, kind))
    kind = getattr(error, "kind", "bad_contract")
    headers = {"Retry-After": "60"} if isinstance(error, TooOften) else None
    return JSONResponse({"error": {"kind": kind, "message": str(error)}}, status, headers)


async def _answer_database_unavailable(request: Request, error: Exception) -> JSONResponse:
    """503: the database does not answer; the client should try again."""
    _unavailable_log.warn("%s %s: %s", request.method, request.url.path, first_line(error))
    message = "the controller's database does not answer now; try again in a moment"
    body = {"error": {"kind": "database_away", "message": message}}
    return JSONResponse(body, 503, headers={"Retry-After": "5"})


async def _answer_resource_error(request: Request, error: Exception) -> JSONResponse:
    """503: the controller's machine lacks a resource, mostly disk space; the client should
    retry."""
    assert isinstance(error, OSError)
    if error.errno not in RESOURCE_ERRORS:
        raise error
    reason = os.strerror(error.errno)
    _resource_log.warn("%s %s: %s", request.method, request.url.path, reason)
    message = f"the controller's machine can not take this now ({reason}); try again in a while"
    body = {"error": {"kind": "out_of_room", "message": message}}
    return JSONResponse(body, 503, headers={"Retry-After": "30"})


async def _answer_disconnected(_request: Request, _error: Exception) -> Response:
    """The client disconnected in the middle of its body: nobody reads the answer."""
    return Response(status_code=400)


async def _answer_http_error(_request: Request, error: Exception) -> JSONResponse:
    """Refusals of the framework: no such route, a body that is not JSON."""
    assert isinstance(error, HTTPException)
    body = {"error": {"kind": "bad_input", "message": str(error.detail)}}
    return JSONResponse(body, error.status_code, headers=error.headers)


async def _answer_invalid_request(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    where = "; ".join(
        f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors()[:5]
    )
    message = where.encode(errors="replace").decode()  # a key may contain a lone surrogate
    return JSONResponse({"error": {"kind": "bad_input", "message": message}}, 422)
