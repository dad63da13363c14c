"""Formats of model files by name and content; truncated and wrong files are refused."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import pytest

from orchestrator.domain.errors import UserError
from orchestrator.inspection.child.format_checks import checked
from orchestrator.service.models import file_formats
from support import onnx_files

GOOD = onnx_files.dense_bytes()


@pytest.mark.parametrize(
    ("file", "told", "form"),
    [
        ("net.onnx", "", "onnx"),
        ("NET.PB", "", "frozen_pb"),
        ("net.pb", "optimised_pb", "optimised_pb"),
        ("net.zip", "", "savedmodel"),
        ("folder", "savedmodel", "savedmodel"),
        ("net.tflite", "edgetpu_tflite", "edgetpu_tflite"),
        ("net.h5", "", "h5"),
    ],
)
def test_the_format_is_told_by_the_name_or_by_the_user(file: str, told: str, form: str) -> None:
    assert file_formats.format_of(file, told) == form


@pytest.mark.parametrize(
    ("file", "told", "says"),
    [
        ("net.onnx", "tflite", "a tflite file ends in .tflite"),
        ("net.pb", "caffe", "format 'caffe' is unknown; accepted: onnx, pt2, tflite, keras"),
        ("net.xml", "openvino_ir", "is unknown"),
    ],
)
def test_a_format_that_contradicts_the_name_is_refused(file: str, told: str, says: str) -> None:
    with pytest.raises(UserError, match=re.escape(says)):
        file_formats.format_of(file, told)


def archive(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name in names:
            made.writestr(name, b"content")
    return buffer.getvalue()


def varint(number: int) -> bytes:
    digits = []
    while number >= 0x80:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*digits, number])


def graph_def(nodes: int = 3, size: int = 200) -> bytes:
    """A ``GraphDef``'s outermost fields: nodes, versions, version."""
    node = b"\x0a" + varint(size) + bytes(size)
    return node * nodes + b"\x22\x03\x08\xac\x10" + b"\x18\x05"


WHOLE = {
    "net.keras": archive("config.json", "metadata.json"),
    "net.h5": b"\x89HDF\r\n\x1a\n" + bytes(64),
    "net.zip": archive("saved_model.pb", "variables/variables.index"),
    "net.pb": graph_def(),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_pass_and_no_cut_one_does(tmp_path: Path, name: str) -> None:
    form, data, path = file_formats.format_of(name), WHOLE[name], tmp_path / "blob"
    path.write_bytes(data)
    assert checked(path, name, form) == form
    shortest = 8 if name == "net.h5" else len(data)  # only the beginning of HDF5 is read
    whole_nodes = {203 * n for n in (1, 2, 3)} | {len(data) - 2}  # where a graph may end too
    for length in range(shortest):
        path.write_bytes(data[:length])
        if name == "net.pb" and length in whole_nodes:
            continue
        with pytest.raises(UserError, match=re.escape(name)):
            checked(path, name, form)


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("net.keras", archive("model.json"), "not a .keras model"),
        ("net.zip", archive("net/saved_model.pb"), "no saved_model.pb at its top"),
        ("net.zip", archive("saved_model.pb", "../x"), "outside"),
        ("net.pb", b"\x08\x01\x12\x02\x0a\x00", "of a SavedModel give the folder"),
        ("net.pb", GOOD, "not a frozen graph"),
        ("net.pb", b"\x0a" + b"\xff" * 40, "not a frozen graph"),
        ("net.h5", GOOD, "not an HDF5 file"),
    ],
)
def test_what_is_something_else_is_refused(
    tmp_path: Path, name: str, data: bytes, says: str
) -> None:
    path = tmp_path / "blob"
    path.write_bytes(data)
    with pytest.raises(UserError, match=re.escape(says)):
        checked(path, name, file_formats.format_of(name))
