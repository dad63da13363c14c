"""The administrators' side: people's tokens, and the broker's users."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import Field

from orchestrator.api.bodies import MAX_ID, Body
from orchestrator.api.context import Admin, InFarm
from orchestrator.service import access, admission
from orchestrator.service.views import BrokerUsersView, NewTokenView, TokenView

router = APIRouter(tags=["administration"])


class TokenBody(Body):
    """``lifetime_s``: none: it does not expire."""

    role: Literal["viewer", "operator", "admin"]
    name: Annotated[str, Field(min_length=1, max_length=access.LONGEST_NOTE)]
    lifetime_s: Annotated[int, Field(ge=1, le=10 * 366 * 86_400)] | None = 30 * 86_400


@router.post("/tokens", status_code=201)
def create_token(body: TokenBody, farm: InFarm, _: Admin) -> NewTokenView:
    lifetime = None if body.lifetime_s is None else timedelta(seconds=body.lifetime_s)
    return access.create(farm, body.role, body.name, lifetime)


@router.get("/tokens")
def list_tokens(farm: InFarm, _: Admin) -> list[TokenView]:
    return access.tokens(farm)


@router.delete("/tokens/{token_id}")
def revoke_token(
    token_id: Annotated[int, Path(ge=0, le=MAX_ID)], farm: InFarm, _: Admin
) -> TokenView:
    return access.revoke(farm, token_id)


@router.get("/broker/users")
def broker_users(farm: InFarm, _: Admin) -> BrokerUsersView:
    """The lines of an ACL file with which Redis knows this farm's devices from its start."""
    return admission.users(farm)
