"""What routes depend on: the farm, the identity of the sender, and the threads for devices."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from orchestrator.api.rate_limit import RateLimiter
from orchestrator.api.thread_pool import ThreadPool
from orchestrator.domain.errors import NotAllowed
from orchestrator.service import current_actor
from orchestrator.service.context import FarmContext
from orchestrator.service.devices import tokens
from orchestrator.service.devices.tokens import Identity

T = TypeVar("T")


# dependencies that do not block are coroutines: FastAPI runs plain functions in another thread
async def _farm(request: Request) -> FarmContext:
    farm: FarmContext = request.app.state.farm
    return farm


class RequestSender:
    """The sender of a request, whose token has not been checked yet."""

    def __init__(self, farm: FarmContext, request: Request, secret: str) -> None:
        self._farm, self._request, self._secret = farm, request, secret

    def identify(self) -> Identity:
        """Authenticate the request; the only place that does.

        Queries the database and sets the thread's actor: call it in the thread that does the work.
        Raises ``NotAllowed``, ``TooOften``.
        """
        throttle: RateLimiter = self._request.app.state.throttle
        digest = tokens.digest(self._secret)
        throttle.require_trusted(self._request, digest)
        try:
            found = tokens.identify(self._farm, self._secret)
        except NotAllowed:
            throttle.failed(self._request, digest)
            raise
        throttle.succeeded(digest)
        current_actor.set_actor(found.name)
        return found

    def device(self) -> Identity:
        """``identify`` for a device's own token. Raises ``NotAllowed``, ``TooOften``."""
        found = self.identify()
        if found.device_id is None or found.role != "device":
            raise NotAllowed("only a device's own token may do this")
        return found


def bearer(request: Request) -> RequestSender:
    """The sender by the Authorization header. Raises ``NotAllowed`` where there is no token."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise NotAllowed("send the token as `Authorization: Bearer TOKEN`")
    return RequestSender(request.app.state.farm, request, secret)


async def _bearer(request: Request) -> RequestSender:
    return bearer(request)


async def _identity(sender: Annotated[RequestSender, Depends(_bearer)]) -> Identity:
    """A coroutine: a context variable set in a dependency's own thread would not reach the
    route."""
    found = await run_in_threadpool(sender.identify)
    current_actor.set_actor(found.name)
    return found


def _require_role(role: str) -> Callable[[Identity], Awaitable[Identity]]:
    async def check(identity: Annotated[Identity, Depends(_identity)]) -> Identity:
        tokens.require_role(identity, role)
        return identity

    return check


class DeviceThreads:
    """Thread pools for devices' requests.

    They are apart from the pool for people's requests, so that a slow report delays no device.
    Heartbeats have their own: leases depend on them, and they never wait for results. The pools
    are small, because more threads only contend for the interpreter lock.
    """

    def __init__(self) -> None:
        self.work, self.heartbeats = ThreadPool("work", 6), ThreadPool("beats", 2)


async def in_work_thread(request: Request, work: Callable[[], T]) -> T:
    threads: DeviceThreads = request.app.state.device_threads
    return await threads.work.run(work)


async def in_heartbeat_thread(request: Request, work: Callable[[], T]) -> T:
    threads: DeviceThreads = request.app.state.device_threads
    return await threads.heartbeats.run(work)


InFarm = Annotated[FarmContext, Depends(_farm)]
Anyone = Annotated[Identity, Depends(_identity)]
Sender = Annotated[RequestSender, Depends(_bearer)]
"""For devices' routes, the most frequent ones: they authenticate in the thread that does the work,
because each switch of threads costs as much as a query."""
Viewer = Annotated[Identity, Depends(_require_role("viewer"))]
Operator = Annotated[Identity, Depends(_require_role("operator"))]
Admin = Annotated[Identity, Depends(_require_role("admin"))]
