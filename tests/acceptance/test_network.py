"""``benchfarm model show``: a network's cost, its drawing, and Netron."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from support.cli import Shell, make_onnx

TITLE = "{http://www.w3.org/2000/svg}title"


def test_what_a_network_costs(shell: Shell) -> None:
    found = json.loads(shell.fine("model", "show", "digits_cnn", "-o", "json"))[0]
    work = found["details"]["work"]
    # 28 × 28 × 25 over 9, 14 × 14 × 64 over 225, 7 × 7 × 64 over 576; 1024 × 64, 64 × 32, 32 × 10
    convolutions = 28 * 28 * 25 * 9 + 14 * 14 * 64 * 225 + 7 * 7 * 64 * 576
    dense = 1024 * 64 + 64 * 32 + 32 * 10
    assert work["macs"] == convolutions + dense
    assert work["flops_by_operator"] == {"Conv": 2 * convolutions, "Gemm": 2 * dense}
    table = shell.fine("model", "show", "digits_cnn")
    assert f"{2 * (convolutions + dense):,} (2 × {convolutions + dense:,} MACs)" in table
    assert "Relu 5" in table
    assert f"{found['artifacts'][0]['size_bytes'] / 1024:.1f} KiB" in table


def test_a_network_is_drawn(shell: Shell, tmp_path: Path) -> None:
    drawing = tmp_path / "drawn.svg"
    drawing.write_text("an older one")
    ended = shell("model", "show", "digits_cnn", "--graph", drawing)
    assert ended.returncode == 0
    assert f"wrote {drawing}" in ended.stderr
    root = ElementTree.parse(drawing).getroot()
    assert root.findtext(TITLE) == "digits_cnn"
    shell.fine("model", "show", "digits_cnn", "--graph")
    assert (shell.home / "digits_cnn.svg").read_bytes() == drawing.read_bytes()


def test_mistakes_are_answered_once(shell: Shell, tmp_path: Path) -> None:
    assert "--graph out.svg" in shell.refused("model", "show", "digits_cnn", "out.svg")
    nowhere = tmp_path / "nowhere" / "x.svg"
    assert "cannot be written" in shell.refused("model", "show", "digits_cnn", "--graph", nowhere)
    message = shell.refused("model", "show", "digits_cnn", "--graph", "--format", "pt2")
    assert "has no pt2; it has onnx" in message
    assert "there is no model 'none'" in shell.refused("model", "show", "none", "--graph")
    assert not (shell.home / "none.svg").exists()


def test_names_with_markup_are_drawn(shell: Shell, tmp_path: Path) -> None:
    odd = make_onnx(tmp_path / "odd_op.onnx", shape=[1, 8, 8], op="Det", gives=[1])
    shell.fine("model", "add", odd, "--name", "odd_op")
    drawing = tmp_path / "odd.svg"
    assert "Det 1" in shell.fine("model", "show", "odd_op", "--graph", drawing)
    assert "Det" in [t.text for t in ElementTree.parse(drawing).iter() if t.text]


def test_netron_is_asked_for_where_it_is_missing(shell: Shell) -> None:
    if (Path(sys.executable).parent / "netron").exists():
        pytest.skip("Netron is installed beside this interpreter")
    bare = Shell(shell.home, {**shell.environment, "PATH": "/usr/bin:/bin"})
    assert "pip install netron" in bare.refused("model", "show", "digits_cnn", "--netron")


def test_netron_gets_the_model_s_own_bytes(shell: Shell, tmp_path: Path) -> None:
    """A fake program of that name replaces Netron, which would open a browser and keep running."""
    program, seen = tmp_path / "bin" / "netron", tmp_path / "seen.onnx"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n[ "$1" = --browse ] && cp "$2" {seen}\n')
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{shell.environment['PATH']}"
    ended = Shell(shell.home, {**shell.environment, "PATH": path})(
        "model", "show", "digits_cnn", "--netron"
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(shell.fine("model", "show", "digits_cnn", "-o", "json"))[0]["artifacts"][0]
    assert seen.stat().st_size == found["size_bytes"]
    sha256 = found["sha256"]
    assert seen.read_bytes() == (shell.home / "blobs" / sha256[:2] / sha256).read_bytes()
