"""Shared parts of the request models."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

MAX_ID = 2**31 - 1
"""The largest value of an integer column."""


class Body(BaseModel):
    """A request's JSON; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")
