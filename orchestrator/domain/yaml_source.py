"""YAML with line marks: the line of every key and item, so that each mistake names its line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import SafeConstructor

from orchestrator.domain import yaml_versions

MAX_BYTES = 1 << 20
MERGE = "tag:yaml.org,2002:merge"
TAGGED = "!!"
"""Style of a scalar whose type is said by its tag: ``!!str no``."""
DEFAULT_TAGS = frozenset({"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"})

KeyPath = tuple[str | int, ...]
"""Keys and list indices from the top: ``("devices", "pi-01", "ssh")``."""


@dataclass(frozen=True, order=True)
class YamlMistake:
    """``line`` counts from 1."""

    line: int
    text: str


class YamlMistakes(ValueError):
    """The text is not YAML, or not YAML that is accepted; ``found`` lists what is wrong."""

    def __init__(self, *found: YamlMistake) -> None:
        super().__init__("; ".join(m.text for m in found))
        self.found = found


@dataclass(frozen=True)
class MarkedYaml:
    """Plain ``data``, and the line of each of its keys and items."""

    data: Any
    lines: Mapping[KeyPath, int] = field(default_factory=dict)

    def line(self, path: KeyPath) -> int:
        """The line of ``path``, or of its nearest parent in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def load(text: str, is_text: Callable[[KeyPath, str], bool]) -> MarkedYaml:
    """Read a YAML document. Every key is text.

    ``is_text``: whether the scalar at a path is taken literally, although YAML would read another
    type (``yes``, ``007``, ``1.30``).

    Raises:
        YamlMistakes: bad syntax, an alias (a kilobyte of them can expand to gigabytes), a merge
            key, a tag on a mapping or list, a key given twice, or a scalar that cannot be read, or
            that YAML 1.1 and 1.2 read differently. Bad syntax ends reading; of the others all are
            listed.
    """
    if len(text.encode()) > MAX_BYTES:
        raise YamlMistakes(YamlMistake(1, f"larger than {MAX_BYTES >> 20} MiB"))
    reader = _Reader(is_text)
    try:
        root = yaml.compose(text, Loader=_Loader)
        data = None if root is None else reader.value(root, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise YamlMistakes(_not_yaml(line, error.problem or error.context or "")) from None
    except yaml.YAMLError as error:
        raise YamlMistakes(_not_yaml(1, " ".join(str(error).split()))) from None
    except RecursionError:
        raise YamlMistakes(_not_yaml(1, "nested too deeply")) from None
    if reader.mistakes:
        raise YamlMistakes(*sorted(reader.mistakes))
    return MarkedYaml(data, reader.lines)


def dotted(path: KeyPath) -> str:
    """``runtimes.0.precision``; long keys are cut, and what a terminal cannot print is escaped."""
    parts = (p if len(p) <= 80 else p[:77] + "..." for p in map(str, path))
    return ".".join(p if p.isprintable() else repr(p)[1:-1] for p in parts)


def shortened(value: Any) -> str:
    """``repr(value)`` in at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            problem = "aliases (*name) are not accepted; write it out"
            raise ComposerError(None, None, problem, mark)
        return super().compose_node(parent, index)

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        tagged = self.peek_event().tag not in (None, "!")  # type: ignore[no-untyped-call]
        node: yaml.ScalarNode = super().compose_scalar_node(anchor)
        if tagged and node.style is None:
            node.style = TAGGED
        return node


class _Reader:
    def __init__(self, is_text: Callable[[KeyPath, str], bool]) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.mistakes: list[YamlMistake] = []
        self._is_text = is_text
        self._scalars = SafeConstructor()

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        self.lines.setdefault(path, _line(node))
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if node.tag not in DEFAULT_TAGS:
            self.mistakes.append(_not_yaml(_line(node), "tags (!!name) are not accepted"))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.mistakes.append(YamlMistake(_line(key), "a key must be a plain word"))
                continue
            here = (*path, key.value)
            if key.tag == MERGE:
                text = "merge keys (<<) are not accepted; write it out"
                self.mistakes.append(YamlMistake(_line(key), text))
                continue
            if key.value in found:
                text = f"key {dotted(here)!r} is given twice, first on line {self.lines[here]}"
                self.mistakes.append(YamlMistake(_line(key), text))
                continue
            self.lines[here] = _line(key)
            found[key.value] = self.value(value, here)
        return found

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        if self._is_text(path, node.value) and node.tag != "tag:yaml.org,2002:null":
            return node.value
        differs = yaml_versions.mistake(node)
        if differs:
            self.mistakes.append(YamlMistake(_line(node), f"{dotted(path) or '(top)'}: {differs}"))
            return None
        try:
            value = self._scalars.construct_object(node)
            str(value)  # Python prints no integer of more than 4300 digits
            return value
        except Exception as error:  # noqa: BLE001  PyYAML lets int(), date() … raise what they do
            why = error.problem if isinstance(error, yaml.MarkedYAMLError) else str(error)
            where = dotted(path) or "(top)"
            text = f"{where}: {shortened(node.value)} cannot be read: {why}; quote it"
            self.mistakes.append(YamlMistake(_line(node), text))
            return None


def _not_yaml(line: int, why: str) -> YamlMistake:
    return YamlMistake(line, f"not YAML: {why}")


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
