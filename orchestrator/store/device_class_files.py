"""Reading the device classes that ship in the ``inventory`` package."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from orchestrator.domain.device_class import DeviceClass
from orchestrator.domain.errors import UserError
from orchestrator.domain.yaml_file import YamlFile

_FILE = YamlFile(DeviceClass)


@cache
def device_classes() -> tuple[DeviceClass, ...]:
    """All shipped classes, by name. Raises ``UserError``."""
    folder = files("inventory") / "classes"
    return read_classes(p for p in folder.iterdir() if p.name.endswith(".yaml"))


def device_class(name: str) -> DeviceClass | None:
    return next((c for c in device_classes() if c.name == name), None)


def read_classes(paths: Iterable[Traversable]) -> tuple[DeviceClass, ...]:
    """The classes in these files, by name.

    Raises:
        UserError: a line for each mistake in a file: ``FILE:LINE: what, what is accepted``.
    """
    return tuple(sorted((_read(path) for path in paths), key=lambda c: c.name))


def _read(path: Traversable) -> DeviceClass:
    found = _FILE.parse(path.read_text(encoding="utf-8"), path.name)
    name = found.value.name
    if name != path.name.removesuffix(".yaml"):
        raise UserError(f"{found.where('name')}: name: {name!r}: expected the file's own name")
    return found.value
