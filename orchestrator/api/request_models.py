"""What people's requests have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

MAX_ID = 2**31 - 1
"""What the tables' numbers can be."""


class Body(BaseModel):
    """A request's JSON; what it does not name is refused."""

    model_config = ConfigDict(extra="forbid")
