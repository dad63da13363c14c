"""Reading the device classes that ship in the ``inventory`` package."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

import yaml
from pydantic import ValidationError

from orchestrator.domain.device_class import DeviceClass


class BadClassFile(ValueError):
    """A class file has a mistake; the message names the file, the line, the key and the mistake."""


@cache
def device_classes() -> tuple[DeviceClass, ...]:
    """All device classes, sorted by name. Raises ``BadClassFile``."""
    folder = files("inventory") / "classes"
    return read_classes(p for p in folder.iterdir() if p.name.endswith(".yaml"))


def device_class(name: str) -> DeviceClass | None:
    return next((c for c in device_classes() if c.name == name), None)


def read_classes(paths: Iterable[Traversable]) -> tuple[DeviceClass, ...]:
    """The classes in these files, sorted by name. Raises ``BadClassFile``."""
    return tuple(sorted((_read(p) for p in paths), key=lambda c: c.name))


def _read(path: Traversable) -> DeviceClass:
    text = path.read_text(encoding="utf-8")
    try:
        found = DeviceClass.model_validate(yaml.safe_load(text))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise BadClassFile(f"{path.name}, line {line}: {error.problem}") from None
    except ValidationError as error:
        raise BadClassFile("\n".join(_messages(path.name, text, error))) from None
    if found.name != path.name.removesuffix(".yaml"):
        line, key = _line_of_key(text, ("name",))
        raise BadClassFile(
            f"{path.name}, line {line}, {key}: {found.name!r}: expected the file's own name"
        )
    return found


def _messages(name: str, text: str, error: ValidationError) -> list[str]:
    """One line per mistake."""
    lines = []
    for one in error.errors():
        line, key = _line_of_key(text, one["loc"])
        message = one["msg"].removeprefix("Value error, ")
        lines.append(f"{name}, line {line}{f', {key}' if key else ''}: {message}")
    return lines


def _line_of_key(text: str, where: tuple[int | str, ...]) -> tuple[int, str]:
    """The line and dotted path of a key, or of the nearest enclosing node.

    ``where``: pydantic's location, which also has names of its types; they are skipped.
    """
    node, line, keys = yaml.compose(text), 1, list[str]()
    for part in where:
        if isinstance(node, yaml.MappingNode):
            pairs = {key.value: (key, value) for key, value in node.value}
            if part in pairs:
                key, node = pairs[part]
                line = key.start_mark.line + 1
            elif part is not where[-1]:
                continue
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line + 1
        keys.append(str(part))
    return line, ".".join(keys)
