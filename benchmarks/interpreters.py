"""Where the runtimes' interpreters are."""

from __future__ import annotations

import sys
from functools import cache

from build_runtimes import answering_here
from support.environments import ROOT as ROOT
from support.environments import NotBuilt, python_of


class Missing(Exception):
    """What a benchmark needs is not here; it is left out."""


_answering = cache(answering_here)


def needed(label: str) -> str:
    """The interpreter of a runtime, ``NAME`` or ``NAME@VARIANT``. Raises ``Missing``."""
    try:
        python = python_of(label)
    except NotBuilt as error:
        raise Missing(str(error)) from None
    if python == sys.executable and label not in _answering():
        raise Missing(f"no environment of {label}: `make runtimes`")
    return python
