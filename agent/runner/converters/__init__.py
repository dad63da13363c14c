"""Converters by name: the file ``NAME.py`` of this package is the converter NAME."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Tuple

from agent.runner.converters.base import Converter


def names() -> Tuple[str, ...]:
    """Every converter there is a file for, installed or not."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in found if name != "base"))


def find(name: str) -> Converter:
    """The converter of that name; imports no tool."""
    module = importlib.import_module("%s.%s" % (__name__, name))
    converter: Converter = module.CONVERTER()
    return converter
