"""tegrastats: every format that was found, and anything else that it might print."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.system.errors import Unreadable
from agent.telemetry import tegrastats
from support.board_files import JETSON, tool, tree
from support.tegrastats_lines import LINES, Line

TEXTS = [line.text for line in LINES.values()]


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_every_format_is_read(line: Line) -> None:
    found = tegrastats.parse(line.text)
    values = {sensor.name: sensor.value for sensor in found}
    assert len(values) == len(found)
    assert {name: values.get(name) for name in line.says} == line.says
    assert values.get("total power") == line.total_mw
    assert not set(line.not_there) & set(values)
    assert {sensor.source for sensor in found} == {"tegrastats"}


def test_units_go_with_the_names() -> None:
    units = {s.name: s.unit for s in tegrastats.parse(LINES["Nano, JetPack 4 (notes)"].text)}
    assert units["RAM used"] == "MiB"
    assert units["GR3D load"] == "percent"
    assert units["GR3D clock"] == "MHz"
    assert units["GPU"] == "C"
    assert units["total power"] == units["POM_5V_IN power"] == "mW"


def check(text: str) -> None:
    with contextlib.suppress(Unreadable):
        for sensor in tegrastats.parse(text):
            assert math.isfinite(sensor.value)
            assert sensor.unit != "C" or -40 < sensor.value < 150


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    check(text)
    check(f"RAM 1/2MB {text}")


@given(st.sampled_from(TEXTS), st.data())
def test_a_line_cut_or_garbled_anywhere_is_read_or_refused(line: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(line)))
    end = data.draw(st.integers(start, len(line)))
    check(line[start:end])
    check(line[:start] + data.draw(st.text(max_size=8)) + line[end:])


def test_what_is_no_line_is_refused_and_quoted() -> None:
    with pytest.raises(Unreadable, match="'tegrastats: not found'"):
        tegrastats.parse("tegrastats: not found")


def test_the_tool_is_started_once_and_ended(tmp_path: Path) -> None:
    root = tree(tmp_path, JETSON)
    line = LINES["Orin Nano, JetPack 6, not as root"].text
    tool(root, "tegrastats", f"echo $$ > {root}/pid; while :; do echo '{line}'; sleep 0.05; done")
    assert tegrastats.read(root) == tegrastats.parse(line)
    pid = (root / "pid").read_text().strip()
    assert not Path("/proc", pid).exists()


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exit 3", "ended .* without a line of values$"),
        ("echo hello; exit 1", r"ended \(1\) without a line of values; it said 'hello'"),
    ],
)
def test_a_tool_that_fails_is_said(tmp_path: Path, script: str, why: str) -> None:
    root = tree(tmp_path, JETSON)
    tool(root, "tegrastats", script)
    with pytest.raises(Unreadable, match=why):
        tegrastats.read(root)


def test_a_jetson_without_the_tool_says_so_and_another_board_says_nothing(tmp_path: Path) -> None:
    assert tegrastats.read(tmp_path) == []
    with pytest.raises(Unreadable, match="tegrastats is not installed"):
        tegrastats.read(tree(tmp_path, JETSON))
