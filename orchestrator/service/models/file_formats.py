"""Which format a model's file is to be in, by its name; what it is,
``orchestrator.service.models.inspection`` finds out."""

from __future__ import annotations

from pathlib import Path

from agent.runtimes.formats import FORMATS, SOURCES, SUFFIXES
from orchestrator.domain.errors import UserError


def format_of(file_name: str, told: str = "") -> str:
    """The format that a file's name promises, or the one that the user ``told``.

    Raises:
        UserError: an unknown suffix or format, or two that contradict each other.
    """
    suffix = Path(file_name).suffix.lower()
    if told:
        if told not in SOURCES:
            raise UserError(f"format {told!r} is unknown; accepted: {', '.join(SOURCES)}")
        if suffix in SUFFIXES and FORMATS[told].suffix != suffix:
            raise UserError(
                f"{file_name}: a {told} file ends in {FORMATS[told].suffix}; leave --format out, "
                "or name the file by what it is"
            )
        return told
    if suffix not in SUFFIXES:
        raise UserError(
            f"{file_name}: unknown model format; accepted: {', '.join(SUFFIXES)}, or the folder of "
            "a SavedModel"
        )
    return SUFFIXES[suffix]
