"""Rules for device tags, which ``-l KEY=VALUE`` and a sweep's ``devices.select`` refer to."""

from __future__ import annotations

import re

from orchestrator.domain import builders

KEY = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
LONGEST = 200


def mistake(key: str, value: str) -> str:
    """What is wrong with a tag; empty if it is valid. An empty value removes the tag."""
    if not re.fullmatch(KEY, key) or key in ("name", "class"):
        return f"tag {key!r}: expected letters, digits, '.', '_', '-', and neither name nor class"
    if len(value) > LONGEST or not value.isprintable():
        return f"tag {key}: expected one line of at most {LONGEST} characters"
    if key == builders.TAG and value not in (builders.YES, builders.NO, ""):
        return f"tag {key}={value}: expected {builders.YES} or {builders.NO}"
    return ""
