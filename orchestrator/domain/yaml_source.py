"""YAML that knows where its values stand, so that every mistake in it can be named by its line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import SafeConstructor

MAX_BYTES = 1 << 20
TOO_DEEP = "nested too deeply"

Path = tuple[str | int, ...]
"""Keys and list indices from the top: ``("devices", "pi-01", "ssh")``."""


@dataclass(frozen=True, order=True)
class YamlMistake:
    """``line`` counts from 1."""

    line: int
    text: str


class YamlMistakes(ValueError):
    """The text is no YAML that is accepted; each mistake is in ``found``."""

    def __init__(self, *found: YamlMistake) -> None:
        super().__init__("; ".join(m.text for m in found))
        self.found = found


@dataclass(frozen=True)
class MarkedYaml:
    """Plain ``data``, and the line of each of its keys and items."""

    data: Any
    lines: Mapping[Path, int] = field(default_factory=dict)

    def line(self, path: Path) -> int:
        """The line of ``path``, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def load(text: str, as_written: Callable[[Path], bool]) -> MarkedYaml:
    """Read YAML less its traps: aliases and keys given twice are mistakes, and every key is text.

    ``as_written``: the scalar at that path is its text, whatever YAML would make of it (``yes``,
    ``007``, ``1.30``).

    Raises:
        Mistakes: it cannot be read; all of a kind that reading goes on after are named.
    """
    if len(text.encode()) > MAX_BYTES:
        raise YamlMistakes(YamlMistake(1, f"larger than {MAX_BYTES >> 20} MiB"))
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise YamlMistakes(
            YamlMistake(line, f"not YAML: {error.problem or error.context}")
        ) from None
    except yaml.YAMLError as error:
        raise YamlMistakes(YamlMistake(1, f"not YAML: {' '.join(str(error).split())}")) from None
    except RecursionError:
        raise YamlMistakes(YamlMistake(1, TOO_DEEP)) from None
    reader = _Reader(as_written)
    try:
        data = None if root is None else reader.value(root, ())
    except RecursionError:
        raise YamlMistakes(YamlMistake(1, TOO_DEEP)) from None
    if reader.mistakes:
        raise YamlMistakes(*sorted(reader.mistakes))
    return MarkedYaml(data, reader.lines)


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):  # a kilobyte of them can stand for gigabytes
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            problem = "aliases (*name) are not accepted; write it out"
            raise ComposerError(None, None, problem, mark)
        return super().compose_node(parent, index)


class _Reader:
    def __init__(self, as_written: Callable[[Path], bool]) -> None:
        self.lines: dict[Path, int] = {}
        self.mistakes: list[YamlMistake] = []
        self._as_written = as_written
        self._scalars = SafeConstructor()

    def value(self, node: yaml.Node, path: Path) -> Any:
        self.lines.setdefault(path, _line(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.mistakes.append(YamlMistake(_line(key), "a key must be a plain word"))
                continue
            here = (*path, key.value)
            if key.value in found:
                text = f"key {_dotted(here)!r} is given twice, first on line {self.lines[here]}"
                self.mistakes.append(YamlMistake(_line(key), text))
                continue
            self.lines[here] = _line(key)
            found[key.value] = self.value(value, here)
        return found

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        if self._as_written(path) and node.tag != "tag:yaml.org,2002:null":
            return node.value
        try:
            return self._scalars.construct_object(node)
        except Exception as error:  # noqa: BLE001  a value such as 2025-99-99 raises what it likes
            why = error.problem if isinstance(error, yaml.MarkedYAMLError) else str(error)
            text = f"{_dotted(path)}: {node.value!r} cannot be read: {why}; quote it"
            self.mistakes.append(YamlMistake(_line(node), text))
            return None


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _dotted(path: Path) -> str:
    return ".".join(map(str, path)) or "(top)"
