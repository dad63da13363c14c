"""A fake controller for the agent's tests: the devices' endpoints over plain dictionaries."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import uvicorn
from fastapi import FastAPI, Request, Response

from agent.contract import codec
from agent.contract.api_messages import Enrolled, Enrolment, Heartbeat, HeartbeatAnswer, Started
from agent.contract.device import DeviceFacts
from agent.contract.trial import TrialRequest, TrialResult
from support.servers import free_port

JOIN_TOKEN = "join-me"
TOKEN = "device-secret"


@dataclass
class Controller:
    """The state of the fake controller. A test may change it while it serves."""

    broker_url: str
    url: str = ""
    lease_s: float = 30.0
    heartbeat_s: float = 0.3
    blobs: dict[str, bytes] = field(default_factory=dict)
    requests: dict[str, TrialRequest] = field(default_factory=dict)
    superseded: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    started: list[str] = field(default_factory=list)
    results: dict[str, TrialResult] = field(default_factory=dict)
    deliveries: list[str] = field(default_factory=list)
    beats: list[Heartbeat] = field(default_factory=list)
    facts: DeviceFacts | None = None
    silent: set[str] = field(default_factory=set)
    """Endpoints that answer 503: beat, result."""

    def wait_for(self, what: Callable[[], object], within_s: float = 60.0) -> None:
        """Wait until ``what()`` is true; fails the test after ``within_s``."""
        deadline = time.monotonic() + within_s
        while not what():
            assert time.monotonic() < deadline, f"not within {within_s:g} s"
            time.sleep(0.02)

    def result_of(self, attempt_id: str, within_s: float = 60.0) -> TrialResult:
        self.wait_for(lambda: attempt_id in self.results, within_s)
        return self.results[attempt_id]

    def put(self, content: bytes) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        self.blobs[sha256] = content
        return sha256


def make_app(controller: Controller) -> FastAPI:
    app = FastAPI(openapi_url=None)
    _add_device_routes(app, controller)
    _add_attempt_routes(app, controller)
    _add_blob_routes(app, controller)

    @app.middleware("http")
    async def authorised(request: Request, call_next: Callable[[Request], object]) -> Response:
        header = request.headers.get("authorization")
        if request.url.path != "/api/v1/enroll" and header != f"Bearer {TOKEN}":
            return Response(status_code=401)
        answer: Response = await call_next(request)  # type: ignore[misc]
        return answer

    return app


def _add_device_routes(app: FastAPI, controller: Controller) -> None:
    @app.post("/api/v1/enroll")
    async def enrol(request: Request) -> Response:
        enrolment = codec.loads(Enrolment, await request.body())
        if enrolment.join_token != JOIN_TOKEN:
            return Response('{"error": {"message": "spent"}}', status_code=403)
        return _json(Enrolled(enrolment.name, TOKEN, controller.broker_url, controller.heartbeat_s))

    @app.put("/api/v1/devices/{name}/heartbeat")
    async def beat(name: str, request: Request) -> Response:
        if "beat" in controller.silent:
            return Response(status_code=503)
        given = codec.loads(Heartbeat, await request.body())
        controller.beats.append(given)
        renewed = bool(given.attempt_id) and given.attempt_id not in controller.lost
        cancel = given.attempt_id in controller.cancelled
        return _json(HeartbeatAnswer(renewed, cancel, controller.heartbeat_s, controller.lease_s))

    @app.get("/api/v1/devices/{name}/token", status_code=204)
    async def token(name: str) -> None:
        """The middleware has checked the token."""

    @app.put("/api/v1/devices/{name}/facts", status_code=204)
    async def facts(name: str, request: Request) -> None:
        controller.facts = codec.loads(DeviceFacts, await request.body())


def _add_attempt_routes(app: FastAPI, controller: Controller) -> None:
    @app.post("/api/v1/attempts/{attempt_id}/start")
    async def start(attempt_id: str) -> Response:
        controller.started.append(attempt_id)
        if attempt_id in controller.superseded:
            return Response(status_code=409)
        if attempt_id not in controller.requests:
            return Response(status_code=404)
        return _json(Started(controller.lease_s, controller.requests[attempt_id]))

    @app.put("/api/v1/attempts/{attempt_id}/result")
    async def result(attempt_id: str, request: Request) -> Response:
        if "result" in controller.silent:
            return Response(status_code=503)
        given = codec.loads(TrialResult, await request.body())
        controller.deliveries.append(attempt_id)
        if given.samples is not None and given.samples.sha256 not in controller.blobs:
            return Response(status_code=422)
        controller.results[attempt_id] = given
        return Response(status_code=409 if attempt_id in controller.superseded else 200)


def _add_blob_routes(app: FastAPI, controller: Controller) -> None:
    @app.api_route("/api/v1/blobs/{sha256}", methods=["GET", "HEAD"])
    async def get(sha256: str, request: Request) -> Response:
        content = controller.blobs.get(sha256)
        if content is None:
            return Response(status_code=404)
        asked = request.headers.get("range", "bytes=0-")
        offset = int(asked.removeprefix("bytes=").removesuffix("-"))
        if offset >= len(content):
            return Response(status_code=416)
        return Response(content[offset:], status_code=206 if offset else 200)

    @app.put("/api/v1/blobs/{sha256}")
    async def put(sha256: str, request: Request) -> Response:
        content = await request.body()
        if hashlib.sha256(content).hexdigest() != sha256:
            return Response(status_code=422)
        controller.blobs[sha256] = content
        return Response(status_code=201)


def _json(value: object) -> Response:
    return Response(codec.dumps(value), media_type="application/json")


@contextlib.contextmanager
def serving(broker_url: str) -> Iterator[Controller]:
    """A controller on a free port of this machine."""
    controller = Controller(broker_url)
    port = free_port()
    controller.url = f"http://127.0.0.1:{port}"
    config = uvicorn.Config(
        make_app(controller), port=port, log_level="warning", lifespan="off", access_log=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    controller.wait_for(lambda: server.started)
    try:
        yield controller
    finally:
        server.should_exit = True
        thread.join(10)
