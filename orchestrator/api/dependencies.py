"""What routes depend on: the farm, and who is asking."""

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


# those that do not block are coroutines: each plain function would cost a change of threads
async def _farm(request: Request) -> FarmContext:
    farm: FarmContext = request.app.state.farm
    return farm


class RequestSender:
    """Whoever sends a request, not identified yet."""

    def __init__(self, farm: FarmContext, request: Request, secret: str) -> None:
        self._farm, self._request, self._secret = farm, request, secret

    def identify(self) -> Identity:
        """The only place where a request is authenticated. Asks the database: call it in the thread
        that then does the work, on whose behalf that is done is noted there. Raises
        ``NotAllowed``."""
        throttle: RateLimiter = self._request.app.state.throttle
        digest = tokens.digest(self._secret)
        throttle.require_trusted(self._request, digest)
        try:
            found = tokens.identify(self._farm, self._secret)
        except NotAllowed:
            throttle.failed(self._request, digest)
            raise
        throttle.succeeded(digest)
        current_actor.become(found.name)
        return found

    def device(self) -> Identity:
        """As ``identify``, and it is a device's own token. Raises ``NotAllowed``."""
        found = self.identify()
        if found.device_id is None or found.role != "device":
            raise NotAllowed("only a device's own token may do this")
        return found


def bearer(request: Request) -> RequestSender:
    """Raises ``NotAllowed`` where the request brings no token."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise NotAllowed("send the token as `Authorization: Bearer TOKEN`")
    return RequestSender(request.app.state.farm, request, secret)


async def _bearer(request: Request) -> RequestSender:
    return bearer(request)


async def _identity(sender: Annotated[RequestSender, Depends(_bearer)]) -> Identity:
    """Asynchronous, for what a dependency notes in a thread of its own is not seen by its route."""
    found = await run_in_threadpool(sender.identify)
    current_actor.become(found.name)
    return found


def _at_least(role: str) -> Callable[[Identity], Awaitable[Identity]]:
    async def check(identity: Annotated[Identity, Depends(_identity)]) -> Identity:
        tokens.demand(identity, role)
        return identity

    return check


class DeviceThreads:
    """The few threads that answer devices: more of them would fight for the interpreter, and a
    person's slow report keeps none of them from working. Heartbeats never wait for results: leases
    hang on them."""

    def __init__(self) -> None:
        self.work, self.beats = ThreadPool("work", 6), ThreadPool("beats", 2)


async def at_work(request: Request, work: Callable[[], T]) -> T:
    desks: DeviceThreads = request.app.state.desks
    return await desks.work.do(work)


async def at_beat(request: Request, work: Callable[[], T]) -> T:
    desks: DeviceThreads = request.app.state.desks
    return await desks.beats.do(work)


InFarm = Annotated[FarmContext, Depends(_farm)]
Anyone = Annotated[Identity, Depends(_identity)]
Sender = Annotated[RequestSender, Depends(_bearer)]
"""For devices' routes, which identify it where they work: each change of threads costs as much as
a query, and they are most of all requests."""
Viewer = Annotated[Identity, Depends(_at_least("viewer"))]
Operator = Annotated[Identity, Depends(_at_least("operator"))]
Admin = Annotated[Identity, Depends(_at_least("admin"))]
