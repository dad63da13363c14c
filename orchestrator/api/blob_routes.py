"""Blobs by SHA-256: whole or by range out, hash-checked in, in one go or going on after a cut."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from orchestrator.api.dependencies import Anyone, InFarm, RequestSender, Sender, at_work
from orchestrator.domain.errors import NotFound, UserError
from orchestrator.service.context import FarmContext
from orchestrator.service.devices import blob_access, tokens
from orchestrator.service.devices.tokens import Identity
from orchestrator.store.uploads import UploadOutOfStep, UploadPart, Uploads, uploader

SMALL_BYTES = 1 << 20
"""What is at once read whole, as most samples are: they cost a single change of threads."""

router = APIRouter(tags=["blobs"])


OFFSET = "Upload-Offset"
"""Of answers: how many bytes of its upload the asker need not send again."""


@router.get("/blobs/{sha256}", response_class=FileResponse)
@router.head("/blobs/{sha256}", operation_id="ask_blob", response_class=FileResponse)
def get_blob(sha256: str, request: Request, farm: InFarm, identity: Anyone) -> Response:
    """The bytes; ``Range`` is honoured, so an interrupted download goes on where it stopped.

    A device is told of what its own attempts are about, and that there is nothing else; whether
    what it handed in itself is still here it may ask, too. ``HEAD`` of what is not here says in
    ``Upload-Offset`` how much of it has arrived from whoever asks."""
    try:
        return _found(sha256, request, farm, identity)
    except NotFound:
        begun = Uploads(farm.blobs).size(_uploader(identity), sha256)
        if request.method == "HEAD" and begun:
            return Response(status_code=404, headers={OFFSET: str(begun)})
        raise


def _found(sha256: str, request: Request, farm: FarmContext, identity: Identity) -> FileResponse:
    if identity.device_id is None or identity.role != "device":
        tokens.demand(identity, "viewer")
        return _file(farm.blobs.path(sha256), sha256)
    path, device = farm.blobs.path(sha256), identity.device_id
    asked = request.method == "HEAD" and blob_access.has_given(farm, device, sha256)
    if not (asked or blob_access.may_read(farm, device, sha256)):
        raise NotFound("blob", sha256, [])
    return _file(path, sha256)


def _uploader(identity: Identity) -> str:
    return uploader(identity.device_id, identity.token_id)


def _file(path: Path, sha256: str) -> FileResponse:
    return FileResponse(
        path, media_type="application/octet-stream", headers={"ETag": f'"{sha256}"'}
    )


@router.put("/blobs/{sha256}", status_code=201)
async def put_blob(sha256: str, request: Request, farm: InFarm, sender: Sender) -> Response:
    """Store the body if it hashes to ``sha256``; 200 where it was there already.

    A device has to send the bytes all the same: that something is there is no business of its.
    With ``Content-Range`` the body is a part of it: what arrives is kept for ``KEPT_S``, should the
    connection be cut. 202 while some is missing; 416 where something before it is missing;
    ``Upload-Offset`` says from where."""
    said = request.headers.get("content-length", "")
    if "content-range" in request.headers:
        return await _part(sha256, request, farm, sender)
    if said.isdigit() and int(said[:20]) <= SMALL_BYTES:
        data = await _small(request)

        def taken() -> bool:
            there = _is_known(farm, sender.identify(), sha256)
            if not there:
                farm.blobs.take(sha256, data)
            return there

        known = await at_work(request, taken)
    else:
        identity = await run_in_threadpool(sender.identify)
        known = await run_in_threadpool(_is_known, farm, identity, sha256)
        if not known:
            await farm.blobs.receive(sha256, request.stream())
    return Response(status_code=200 if known else 201)


async def _part(
    sha256: str, request: Request, farm: FarmContext, sender: RequestSender
) -> Response:
    identity = await run_in_threadpool(sender.identify)
    if await run_in_threadpool(_is_known, farm, identity, sha256):
        return Response(status_code=200)
    part = UploadPart.parse(request.headers["content-range"])
    try:
        size = await Uploads(farm.blobs).receive(
            _uploader(identity), sha256, part, request.stream()
        )
    except UploadOutOfStep as error:
        return Response(status_code=416, headers={OFFSET: str(error.size_bytes)})
    except ClientDisconnect:  # nobody hears the answer; what arrived is kept
        return Response(status_code=400)
    return Response(status_code=201 if size == part.total else 202, headers={OFFSET: str(size)})


async def _small(request: Request) -> bytes:
    chunks = bytearray()
    async for chunk in request.stream():
        chunks += chunk
        if len(chunks) > SMALL_BYTES:
            raise UserError("the body is longer than its Content-Length says")
    return bytes(chunks)


def _is_known(farm: FarmContext, identity: Identity, sha256: str) -> bool:
    """Whether the body need not be read. Raises ``NotAllowed``."""
    if identity.role == "device":
        return False
    tokens.demand(identity, "operator")
    return farm.blobs.has(sha256)
