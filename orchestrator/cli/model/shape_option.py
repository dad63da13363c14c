"""``--shape INPUT=1,3,224,224``, which several commands take."""

from __future__ import annotations


def shape_of(text: str) -> tuple[str, list[int]]:
    """The input's name and shape. Raises ``UserError``."""
    from orchestrator.domain.errors import UserError

    name, _, dims = text.rpartition("=")
    try:
        shape = [] if dims == "scalar" else [int(d) for d in dims.replace("x", ",").split(",")]
    except ValueError:
        name = ""
    if not name:
        raise UserError(
            f"--shape {text}: expected INPUT=1,3,224,224, or INPUT=scalar for one value"
        )
    return name, shape
