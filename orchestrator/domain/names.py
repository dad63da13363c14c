"""Names of sweeps, models and tags: what is accepted, and what is wrong with one that is not."""

from __future__ import annotations

import re

LONGEST = 63
ACCEPTED = "letters, digits, '.', '_', '-'"


def mistake(name: str) -> str:
    """What is wrong with a name; empty if it is valid.

    A valid name has 1 to 63 ASCII letters, digits, ``.``, ``_``, ``-``, a letter or digit first.
    """
    if not name:
        return f"empty; expected 1 to {LONGEST} of {ACCEPTED}"
    if len(name) > LONGEST:
        return f"{len(name)} characters long; at most {LONGEST} are accepted"
    strange = re.search(r"[^A-Za-z0-9._-]", name)
    if strange:
        return f"{strange[0]!r} is not accepted; expected {ACCEPTED}"
    if not name[0].isalnum():
        return f"begins with {name[0]!r}; expected a letter or digit first"
    return ""
