"""Blobs by SHA-256: download whole or by range, upload whole or in resumable parts."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from orchestrator.api.dependencies import Anyone, InFarm, RequestSender, Sender, in_work_thread
from orchestrator.domain.errors import NotFound, UserError
from orchestrator.service.context import FarmContext
from orchestrator.service.devices import blob_access, tokens
from orchestrator.service.devices.tokens import Identity
from orchestrator.store.uploads import UploadOutOfStep, UploadPart, Uploads, uploader_prefix

SMALL_BYTES = 1 << 20
"""Bodies up to this size, mostly samples, are read at once: that costs one switch of threads."""

router = APIRouter(tags=["blobs"])


UPLOAD_OFFSET = "Upload-Offset"
"""Response header: how many bytes of the client's upload have arrived."""


@router.get("/blobs/{sha256}", response_class=FileResponse)
@router.head("/blobs/{sha256}", operation_id="ask_blob", response_class=FileResponse)
def get_blob(sha256: str, request: Request, farm: InFarm, identity: Anyone) -> Response:
    """The bytes; supports ``Range``, so that an interrupted download can be resumed.

    A device may read the blobs of its own attempts, and may ask by ``HEAD`` for those that it
    uploaded; all others are answered with 404. ``HEAD`` for a blob that is not stored reports in
    ``Upload-Offset`` how much of the client's upload has arrived."""
    try:
        return _readable_blob(sha256, request, farm, identity)
    except NotFound:
        arrived = Uploads(farm.blobs).size(_uploader(identity), sha256)
        if request.method == "HEAD" and arrived:
            return Response(status_code=404, headers={UPLOAD_OFFSET: str(arrived)})
        raise


def _readable_blob(
    sha256: str, request: Request, farm: FarmContext, identity: Identity
) -> FileResponse:
    if identity.device_id is None or identity.role != "device":
        tokens.require_role(identity, "viewer")
        return _file_response(farm.blobs.path(sha256), sha256)
    path, device = farm.blobs.path(sha256), identity.device_id
    asked = request.method == "HEAD" and blob_access.has_uploaded(farm, device, sha256)
    if not (asked or blob_access.may_read(farm, device, sha256)):
        raise NotFound("blob", sha256, [])
    return _file_response(path, sha256)


def _uploader(identity: Identity) -> str:
    return uploader_prefix(identity.device_id, identity.token_id)


def _file_response(path: Path, sha256: str) -> FileResponse:
    return FileResponse(
        path, media_type="application/octet-stream", headers={"ETag": f'"{sha256}"'}
    )


@router.put("/blobs/{sha256}", status_code=201)
async def put_blob(sha256: str, request: Request, farm: InFarm, sender: Sender) -> Response:
    """Store the body if it hashes to ``sha256``; 200 where the blob was stored already.

    A device always has to send the bytes: it may not find out which blobs are stored. With
    ``Content-Range`` the body is a part: what arrives is kept for ``KEEP_PARTIAL_S``. 202 while
    bytes after it are missing, 416 where bytes before it are; ``Upload-Offset`` says from where."""
    length = request.headers.get("content-length", "")
    if "content-range" in request.headers:
        return await _receive_part(sha256, request, farm, sender)
    if length.isdigit() and int(length[:20]) <= SMALL_BYTES:
        data = await _read_small_body(request)

        def store() -> bool:
            known = _is_known(farm, sender.identify(), sha256)
            if not known:
                farm.blobs.put_verified(sha256, data)
            return known

        known = await in_work_thread(request, store)
    else:
        identity = await run_in_threadpool(sender.identify)
        known = await run_in_threadpool(_is_known, farm, identity, sha256)
        if not known:
            await farm.blobs.receive(sha256, request.stream())
    return Response(status_code=200 if known else 201)


async def _receive_part(
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
        return Response(status_code=416, headers={UPLOAD_OFFSET: str(error.size_bytes)})
    except ClientDisconnect:  # nobody reads the answer; what arrived is kept
        return Response(status_code=400)
    return Response(
        status_code=201 if size == part.total else 202, headers={UPLOAD_OFFSET: str(size)}
    )


async def _read_small_body(request: Request) -> bytes:
    chunks = bytearray()
    async for chunk in request.stream():
        chunks += chunk
        if len(chunks) > SMALL_BYTES:
            raise UserError("the body is longer than its Content-Length says")
    return bytes(chunks)


def _is_known(farm: FarmContext, identity: Identity, sha256: str) -> bool:
    """Whether the blob is stored, so that the body need not be read. Raises ``NotAllowed``."""
    if identity.role == "device":
        return False
    tokens.require_role(identity, "operator")
    return farm.blobs.has(sha256)
