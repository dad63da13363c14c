"""Blobs by SHA-256: whole or by range out, hash-checked in."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from orchestrator.api.context import Anyone, InFarm
from orchestrator.domain.errors import NotAllowed
from orchestrator.service import access

router = APIRouter(tags=["blobs"])


@router.api_route("/blobs/{sha256}", methods=["GET", "HEAD"])
def get_blob(sha256: str, farm: InFarm, identity: Anyone) -> FileResponse:
    """The bytes; ``Range`` is honoured, so an interrupted download goes on where it stopped."""
    if identity.role == "join":
        raise NotAllowed("a join token opens `POST /enroll` only")
    path = farm.blobs.path(sha256)
    return FileResponse(
        path, media_type="application/octet-stream", headers={"ETag": f'"{sha256}"'}
    )


@router.put("/blobs/{sha256}", status_code=201)
async def put_blob(sha256: str, request: Request, farm: InFarm, identity: Anyone) -> Response:
    """Store the body if it hashes to ``sha256``; 200 where it was there already."""
    if identity.role != "device":
        access.demand(identity, "operator")
    if await run_in_threadpool(farm.blobs.has, sha256):
        return Response(status_code=200)
    await farm.blobs.receive(sha256, request.stream())
    return Response(status_code=201)
