"""Routes for administrators: people's tokens, and the broker's users."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import Field

from orchestrator.api.dependencies import Admin, InFarm
from orchestrator.api.request_models import MAX_ID, Body
from orchestrator.service.devices import tokens
from orchestrator.service.devices.broker_users import broker_users_view
from orchestrator.service.views import BrokerUsersView, NewTokenView, TokenView

router = APIRouter(tags=["administration"])


class TokenBody(Body):
    """``lifetime_s``: ``None``: the token does not expire."""

    role: Literal["viewer", "operator", "admin"]
    name: Annotated[str, Field(min_length=1, max_length=tokens.LONGEST_NOTE)]
    lifetime_s: Annotated[int, Field(ge=1, le=10 * 366 * 86_400)] | None = 30 * 86_400


@router.post("/tokens", status_code=201)
def create_token(body: TokenBody, farm: InFarm, _: Admin) -> NewTokenView:
    lifetime = None if body.lifetime_s is None else timedelta(seconds=body.lifetime_s)
    return tokens.create(farm, body.role, body.name, lifetime)


@router.get("/tokens")
def list_tokens(farm: InFarm, _: Admin) -> list[TokenView]:
    return tokens.tokens(farm)


@router.delete("/tokens/{token_id}")
def revoke_token(
    token_id: Annotated[int, Path(ge=0, le=MAX_ID)], farm: InFarm, _: Admin
) -> TokenView:
    return tokens.revoke(farm, token_id)


@router.get("/broker/users")
def broker_users(farm: InFarm, _: Admin) -> BrokerUsersView:
    """The lines of an ACL file that defines the farm's users when Redis starts."""
    return broker_users_view(farm)
