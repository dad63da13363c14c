"""What routes depend on: the farm, and who is asking."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from orchestrator.api.throttle import Throttle
from orchestrator.domain.errors import NotAllowed
from orchestrator.service import access, actors
from orchestrator.service.access import Identity
from orchestrator.service.farm import Farm


# those that do not block are coroutines: each plain function would cost a change of threads
async def _farm(request: Request) -> Farm:
    farm: Farm = request.app.state.farm
    return farm


async def _identity(request: Request, farm: Annotated[Farm, Depends(_farm)]) -> Identity:
    """The only place where a request is authenticated. Asynchronous, for what a dependency notes in
    a thread of its own is not seen by its route."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise NotAllowed("send the token as `Authorization: Bearer TOKEN`")
    throttle: Throttle = request.app.state.throttle
    digest = access.digest(secret)
    throttle.require_trusted(request, digest)
    try:
        found = await run_in_threadpool(access.identify, farm, secret)
    except NotAllowed:
        throttle.failed(request, digest)
        raise
    throttle.succeeded(digest)
    actors.become(found.name)
    return found


async def _device(identity: Annotated[Identity, Depends(_identity)]) -> int:
    if identity.device_id is None or identity.role != "device":
        raise NotAllowed("only a device's own token may do this")
    return identity.device_id


def _at_least(role: str) -> Callable[[Identity], Awaitable[Identity]]:
    async def check(identity: Annotated[Identity, Depends(_identity)]) -> Identity:
        access.demand(identity, role)
        return identity

    return check


InFarm = Annotated[Farm, Depends(_farm)]
Anyone = Annotated[Identity, Depends(_identity)]
DeviceId = Annotated[int, Depends(_device)]
Viewer = Annotated[Identity, Depends(_at_least("viewer"))]
Operator = Annotated[Identity, Depends(_at_least("operator"))]
Admin = Annotated[Identity, Depends(_at_least("admin"))]
