"""Kinds of YAML files (sweeps, fleets, device classes): each has a strict pydantic model, and all
have the same error messages: ``FILE:LINE: KEY: what is wrong, and what is accepted``."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from orchestrator.domain import yaml_source
from orchestrator.domain.errors import UserError
from orchestrator.domain.yaml_source import (
    KeyPath,
    MarkedYaml,
    YamlMistake,
    YamlMistakes,
    dotted,
    shortened,
)

M = TypeVar("M", bound=BaseModel)

EXPECTED_TYPES = {
    "string_type": "expected text; quote it",
    "bool_type": "expected true or false",
    "list_type": "expected a list: [ONE, TWO]",
    "tuple_type": "expected a list: [ONE, TWO]",
    "dict_type": "expected a mapping: KEY: VALUE",
    "model_type": "expected a mapping: KEY: VALUE",
}
"""pydantic's kinds of errors that are said in YAML's words."""


class StrictModel(BaseModel):
    """Immutable; refuses unknown keys, values of another type, NaN and infinities."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class ParsedYaml(Generic[M]):
    """A valid file. ``source`` is its name in messages."""

    value: M
    source: str
    marked: MarkedYaml

    def where(self, *path: str | int) -> str:
        """``FILE:LINE`` of a key, or of its nearest parent in the file."""
        return f"{self.source}:{self.marked.line(path)}"


def _no_text(_path: KeyPath, _value: str) -> bool:
    return False


def _no_checks(_marked: MarkedYaml) -> Iterable[YamlMistake]:
    return ()


@dataclass(frozen=True)
class YamlFile(Generic[M]):
    """A kind of YAML file.

    ``expected`` describes a key's values in messages, by the key's name. ``is_text``: see
    ``yaml_source.load``. ``checks`` finds mistakes that the model does not; it gets any mapping. At
    most ``max_mistakes`` are listed, with the number of the others.
    """

    model: type[M]
    expected: Mapping[str, str] = field(default_factory=dict)
    is_text: Callable[[KeyPath, str], bool] = _no_text
    checks: Callable[[MarkedYaml], Iterable[YamlMistake]] = _no_checks
    max_mistakes: int | None = None

    def parse(
        self,
        text: str,
        source: str,
        *,
        context: Any = None,
        override: Mapping[str, Any] | None = None,
    ) -> ParsedYaml[M]:
        """Check a file's ``text``. ``override`` replaces top-level keys; ``context`` is handed to
        the model's validators.

        Raises:
            UserError: a line for each mistake, in the order of the file.
        """
        try:
            marked = yaml_source.load(text, self.is_text)
        except YamlMistakes as error:
            raise self._refusal(source, error.found) from None
        if not isinstance(marked.data, dict):
            keys = ", ".join(_keys(self.model))
            mistake = YamlMistake(1, f"expected a mapping at the top, with {keys}")
            raise self._refusal(source, [mistake])
        mistakes = [*self.checks(marked)]
        try:
            value = self.model.model_validate({**marked.data, **(override or {})}, context=context)
        except ValidationError as error:
            mistakes += [self._mistake(marked, e) for e in error.errors()]
        if mistakes:
            raise self._refusal(source, mistakes)
        return ParsedYaml(value, source, marked)

    def _refusal(self, source: str, mistakes: Iterable[YamlMistake]) -> UserError:
        found = sorted(set(mistakes))
        lines = [f"{source}:{m.line}: {m.text}" for m in found[: self.max_mistakes]]
        if more := len(found) - len(lines):
            lines.append(f"{source}: and {more} more mistake{'s' if more > 1 else ''}")
        return UserError("\n".join(lines))

    def _mistake(self, marked: MarkedYaml, error: Any) -> YamlMistake:
        kind, unknown = error["type"], error["type"] == "extra_forbidden"
        loc = error["loc"][:-1] if unknown else error["loc"]
        path, inside = _follow(self.model, loc)
        if unknown:
            key, accepted = str(error["loc"][-1]), [k for m in _models(inside) for k in _keys(m)]
            path = (*path, key)
            text = f"unknown key {dotted(path)!r}{near(key, accepted)}; accepted here: "
            return YamlMistake(marked.line(path), text + ", ".join(accepted))
        line, expected = marked.line(path), self.expected.get(str(path[-1])) if path else None
        if kind == "missing":
            what = f": {expected}" if expected else ""
            return YamlMistake(line, f"key {dotted(path)!r} is missing{what}")
        message = error["msg"].removeprefix("Value error, ")
        if expected and kind in {"string_pattern_mismatch", "too_short"}:
            message = f"expected {expected}"
        where = f"{dotted(path)}: " if path else ""
        found = shortened(error["input"])
        return YamlMistake(line, f"{where}{EXPECTED_TYPES.get(kind, message)} (found {found})")


def near(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'runtimes'?)``, or nothing where no word is near."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _follow(model: type[BaseModel], loc: KeyPath) -> tuple[KeyPath, Any]:
    """The keys and indices of a pydantic location, which also names union members and functions,
    and the type of the value there."""
    path: KeyPath = ()
    kind: Any = model
    for part in loc:
        inner = _inside(kind, part)
        if inner is not None and part != "[key]":
            path, kind = (*path, part), inner
    return path, kind


def _inside(kind: Any, part: str | int) -> Any:
    """The type of what stands under ``part`` in a value of type ``kind``; ``None``: no such key."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _inside(args[0], part)
    if origin in (Union, UnionType):
        return next((t for t in (_inside(a, part) for a in args) if t is not None), None)
    if origin in (list, tuple):
        return args[0] if isinstance(part, int) else None
    if origin is dict:
        return args[1]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        fields = kind.model_fields.items()
        return next((f.annotation for name, f in fields if part == (f.alias or name)), None)
    return None


def _models(kind: Any) -> Iterator[type[BaseModel]]:
    """The models that a value of type ``kind`` may be of."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    elif get_origin(kind) in (Annotated, Union, UnionType):
        for arg in get_args(kind):
            yield from _models(arg)
