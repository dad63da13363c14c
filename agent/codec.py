"""Contract dataclasses to JSON and back, strictly: unknown, missing or mistyped keys are refused.

Standard library only, Python 3.8 syntax: the measured child uses it too.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from functools import lru_cache
from typing import Any, Dict, Tuple, Type, TypeVar, Union

T = TypeVar("T")


class ContractError(ValueError):
    """A message does not fit the contract; the text names the path, what was found and expected."""


def dumps(value: Any) -> str:
    """One line of JSON. NaN and infinity are refused: they are not JSON."""
    return json.dumps(to_plain(value), allow_nan=False, separators=(",", ":"))


def to_plain(value: Any) -> Any:
    """A dataclass as JSON-ready dictionaries, lists and scalars, which share nothing with it."""
    # not dataclasses.asdict, which copies every scalar by way of copy.deepcopy
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    kind: Any = type(value)
    names = _names(kind)
    return {name: to_plain(getattr(value, name)) for name in names} if names else value


@lru_cache(maxsize=None)
def _names(cls: Any) -> Tuple[str, ...]:
    """Of a dataclass its fields, of anything else none."""
    fields = dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
    return tuple(f.name for f in fields)


def loads(cls: Type[T], text: Union[str, bytes]) -> T:
    """Parse and check one document.

    Raises:
        ContractError: not JSON, or not a ``cls``.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ContractError("%s: not JSON: %s" % (cls.__name__, error)) from None
    return from_plain(cls, data)


def from_plain(cls: Type[T], data: Any) -> T:
    """Build ``cls`` from plain data. Raises ``ContractError``."""
    result: T = _build(cls, data, cls.__name__)
    return result


@lru_cache(maxsize=None)
def _hints(cls: type) -> Dict[str, Any]:
    return typing.get_type_hints(cls)


def _build(hint: Any, data: Any, path: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build_dataclass(hint, data, path)
    origin = typing.get_origin(hint)
    if origin is Union:
        return _build_union(typing.get_args(hint), data, path)
    if origin is tuple:
        if not isinstance(data, list):
            raise _wrong(path, data, "a list")
        items = typing.get_args(hint)
        if items[-1] is Ellipsis:
            items = items[:1] * len(data)
        if len(items) != len(data):
            raise _wrong(path, data, "a list of %d" % len(items))
        return tuple(
            _build(item, d, "%s[%d]" % (path, i))
            for i, (item, d) in enumerate(zip(items, data))  # noqa: B905 - newer than 3.8
        )
    if origin is dict:
        if not isinstance(data, dict):
            raise _wrong(path, data, "an object")
        item = typing.get_args(hint)[1]
        return {key: _build(item, d, "%s.%s" % (path, key)) for key, d in data.items()}
    return _build_scalar(hint, data, path)


def _build_dataclass(cls: Any, data: Any, path: str) -> Any:
    if not isinstance(data, dict):
        raise _wrong(path, data, "an object")
    hints = _hints(cls)
    unknown = sorted(set(data) - set(hints))
    if unknown:
        raise ContractError(
            "%s: unknown key %r; known are %s" % (path, unknown[0], ", ".join(hints))
        )
    unset = dataclasses.MISSING
    for f in dataclasses.fields(cls):
        if f.name not in data and f.default is unset and f.default_factory is unset:
            raise ContractError("%s: key %r is missing" % (path, f.name))
    return cls(**{key: _build(hints[key], d, "%s.%s" % (path, key)) for key, d in data.items()})


def _build_union(members: Any, data: Any, path: str) -> Any:
    if data is None and type(None) in members:
        return None
    rest = [m for m in members if m is not type(None)]
    if len(rest) == 1:
        return _build(rest[0], data, path)
    if type(data) in rest:  # exact: a bool must not pass for an int
        return data
    raise _wrong(path, data, " or ".join(m.__name__ for m in rest))


def _build_scalar(hint: Any, data: Any, path: str) -> Any:
    if hint is float and type(data) in (int, float):
        return float(data)
    if type(data) is hint:
        return data
    raise _wrong(path, data, hint.__name__)


def _wrong(path: str, data: Any, expected: str) -> ContractError:
    return ContractError("%s: expected %s, found %s" % (path, expected, json.dumps(data)[:80]))
