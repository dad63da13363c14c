"""Tokens: who may do what. Only digests are stored; a secret is shown once."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from orchestrator.domain.errors import NotAllowed
from orchestrator.service.farm import Farm
from orchestrator.store.models import Token

ROLES = ("viewer", "operator", "admin")
"""People's roles, each including the ones before it. A device's token has the role ``device``."""


@dataclass(frozen=True)
class Identity:
    """Whose token this is; ``device_id`` is set exactly for a device's own token. ``name`` is how
    the event log calls its holder."""

    role: str
    device_id: int | None = None
    name: str = ""


def issue(
    farm: Farm,
    session: Session,
    role: str,
    *,
    device_id: int | None = None,
    note: str = "",
    lifetime: timedelta | None = None,
) -> str:
    """Make a token and return its secret, the only time that it is seen."""
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


def identify(farm: Farm, secret: str) -> Identity:
    """Whose secret this is. Raises ``NotAllowed``."""
    with farm.database.snapshot() as session:
        token = valid(farm, session, secret)
        return Identity(token.role, token.device_id, _name(token))


def _name(token: Token) -> str:
    if token.role == "device":
        return f"device {token.note}"
    return " ".join(filter(None, [token.role, token.note, f"(token {token.id})"]))


def valid(farm: Farm, session: Session, secret: str, *, lock: bool = False) -> Token:
    """The token of ``secret`` if it is neither expired nor revoked. Raises ``NotAllowed``.

    ``lock``: until the transaction ends, so that nobody else can spend it meanwhile.
    """
    query = select(Token).where(Token.digest == digest(secret))
    token = session.scalar(query.with_for_update() if lock else query)
    if token is None or token.revoked_at is not None:
        raise NotAllowed("the token is unknown or was revoked")
    if token.expires_at is not None and token.expires_at <= farm.now():
        raise NotAllowed("the token has expired; ask for a new one")
    return token


def demand(identity: Identity, role: str) -> None:
    """Raises ``NotAllowed`` unless ``identity`` is a person of at least ``role``."""
    if identity.role not in ROLES or ROLES.index(identity.role) < ROLES.index(role):
        raise NotAllowed(f"this needs the role {role}; the token has {identity.role}")


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
