"""Contract dataclasses to JSON and back, strictly: unknown, missing or mistyped keys are refused.

A field that releases before this one do not know has a default and the metadata ``NEWER``: it is
left out where it has its default, so that they understand every message that does not need it, and
``without_newer`` takes it out of a message that they refused.

Standard library only, Python 3.8 syntax: the measured child uses it too.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from functools import lru_cache
from typing import Any, Callable, Dict, List, Tuple, Type, TypeVar, Union

T = TypeVar("T")

_SCALARS = frozenset((str, int, float, bool, type(None)))


class ContractError(ValueError):
    """A message does not match the contract; the text names the path, what was found and what was
    expected."""


def dumps(value: Any) -> str:
    """One line of JSON. NaN and infinity are refused: they are not JSON."""
    return json.dumps(to_plain(value), allow_nan=False, separators=(",", ":"))


def to_plain(value: Any) -> Any:
    """A dataclass as JSON-ready dictionaries, lists and scalars, which share nothing with it."""
    # dataclasses.asdict would copy every scalar through copy.deepcopy
    kind: Any = type(value)
    if kind in _SCALARS:
        return value
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    names = _names(kind)
    if not names:
        return value
    plain = {name: to_plain(getattr(value, name)) for name in names}
    for name, default in _newer_fields(kind).items():
        if getattr(value, name) == default:
            del plain[name]
    return plain


NEWER: Dict[str, bool] = {"newer": True}
"""Metadata of a field that earlier releases do not know: ``field(default=…, metadata=NEWER)``."""


def without_newer(cls: Type[T], text: Union[str, bytes]) -> str:
    """The JSON of a ``cls`` without the fields that earlier releases do not know, for a receiver
    that refused them. Raises ``ContractError``."""
    return dumps(_without_newer(loads(cls, text)))


def _without_newer(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_newer(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(_without_newer(item) for item in value)
    kind: Any = type(value)
    known = set(_names(kind)) - set(_newer_fields(kind))
    if not known:
        return value
    return {name: _without_newer(getattr(value, name)) for name in known}


@lru_cache(maxsize=None)
def _names(cls: Any) -> Tuple[str, ...]:
    """The fields of a dataclass; empty for any other class."""
    fields = dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
    return tuple(f.name for f in fields)


@lru_cache(maxsize=None)
def _newer_fields(cls: Any) -> Dict[str, Any]:
    """The fields of a dataclass that earlier releases do not know, with their defaults."""
    fields = dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
    return {f.name: f.default for f in fields if f.metadata.get("newer")}


def loads(cls: Type[T], text: Union[str, bytes]) -> T:
    """Parse and check one document.

    Raises:
        ContractError: not JSON, or not a ``cls``.
    """
    return from_plain(cls, parsed(cls, text))


def parsed(cls: Type[T], text: Union[str, bytes]) -> Any:
    """The document of a ``cls`` as plain data. Raises ``ContractError``: not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ContractError("%s: not JSON: %s" % (cls.__name__, error)) from None


def from_plain(cls: Type[T], data: Any) -> T:
    """Build ``cls`` from plain data. Raises ``ContractError``."""
    kind: Any = cls
    try:
        result: T = _reader(kind)(data)
    except _Mismatch as mismatch:
        path = cls.__name__ + "".join(reversed(mismatch.steps))
        raise ContractError("%s: %s" % (path, mismatch)) from None
    return result


class _Mismatch(Exception):
    """``steps``: the path from the value outwards, built only when a value does not match."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.steps: List[str] = []

    def within(self, step: str) -> "_Mismatch":
        self.steps.append(step)
        return self


def _wrong(data: Any, expected: str) -> _Mismatch:
    return _Mismatch("expected %s, found %s" % (expected, json.dumps(data)[:80]))


@lru_cache(maxsize=None)
def _reader(hint: Any) -> Callable[[Any], Any]:
    """A function that builds a value of this type from plain data; cached for each type."""
    if dataclasses.is_dataclass(hint):
        return _dataclass_reader(hint)
    origin, members = typing.get_origin(hint), typing.get_args(hint)
    if origin is Union:
        return _union_reader(members)
    if origin is tuple:
        return _tuple_reader(members)
    if origin is dict:
        return _dict_reader(_reader(members[1]))
    return _scalar_reader(hint)


def _dataclass_reader(cls: Any) -> Callable[[Any], Any]:
    readers = {name: _reader(hint) for name, hint in typing.get_type_hints(cls).items()}
    unset = dataclasses.MISSING
    required = [
        f.name for f in dataclasses.fields(cls) if f.default is unset and f.default_factory is unset
    ]

    def read(data: Any) -> Any:
        if not isinstance(data, dict):
            raise _wrong(data, "an object")
        if not data.keys() <= readers.keys():
            unknown = min(data.keys() - readers.keys())
            raise _Mismatch("unknown key %r; known are %s" % (unknown, ", ".join(readers)))
        for name in required:
            if name not in data:
                raise _Mismatch("key %r is missing" % name)
        values = {}
        for key, item in data.items():
            try:
                values[key] = readers[key](item)
            except _Mismatch as mismatch:
                raise mismatch.within("." + key) from None
        return cls(**values)

    return read


def _tuple_reader(items: Any) -> Callable[[Any], Any]:
    """For ``Tuple[X, ...]`` any length, else the exact one."""
    endless = items[-1] is Ellipsis
    readers = [_reader(item) for item in items if item is not Ellipsis]

    def read(data: Any) -> Any:
        if not isinstance(data, list):
            raise _wrong(data, "a list")
        if not endless and len(data) != len(readers):
            raise _wrong(data, "a list of %d" % len(readers))
        found: List[Any] = []
        for item in data:
            try:
                found.append(readers[0 if endless else len(found)](item))
            except _Mismatch as mismatch:
                raise mismatch.within("[%d]" % len(found)) from None
        return tuple(found)

    return read


def _dict_reader(reader: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read(data: Any) -> Any:
        if not isinstance(data, dict):
            raise _wrong(data, "an object")
        found = {}
        for key, item in data.items():
            try:
                found[key] = reader(item)
            except _Mismatch as mismatch:
                raise mismatch.within("." + key) from None
        return found

    return read


def _union_reader(members: Any) -> Callable[[Any], Any]:
    optional = type(None) in members
    rest = [m for m in members if m is not type(None)]
    one = _reader(rest[0]) if len(rest) == 1 else None

    def read(data: Any) -> Any:
        if data is None and optional:
            return None
        if one is not None:
            return one(data)
        if type(data) in rest:  # exact: a bool must not pass for an int
            return data
        raise _wrong(data, " or ".join(m.__name__ for m in rest))

    return read


def _scalar_reader(hint: Any) -> Callable[[Any], Any]:
    def read(data: Any) -> Any:
        if type(data) is hint:
            return data
        if hint is float and type(data) is int:
            return float(data)
        raise _wrong(data, hint.__name__)

    return read
