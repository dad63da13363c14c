"""Routes for devices: enrol, send heartbeats and facts, start attempts, hand in results."""

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
from orchestrator.api.dependencies import (
    InFarm,
    RequestSender,
    Sender,
    in_heartbeat_thread,
    in_work_thread,
)
from orchestrator.domain.errors import NotAllowed, UserError
from orchestrator.service import current_actor
from orchestrator.service.devices import registration
from orchestrator.service.scheduling import ingest

T = TypeVar("T")

MAX_MESSAGE_BYTES = 4 << 20
INLINE_BYTES = 64 << 10
"""Largest samples that may be part of a result's message; larger ones are uploaded before it."""

INLINE_OFFER = {INLINE_HEADER: str(INLINE_BYTES)}

router = APIRouter(tags=["devices"])


@router.post("/enroll")
async def enrol(request: Request, farm: InFarm) -> Response:
    """Redeem a one-time join token for a device token."""
    request.app.state.throttle.enrolment(request)
    enrolment = _parse_message(Enrolment, await _read_body(request))
    current_actor.set_actor(f"device {enrolment.name}")
    broker_url = request.app.state.broker_url
    return _json_response(await run_in_threadpool(registration.enrol, farm, enrolment, broker_url))


@router.put("/devices/{name}/heartbeat")
async def heartbeat(name: str, request: Request, farm: InFarm, sender: Sender) -> Response:
    """Record that the device lives; renew the lease of the attempt that it names."""
    text = await _read_body(request)

    def record() -> Response:
        device = _own_device_id(sender, name)
        return _json_response(
            ingest.record_heartbeat(farm, device, _parse_message(Heartbeat, text)), INLINE_OFFER
        )

    return await in_heartbeat_thread(request, record)


@router.get("/devices/{name}/token", status_code=204)
def token(name: str, sender: Sender) -> None:
    """204 where the token is the device's own. Changes nothing, and does not count as a
    heartbeat."""
    _own_device_id(sender, name)


@router.put("/devices/{name}/facts", status_code=204)
async def facts(name: str, request: Request, farm: InFarm, sender: Sender) -> None:
    """Store what the device is and can run, as its agent probed it."""
    text = await _read_body(request)

    def record() -> None:
        device = _own_device_id(sender, name)
        registration.record_facts(farm, device, _parse_message(DeviceFacts, text))

    await in_work_thread(request, record)


@router.post("/attempts/{attempt_id}/start")
async def start(attempt_id: str, request: Request, farm: InFarm, sender: Sender) -> Response:
    """Lease an attempt: 404 where it is another device's, 409 where it is superseded."""
    return await in_work_thread(
        request,
        lambda: _json_response(
            ingest.start_attempt(farm, _device_id(sender), attempt_id), INLINE_OFFER
        ),
    )


@router.put("/attempts/{attempt_id}/result", response_model=dict[str, bool])
async def result(attempt_id: str, request: Request, farm: InFarm, sender: Sender) -> Response:
    """Accept a result, idempotently: 409 where a later attempt counts instead. Its samples were
    uploaded before, or are in the message as ``samples_base64`` where they are small."""
    text = await _read_body(request)

    def accept() -> None:
        device = _device_id(sender)
        data = _parse_json(TrialResult, text)
        samples = _take_inline_samples(data)
        given = _from_plain(TrialResult, data)
        if samples is not None:
            ingest.keep_samples(farm, device, attempt_id, given, samples)
        ingest.accept_result(farm, device, attempt_id, given)

    await in_work_thread(request, accept)
    return JSONResponse({"accepted": True})


async def _read_body(request: Request) -> bytes:
    chunks = bytearray()
    async for chunk in request.stream():
        chunks += chunk
        if len(chunks) > MAX_MESSAGE_BYTES:
            raise UserError(f"a message is at most {MAX_MESSAGE_BYTES >> 20} MiB")
    return bytes(chunks)


def _parse_message(cls: type[T], text: bytes) -> T:
    return _from_plain(cls, _parse_json(cls, text))


def _parse_json(cls: type[Any], text: bytes) -> Any:
    """JSON that is to become a ``cls``. Python also accepts infinite numbers and lone surrogates,
    which other JSON parsers refuse; they are not stored. Raises ``UserError``."""
    try:
        data = codec.parsed(cls, text)
        json.dumps(data, allow_nan=False, ensure_ascii=False).encode()
    except ValueError as error:
        raise _bad_message(cls, error) from None
    return data


def _from_plain(cls: type[T], data: Any) -> T:
    """Raises ``UserError``."""
    try:
        return codec.from_plain(cls, data)
    except (ValueError, OverflowError) as error:
        raise _bad_message(cls, error) from None


def _bad_message(cls: type[Any], error: Exception) -> UserError:
    message = f"not a {cls.__name__}: {error}"
    return UserError(message.encode(errors="replace").decode())


def _take_inline_samples(data: Any) -> bytes | None:
    """Remove the inline samples from a result's JSON and return them. Raises ``UserError``."""
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


def _device_id(sender: RequestSender) -> int:
    device_id = sender.device().device_id
    assert device_id is not None
    return device_id


def _own_device_id(sender: RequestSender, name: str) -> int:
    found = sender.device()
    if found.device != name:
        raise NotAllowed(f"this token is not device {name!r}'s")
    assert found.device_id is not None
    return found.device_id


def _json_response(value: object, headers: Mapping[str, str] | None = None) -> Response:
    return Response(codec.dumps(value), media_type="application/json", headers=headers)
