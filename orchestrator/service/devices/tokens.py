"""Tokens and the roles they grant. Only digests are stored; a secret is shown once."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from sqlalchemy import Row, bindparam, select
from sqlalchemy.orm import Session

from orchestrator.domain.errors import NotAllowed, NotFound, UserError
from orchestrator.service.context import FarmContext
from orchestrator.service.views import NewTokenView, TokenView
from orchestrator.store.tables import Device, Token

T = TypeVar("T", Token, Row[Any])

ROLES = ("viewer", "operator", "admin")
"""People's roles, each including the ones before it. A device's token has the role ``device``."""

LAST_USED_PRECISION = timedelta(minutes=1)
"""``last_used_at`` is updated at most this often, so that most requests only read."""
LONGEST_NOTE = 100
LONGEST_LIFETIME = timedelta(days=3650)


@dataclass(frozen=True)
class Identity:
    """The holder of a token.

    Attributes:
        device_id, device: id and name of the device; set only for a device's own token.
        name: the holder as the event log names it.
    """

    role: str
    device_id: int | None = None
    name: str = ""
    token_id: int = 0
    device: str = ""


def issue(
    farm: FarmContext,
    session: Session,
    role: str,
    *,
    device_id: int | None = None,
    note: str = "",
    lifetime: timedelta | None = None,
) -> str:
    """Insert a token and return its secret, which is not stored."""
    secret = secrets.token_urlsafe(32)
    while secret.startswith("-"):  # on a command line it would look like an option
        secret = secrets.token_urlsafe(32)
    session.add(
        Token(
            digest=digest(secret),
            role=role,
            device_id=device_id,
            note=note,
            expires_at=farm.now() + lifetime if lifetime else None,
        )
    )
    return secret


def identify(farm: FarmContext, secret: str) -> Identity:
    """The holder of a secret. Raises ``NotAllowed``."""
    wanted = digest(secret)
    with farm.database.read_connection() as connection:  # every request: one statement
        found: Any = connection.execute(SELECT_TOKEN_BY_DIGEST, {"digest": wanted}).one_or_none()
    token: Row[Any] = _require_valid(farm, found, wanted)
    last = token.last_used_at
    if last is None or farm.now() - last >= LAST_USED_PRECISION:
        with farm.database.transaction() as session:
            session.get_one(Token, token.id).last_used_at = farm.now()
    return Identity(token.role, token.device_id, _actor_name(token), token.id, token.device or "")


SELECT_TOKEN_BY_DIGEST = (
    select(
        Token.id,
        Token.digest,
        Token.role,
        Token.device_id,
        Token.note,
        Token.expires_at,
        Token.revoked_at,
        Token.last_used_at,
        Device.name.label("device"),
    )
    .outerjoin_from(Token, Device, (Device.id == Token.device_id) & (Token.role == "device"))
    .where(Token.digest == bindparam("digest"))
)


def _actor_name(token: Row[Any]) -> str:
    if token.role == "device":
        return f"device {token.note}"
    return " ".join(filter(None, [token.role, token.note, f"(token {token.id})"]))


def lock_valid_token(farm: FarmContext, session: Session, secret: str) -> Token:
    """The token of ``secret``, its row locked, so that it cannot be redeemed twice.

    Raises ``NotAllowed``: unknown, expired or revoked.
    """
    wanted = digest(secret)
    token = session.scalar(select(Token).where(Token.digest == wanted).with_for_update())
    return _require_valid(farm, token, wanted)


def _require_valid(farm: FarmContext, token: T | None, wanted: str) -> T:
    # constant time; the index only compared digests, which an attacker cannot choose
    if token is None or not hmac.compare_digest(token.digest, wanted) or token.revoked_at:
        raise NotAllowed("the token is unknown or was revoked")
    if token.expires_at is not None and token.expires_at <= farm.now():
        raise NotAllowed("the token has expired; ask for a new one")
    return token


def was_device_token(farm: FarmContext, secret: str, device: str) -> bool:
    """Whether ``secret`` is or was a token of that device, revoked or not."""
    with farm.database.read_session() as session:
        query = select(Token.role).join(Device, Device.id == Token.device_id)
        of_device = query.where(Token.digest == digest(secret), Device.name == device)
        return session.scalar(of_device) == "device"


def require_role(identity: Identity, role: str) -> None:
    """Raises ``NotAllowed`` unless ``identity`` is a person of at least ``role``."""
    if identity.role not in ROLES or ROLES.index(identity.role) < ROLES.index(role):
        raise NotAllowed(f"this needs the role {role}; the token has {identity.role}")


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def create(farm: FarmContext, role: str, name: str, lifetime: timedelta | None) -> NewTokenView:
    """Create a person's token, named after its holder; the secret is returned only here.

    Raises:
        UserError: an unknown role, or an invalid name or lifetime.
    """
    if role not in ROLES:
        raise UserError(f"role {role!r}: expected {', '.join(ROLES)}")
    if not name.strip() or len(name) > LONGEST_NOTE or not name.isprintable():
        raise UserError(f"name {name[:40]!r}: expected one line of 1 to {LONGEST_NOTE} characters")
    if lifetime is not None and not timedelta(0) < lifetime <= LONGEST_LIFETIME:
        raise UserError(f"a token lives for at most {LONGEST_LIFETIME.days} days, or for ever")
    with farm.database.transaction() as session:
        secret = issue(farm, session, role, note=name, lifetime=lifetime)
        session.flush()
        token = session.scalars(select(Token).where(Token.digest == digest(secret))).one()
        farm.record_event(session, "token_created", name, role=role, token=token.id)
        return NewTokenView(secret=secret, token=_token_view(farm, token))


def tokens(farm: FarmContext) -> list[TokenView]:
    """People's tokens, without their secrets."""
    with farm.database.read_session() as session:
        query = select(Token).where(Token.role.in_(ROLES)).order_by(Token.id)
        return [_token_view(farm, token) for token in session.scalars(query)]


def revoke(farm: FarmContext, token_id: int) -> TokenView:
    """Revoke a person's token; revoking it twice is no error. Raises ``NotFound``."""
    with farm.database.transaction() as session:
        token = session.get(Token, token_id, with_for_update=True)
        if token is None or token.role not in ROLES:
            known = [str(t) for t in session.scalars(select(Token.id).where(Token.role.in_(ROLES)))]
            raise NotFound("token", str(token_id), known)
        if token.revoked_at is None:
            token.revoked_at = farm.now()
            farm.record_event(session, "token_revoked", token.note, role=token.role, token=token.id)
        return _token_view(farm, token)


def _token_view(farm: FarmContext, token: Token) -> TokenView:
    state = "valid"
    if token.revoked_at is not None:
        state = "revoked"
    elif token.expires_at is not None and token.expires_at <= farm.now():
        state = "expired"
    return TokenView(
        id=token.id,
        name=token.note,
        role=token.role,
        state=state,
        created_at=token.created_at,
        expires_at=token.expires_at,
        last_used_at=token.last_used_at,
    )
