"""Finds the runtimes: every folder of this package with a ``manifest.py`` is one.

``NAME/manifest.py`` holds ``RUNTIME``, ``NAME/backend.py`` holds ``BACKEND``, and each file of
``NAME/converters/`` a ``CONVERTER`` of the file's name. Nothing is listed anywhere else. Importing
this module reads the manifests, with the standard library only; a backend or a converter is
imported on request, and its runtime only inside its functions.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, Tuple

from agent import runtimes as _package
from agent.contract.failures import BadRequest, listed
from agent.runtimes.manifest import Recipe, Runtime

if TYPE_CHECKING:
    from agent.runtimes.backend import Backend
    from agent.runtimes.converter import Converter

_HERE = Path(_package.__file__).parent


class BadRuntimeFolder(ValueError):
    """Two names in ``agent/runtimes`` contradict each other; the message says which and how."""


def _read_manifests() -> Dict[str, Runtime]:
    """Raises ``BadRuntimeFolder``."""
    found = {}
    for module in pkgutil.iter_modules([str(_HERE)]):
        if not (module.ispkg and (_HERE / module.name / "manifest.py").is_file()):
            continue
        runtime = importlib.import_module(
            "%s.%s.manifest" % (_package.__name__, module.name)
        ).RUNTIME
        if runtime.name != module.name:
            raise BadRuntimeFolder(
                "agent/runtimes/%s/manifest.py names the runtime %r: folder and runtime must have "
                "the same name" % (module.name, runtime.name)
            )
        found[runtime.name] = runtime
    return found


RUNTIMES: Dict[str, Runtime] = _read_manifests()
"""Every runtime that has a folder, installed or not, by name."""


def _find_converters() -> Dict[str, str]:
    """Converter → its runtime. People write the names in ``via:``, so they must be unique.

    Raises:
        BadRuntimeFolder: two runtimes have a converter of one name.
    """
    found: Dict[str, str] = {}
    for runtime in RUNTIMES:
        for module in pkgutil.iter_modules([str(_HERE / runtime / "converters")]):
            if module.name in found:
                raise BadRuntimeFolder(
                    "%s and %s both have a converter %r: a converter's name must be unique"
                    % (found[module.name], runtime, module.name)
                )
            found[module.name] = runtime
    return dict(sorted(found.items()))


_RUNTIME_OF_CONVERTER = _find_converters()


def backend_names() -> Tuple[str, ...]:
    """Every backend, installed or not."""
    return tuple(RUNTIMES)


def converter_names() -> Tuple[str, ...]:
    """Every converter, installed or not."""
    return tuple(_RUNTIME_OF_CONVERTER)


def runtime_of_converter(name: str) -> str:
    """The runtime whose folder has that converter; empty: none has."""
    return _RUNTIME_OF_CONVERTER.get(name, "")


def find_backend(name: str) -> Backend:
    """The backend of that name; imports no runtime.

    Raises:
        BadRequest: there is no such backend; names those there are.
    """
    if name not in RUNTIMES:
        raise BadRequest("there is no backend %r; there are %s" % (name, listed(backend_names())))
    module = importlib.import_module("%s.%s.backend" % (_package.__name__, name))
    backend: Backend = module.BACKEND()
    return backend


def find_converter(name: str) -> Converter:
    """The converter of that name; imports no tool.

    Raises:
        BadRequest: there is no such converter; names those there are.
    """
    if name not in _RUNTIME_OF_CONVERTER:
        raise BadRequest(
            "there is no converter %r; there are %s" % (name, listed(converter_names()))
        )
    module = importlib.import_module(
        "%s.%s.converters.%s" % (_package.__name__, _RUNTIME_OF_CONVERTER[name], name)
    )
    converter: Converter = module.CONVERTER()
    return converter


def recipes() -> List[Tuple[Runtime, Recipe]]:
    """Every environment that can be built, each runtime's default variant first."""
    return [(runtime, recipe) for runtime in RUNTIMES.values() for recipe in runtime.recipes]


def lock_file(runtime: Runtime, recipe: Recipe) -> Path:
    """The lock file of an environment: the versions that were tested together."""
    return _HERE / runtime.name / recipe.lock
