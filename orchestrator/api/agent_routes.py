"""The devices' side: enrol, beat, report facts, start attempts, hand in results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from agent.contract import codec
from agent.contract.api_messages import (
    INLINE_HEADER,
    INLINE_KEY,
    Enrolment,
    Heartbeat,
    take_samples,
)
from agent.contract.device import DeviceFacts
from agent.contract.trial import TrialResult
from orchestrator.api.dependencies import InFarm, RequestSender, Sender, at_beat, at_work
from orchestrator.domain.errors import NotAllowed, UserError
from orchestrator.service import current_actor
from orchestrator.service.devices import registration
from orchestrator.service.scheduling import ingest

T = TypeVar("T")

MAX_MESSAGE_BYTES = 4 << 20
INLINE_BYTES = 64 << 10
"""So many bytes of samples a result may bring along; more are uploaded before it."""

OFFER = {INLINE_HEADER: str(INLINE_BYTES)}

router = APIRouter(tags=["devices"])


@router.post("/enroll")
async def enrol(request: Request, farm: InFarm) -> Response:
    """Redeem a one-time join token for a device token."""
    request.app.state.throttle.enrolment(request)
    enrolment = _storable(Enrolment, await _text(request))
    current_actor.become(f"device {enrolment.name}")
    broker_url = request.app.state.broker_url
    return _json(await run_in_threadpool(registration.enrol, farm, enrolment, broker_url))


@router.put("/devices/{name}/heartbeat")
async def heartbeat(name: str, request: Request, farm: InFarm, sender: Sender) -> Response:
    """Say that this device lives; renews the lease of the attempt it names."""
    text = await _text(request)

    def heard() -> Response:
        device = _own_id(sender, name)
        return _json(ingest.heartbeat(farm, device, _storable(Heartbeat, text)), OFFER)

    return await at_beat(request, heard)


@router.get("/devices/{name}/token", status_code=204)
def token(name: str, sender: Sender) -> None:
    """Whether the token that this was asked with is that device's own. Changes nothing, and is no
    sign of life."""
    _own_id(sender, name)


@router.put("/devices/{name}/facts", status_code=204)
async def facts(name: str, request: Request, farm: InFarm, sender: Sender) -> None:
    """What the device is and can run, as probed there."""
    text = await _text(request)

    def taken() -> None:
        device = _own_id(sender, name)
        registration.take_facts(farm, device, _storable(DeviceFacts, text))

    await at_work(request, taken)


@router.post("/attempts/{attempt_id}/start")
async def start(attempt_id: str, request: Request, farm: InFarm, sender: Sender) -> Response:
    """Lease an attempt: 404 where it is not this device's, 409 where it is superseded."""
    return await at_work(request, lambda: _json(ingest.start(farm, _id(sender), attempt_id), OFFER))


@router.put("/attempts/{attempt_id}/result", response_model=dict[str, bool])
async def result(attempt_id: str, request: Request, farm: InFarm, sender: Sender) -> Response:
    """Hand in a result, idempotently: 409 where a later attempt counts instead. Its samples are
    uploaded before it, or, where they are small, brought along as ``samples_base64``."""
    text = await _text(request)

    def taken() -> None:
        device = _id(sender)
        data = _parsed(TrialResult, text)
        samples = _brought(data)
        given = _built(TrialResult, data)
        if samples is not None:
            ingest.keep_samples(farm, device, attempt_id, given, samples)
        ingest.result(farm, device, attempt_id, given)

    await at_work(request, taken)
    return JSONResponse({"accepted": True})


async def _text(request: Request) -> bytes:
    chunks = bytearray()
    async for chunk in request.stream():
        chunks += chunk
        if len(chunks) > MAX_MESSAGE_BYTES:
            raise UserError(f"a message is at most {MAX_MESSAGE_BYTES >> 20} MiB")
    return bytes(chunks)


def _storable(cls: type[T], text: bytes) -> T:
    return _built(cls, _parsed(cls, text))


def _parsed(cls: type[Any], text: bytes) -> Any:
    """What is to become a ``cls``. Python reads as JSON what nobody else does: infinite numbers and
    halves of characters would be stored and then break every reader. Raises ``UserError``."""
    try:
        data = codec.parsed(cls, text)
        json.dumps(data, allow_nan=False, ensure_ascii=False).encode()
    except ValueError as error:
        raise _no(cls, error) from None
    return data


def _built(cls: type[T], data: Any) -> T:
    """Raises ``UserError``."""
    try:
        return codec.from_plain(cls, data)
    except (ValueError, OverflowError) as error:
        raise _no(cls, error) from None


def _no(cls: type[Any], error: Exception) -> UserError:
    message = f"not a {cls.__name__}: {error}"
    return UserError(message.encode(errors="replace").decode())


def _brought(data: Any) -> bytes | None:
    """The samples that a result brings along, taken out of it. Raises ``UserError``."""
    try:
        samples = take_samples(data)
    except ValueError as error:
        raise UserError(f"{INLINE_KEY}: {error}") from None
    if samples is not None and len(samples) > INLINE_BYTES:
        raise UserError(
            f"{INLINE_KEY}: {len(samples)} bytes; a result brings at most {INLINE_BYTES} along, "
            "upload more as a blob before it"
        )
    return samples


def _id(sender: RequestSender) -> int:
    device_id = sender.device().device_id
    assert device_id is not None
    return device_id


def _own_id(sender: RequestSender, name: str) -> int:
    found = sender.device()
    if found.device != name:
        raise NotAllowed(f"this token is not device {name!r}'s")
    assert found.device_id is not None
    return found.device_id


def _json(value: object, headers: Mapping[str, str] | None = None) -> Response:
    return Response(codec.dumps(value), media_type="application/json", headers=headers)
