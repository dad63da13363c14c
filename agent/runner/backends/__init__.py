"""Backends by name: the file ``NAME.py`` of this package is the backend NAME."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Tuple

from agent.runner.backends.base import Backend
from agent.runner.errors import BadRequest, listed


def names() -> Tuple[str, ...]:
    """Every backend there is a file for, installed or not."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in found if name != "base"))


def find(name: str) -> Backend:
    """The backend of that name; imports no runtime.

    Raises:
        BadRequest: there is no such backend; names those there are.
    """
    if name not in names():
        raise BadRequest("there is no backend %r; there are %s" % (name, listed(names())))
    module = importlib.import_module("%s.%s" % (__name__, name))
    backend: Backend = module.BACKEND()
    return backend
