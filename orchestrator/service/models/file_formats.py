"""The format that a model file's name promises; ``inspection.check_format`` finds its real one."""

from __future__ import annotations

from pathlib import Path

from agent.runtimes.formats import FORMATS, SOURCES, SUFFIXES
from orchestrator.domain.errors import UserError


def format_of(file_name: str, given: str = "") -> str:
    """The format that a file's suffix promises, or the ``given`` one.

    Raises:
        UserError: an unknown suffix or format, or two that contradict each other.
    """
    suffix = Path(file_name).suffix.lower()
    if given:
        if given not in SOURCES:
            raise UserError(f"format {given!r} is unknown; accepted: {', '.join(SOURCES)}")
        if suffix in SUFFIXES and FORMATS[given].suffix != suffix:
            raise UserError(
                f"{file_name}: a {given} file ends in {FORMATS[given].suffix}; leave --format out, "
                "or name the file by what it is"
            )
        return given
    if suffix not in SUFFIXES:
        raise UserError(
            f"{file_name}: unknown model format; accepted: {', '.join(SUFFIXES)}, or the folder of "
            "a SavedModel"
        )
    return SUFFIXES[suffix]
