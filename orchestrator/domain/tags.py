"""Rules for device tags, which ``-l KEY=VALUE`` and a sweep's ``devices.select`` refer to."""

from __future__ import annotations

from orchestrator.domain import builders, names

LONGEST = 200


def mistake(key: str, value: str) -> str:
    """What is wrong with a tag; empty if it is valid. An empty value removes the tag."""
    why = names.mistake(key)
    if why:
        return f"tag {key!r}: {why}"
    if key in ("name", "class"):
        return f"tag {key!r}: {key} is the device's own; choose another key"
    if len(value) > LONGEST:
        return f"tag {key}: {len(value)} characters long; at most {LONGEST} are accepted"
    if not value.isprintable():
        return f"tag {key}: expected one line of printable characters"
    if key == builders.TAG and value not in (builders.YES, builders.NO, ""):
        return f"tag {key}={value}: expected {builders.YES} or {builders.NO}"
    return ""
