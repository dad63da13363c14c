"""Plain scalars that YAML 1.1 and YAML 1.2 read differently.

PyYAML, which reads benchfarm's files, follows YAML 1.1: ``010`` is 8, ``1:30`` is 90, ``no`` is
false, ``1e-2`` is text. Most people, and most other tools, have YAML 1.2 in mind. A value on which
the two disagree is refused instead of guessed: whoever wrote it says which one is meant.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import date
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

CORE_SCHEMA: tuple[tuple[str, Callable[[str], Any]], ...] = (
    (r"null|Null|NULL|~|", lambda _: None),
    (r"true|True|TRUE", lambda _: True),
    (r"false|False|FALSE", lambda _: False),
    (r"[-+]?[0-9]+", int),
    (r"0o[0-7]+", lambda text: int(text[2:], 8)),
    (r"0x[0-9a-fA-F]+", lambda text: int(text, 16)),
    (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", float),
    (r"[-+]?\.(inf|Inf|INF)", lambda text: -math.inf if text[0] == "-" else math.inf),
    (r"\.(nan|NaN|NAN)", lambda _: math.nan),
)
"""YAML 1.2's core schema (https://yaml.org/spec/1.2.2/#1032-tag-resolution): pattern of a plain
scalar → its value. What fits none of them is text."""

ONE_LETTER_BOOLEANS = {"y": True, "Y": True, "n": False, "N": False}
"""Booleans of YAML 1.1 (https://yaml.org/type/bool.html) that PyYAML leaves as text."""


def mistake(node: yaml.ScalarNode) -> str:
    """How the two versions read a plain scalar, and what to write instead; empty where they agree.

    A scalar with a ``style`` is quoted or tagged, and says by that what it is.
    """
    if node.style is not None:
        return ""
    try:
        before, now = _read_1_1(node), _read_1_2(node.value)
        numbers = [_plain(v) for v in (before, now) if not isinstance(v, str | date)]
    except (ValueError, yaml.YAMLError):  # 2026-13-45, thousands of digits: the reader says so
        return ""
    if _same(before, now):
        return ""
    write = f"write {' or '.join(numbers)}" if numbers else ""
    quote = f'quote it: "{node.value}"'
    advice = f"{write}, or {quote}" if write else quote
    return (
        f"{node.value} is {_described(before)} in YAML 1.1 and {_described(now)} in YAML 1.2; "
        f"{advice}"
    )


def _read_1_1(node: yaml.ScalarNode) -> Any:
    if node.value in ONE_LETTER_BOOLEANS:
        return ONE_LETTER_BOOLEANS[node.value]
    return SafeConstructor().construct_object(yaml.ScalarNode(node.tag, node.value))


def _read_1_2(text: str) -> Any:
    return next((read(text) for p, read in CORE_SCHEMA if re.fullmatch(p, text)), text)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return type(one) is type(other) and bool(one == other)  # True == 1, and is another value


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value}"


def _described(value: Any) -> str:
    if isinstance(value, str):
        return "text"
    return f"the date {value}" if isinstance(value, date) else _plain(value)
