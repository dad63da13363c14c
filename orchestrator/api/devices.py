"""The devices' side: enrol, beat, report facts, start attempts, hand in results."""

from __future__ import annotations

import json
from typing import TypeVar

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from agent import codec
from agent.contract import TrialResult
from agent.device_facts import DeviceFacts
from agent.uplink_messages import Enrolment, Heartbeat
from orchestrator.api.context import DeviceId, InFarm
from orchestrator.domain.errors import NotAllowed, UserError
from orchestrator.service import actors, ingest, register
from orchestrator.service.farm import Farm

T = TypeVar("T")

MAX_MESSAGE_BYTES = 4 << 20

router = APIRouter(tags=["devices"])


@router.post("/enroll")
async def enrol(request: Request, farm: InFarm) -> Response:
    """Redeem a one-time join token for a device token."""
    request.app.state.throttle.enrolment(request)
    enrolment = await _body(request, Enrolment)
    actors.become(f"device {enrolment.name}")
    broker_url = request.app.state.broker_url
    return _json(await run_in_threadpool(register.enrol, farm, enrolment, broker_url))


@router.put("/devices/{name}/heartbeat")
async def heartbeat(name: str, request: Request, farm: InFarm, device: DeviceId) -> Response:
    """Say that this device lives; renews the lease of the attempt it names."""
    await run_in_threadpool(_own_name, farm, name, device)
    beat = await _body(request, Heartbeat)
    return _json(await run_in_threadpool(ingest.heartbeat, farm, device, beat))


@router.get("/devices/{name}/token", status_code=204)
async def token(name: str, farm: InFarm, device: DeviceId) -> None:
    """Whether the token that this was asked with is that device's own. Changes nothing, and is no
    sign of life."""
    await run_in_threadpool(_own_name, farm, name, device)


@router.put("/devices/{name}/facts", status_code=204)
async def facts(name: str, request: Request, farm: InFarm, device: DeviceId) -> None:
    """What the device is and can run, as probed there."""
    await run_in_threadpool(_own_name, farm, name, device)
    given = await _body(request, DeviceFacts)
    await run_in_threadpool(register.take_facts, farm, device, given)


@router.post("/attempts/{attempt_id}/start")
def start(attempt_id: str, farm: InFarm, device: DeviceId) -> Response:
    """Lease an attempt: 404 where it is not this device's, 409 where it is superseded."""
    return _json(ingest.start(farm, device, attempt_id))


@router.put("/attempts/{attempt_id}/result")
async def result(
    attempt_id: str, request: Request, farm: InFarm, device: DeviceId
) -> dict[str, bool]:
    """Hand in a result, idempotently: 409 where a later attempt counts instead."""
    given = await _body(request, TrialResult)
    await run_in_threadpool(ingest.result, farm, device, attempt_id, given)
    return {"accepted": True}


async def _body(request: Request, cls: type[T]) -> T:
    chunks = bytearray()
    async for chunk in request.stream():
        chunks += chunk
        if len(chunks) > MAX_MESSAGE_BYTES:
            raise UserError(f"a {cls.__name__} is at most {MAX_MESSAGE_BYTES >> 20} MiB")
    return _storable(cls, bytes(chunks))


def _storable(cls: type[T], text: bytes) -> T:
    """Python reads as JSON what nobody else does: infinite numbers and halves of characters would
    be stored and then break every reader. Raises ``UserError``."""
    try:
        value = codec.loads(cls, text)
        json.dumps(codec.to_plain(value), allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, OverflowError) as error:
        message = f"not a {cls.__name__}: {error}"
        raise UserError(message.encode(errors="replace").decode()) from None
    return value


def _own_name(farm: Farm, name: str, device_id: int) -> None:
    if register.name_of(farm, device_id) != name:
        raise NotAllowed(f"this token is not device {name!r}'s")


def _json(value: object) -> Response:
    return Response(codec.dumps(value), media_type="application/json")
