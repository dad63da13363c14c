"""Plain scalars on which YAML 1.1 and 1.2 disagree, and those on which they agree."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.yaml_source import YamlMistakes, load
from orchestrator.domain.yaml_versions import mistake


def read(text: str, is_text: Callable[..., bool] = lambda _path, _value: False) -> Any:
    return load(f"a: {text}", is_text).data["a"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("010", '8 in YAML 1.1 and 10 in YAML 1.2; write 8 or 10, or quote it: "010"'),
        ("-010", "-8 in YAML 1.1 and -10 in YAML 1.2"),
        ("08", "text in YAML 1.1 and 8 in YAML 1.2"),
        ("0o17", "text in YAML 1.1 and 15 in YAML 1.2"),
        ("0b11", "3 in YAML 1.1 and text in YAML 1.2"),
        ("-0x1F", "-31 in YAML 1.1 and text in YAML 1.2"),
        ("1_000", "1000 in YAML 1.1 and text in YAML 1.2"),
        ("685_230.15", "685230.15 in YAML 1.1 and text in YAML 1.2"),
        ("1:30", '90 in YAML 1.1 and text in YAML 1.2; write 90, or quote it: "1:30"'),
        ("190:20:30.15", "685230.15 in YAML 1.1"),
        ("1e-2", 'text in YAML 1.1 and 0.01 in YAML 1.2; write 0.01, or quote it: "1e-2"'),
        ("1.5e3", "text in YAML 1.1 and 1500.0 in YAML 1.2"),
        ("+.5", "text in YAML 1.1 and 0.5 in YAML 1.2"),
        ("no", 'false in YAML 1.1 and text in YAML 1.2; write false, or quote it: "no"'),
        ("Yes", "true in YAML 1.1"),
        ("OFF", "false in YAML 1.1"),
        ("y", "true in YAML 1.1"),
        ("N", "false in YAML 1.1"),
        ("2026-01-02", 'the date 2026-01-02 in YAML 1.1 and text in YAML 1.2; quote it: "2026-'),
        ("2026-01-02 03:04:05", "the date 2026-01-02 03:04:05 in YAML 1.1"),
    ],
)
def test_what_the_versions_read_differently_is_refused_with_both_readings(
    text: str, says: str
) -> None:
    with pytest.raises(YamlMistakes) as caught:
        read(text)
    assert says in caught.value.found[0].text
    assert caught.value.found[0].text.startswith(f"a: {text} is ")
    for quoted in (f'"{text}"', f"'{text}'", f"!!str {text}", f"|\n  {text}"):
        assert read(quoted).strip() == text
    assert read(text, lambda _path, _value: True) == text, "a key whose values are text"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10), ("-3", -3), ("+3", 3), ("0", 0), ("007", 7), ("0x1F", 31), ("1.5", 1.5),
        (".5", 0.5), ("1.", 1.0), ("1.5e+3", 1500.0), ("true", True), ("FALSE", False),
        ("null", None), ("~", None), ("", None), (".inf", math.inf), ("-.INF", -math.inf),
        ("1.2.3", "1.2.3"), ("v1", "v1"), ("nope", "nope"), ("host:22", "host:22"),
        ("on-board", "on-board"), ("1e", "1e"), ("2026-1", "2026-1"),
    ],
)  # fmt: skip
def test_what_both_read_alike_is_read(text: str, value: object) -> None:
    found = read(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", ["a: {<<: {b: 1}}", "<<: {a: 1}"])
def test_a_merge_key_is_refused(text: str) -> None:
    with pytest.raises(YamlMistakes, match="merge keys"):
        load(text, lambda _path, _value: False)


@given(st.integers(-(10**9), 10**9), st.integers(0, 3))
def test_an_integer_is_refused_exactly_where_a_leading_zero_changes_it(n: int, zeros: int) -> None:
    digits = "0" * zeros + str(abs(n))
    octal = int(digits, 8) if set(digits) <= set("01234567") else None
    differs = bool(zeros and n) and octal != abs(n)
    text = ("-" if n < 0 else "") + digits
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(node, yaml.ScalarNode)
    assert bool(mistake(node)) is differs
