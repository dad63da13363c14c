"""What is read of the kernel, of an ONNX file's bytes, and of options."""

from __future__ import annotations

import contextlib
import glob
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from agent.contract.failures import BadOption, BadRequest, UnsupportedShape
from agent.contract.trial import PRECISIONS, TensorSpec
from agent.formats.onnx import NotProtobuf, input_dimensions
from agent.runner import process_metrics
from agent.runner.artifact_paths import named
from agent.runner.progress import Progress
from agent.runtimes import registry
from agent.runtimes.formats import SOURCES, precisions
from agent.runtimes.host_buffers import HostBuffers
from agent.runtimes.validation import chosen

OPTIONS = {"mode": ("eager", "compile"), "fast": ("true", "false")}


def test_options_in_force_are_the_given_over_the_defaults() -> None:
    assert chosen("b", OPTIONS, {"fast": False}) == {"mode": "eager", "fast": "false"}


@pytest.mark.parametrize(
    ("given_options", "message"),
    [
        ({"speed": 1}, "b has no option 'speed'; it has fast, mode"),
        ({"mode": "quick"}, "b option mode is 'quick'; it accepts eager, compile"),
        ({"mode": 1}, "b option mode is 1; it accepts eager, compile"),
    ],
)
def test_an_option_that_is_not_there_says_what_is(
    given_options: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadOption, match=message):
        chosen("b", OPTIONS, given_options)


def test_every_backend_file_is_found_and_an_unknown_name_lists_them() -> None:
    assert "onnxruntime" in registry.backend_names()
    with pytest.raises(BadRequest, match=f"there are {', '.join(registry.backend_names())}"):
        registry.find_backend("abacus")


@pytest.mark.parametrize("name", registry.backend_names())
def test_what_a_backend_declares_fits_together(name: str) -> None:
    backend = registry.find_backend(name)
    assert backend.name == name
    least = next(iter(backend.wants))
    assert least == ("int8" if name == "edgetpu" else "fp32")
    assert all(isinstance(values, tuple) for values in backend.options.values())
    assert set(backend.wants) <= set(PRECISIONS)
    loaded = {form for wanted in backend.wants.values() for form, _ in wanted}
    made = {
        edge.target
        for name in registry.converter_names()
        for edge in registry.find_converter(name).edges
    }
    sources = {(form, held) for form in SOURCES for held in precisions(form)}
    assert loaded
    assert {node for wanted in backend.wants.values() for node in wanted} <= made | sources


def test_buffers_keep_their_address_over_binds_and_refuse_what_does_not_fit() -> None:
    buffers = HostBuffers([TensorSpec("x", "float32", (1, 3))])
    assert buffers.fill({"x": np.zeros((1, 3), np.float32)})
    address = buffers.arrays["x"].ctypes.data
    assert not buffers.fill({"x": np.ones((1, 3), np.float32)})
    assert buffers.arrays["x"].ctypes.data == address
    assert buffers.arrays["x"].sum() == 3.0
    for wrong in (
        {"y": np.zeros((1, 3), np.float32)},
        {"x": np.zeros((1, 4), np.float32)},
        {"x": np.zeros((1, 3), np.float64)},
    ):
        with pytest.raises(UnsupportedShape):
            buffers.fill(wrong)


def save_model(path: Path, shapes: dict[str, list[Any]]) -> None:
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]
    weights = helper.make_tensor("w", TensorProto.FLOAT, [1000], [0.0] * 1000)
    graph = helper.make_graph([], "g", values, [], [weights])
    onnx.save(helper.make_model(graph), str(path))


def test_dimensions_are_read_from_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    save_model(path, {"a": ["N", 3, 224, None], "b": [], "c": [-1, 5]})
    assert input_dimensions(path) == {"a": ("N", 3, 224, ""), "b": (), "c": ("", 5)}


@given(st.data())
def test_no_cut_of_a_file_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("cut") / "m.onnx"
    save_model(path, {"a": ["N", 3]})
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    noise = data.draw(st.binary(max_size=20))
    path.write_bytes(whole[:cut] + noise)
    with contextlib.suppress(NotProtobuf):
        input_dimensions(path)


def test_an_empty_file_is_no_protobuf(tmp_path: Path) -> None:
    path = tmp_path / "empty.onnx"
    path.write_bytes(b"")
    with pytest.raises(NotProtobuf, match="empty"):
        input_dimensions(path)


def test_memory_and_usage_are_read_of_this_process() -> None:
    meter = process_metrics.UsageMeter()
    memory = process_metrics.MemoryMeter()
    ballast = np.ones(8 * 2**20)
    found = memory.read()
    assert found.peak_rss_mib >= found.after_import_rss_mib + ballast.nbytes / 2**21
    assert found.source
    assert meter.read().cpu_percent >= 0.0


def test_what_a_board_does_not_show_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_metrics, "read_text", lambda path: None)
    found = process_metrics.fingerprint()
    assert found.at_unix_ns > 0
    assert set(asdict(found).values()) == {found.at_unix_ns, None}


def test_a_placeholder_temperature_is_no_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glob, "glob", lambda pattern: ["a", "b", "c"])
    texts = {"a": "-256000\n", "b": "41500\n", "c": "39000\n"}
    monkeypatch.setattr(process_metrics, "read_text", texts.get)
    assert process_metrics.hottest_c() == 41.5


def test_the_stage_is_on_disk_before_its_first_step(tmp_path: Path) -> None:
    progress = Progress(str(tmp_path))
    progress.enter("load")
    assert (tmp_path / "stage").read_text() == "load"
    Progress(str(tmp_path / "missing")).enter("load")  # and what cannot be written stops nothing


def test_a_blob_is_given_the_ending_of_its_format(tmp_path: Path) -> None:
    blob = tmp_path / ("0" * 64)
    blob.write_bytes(b"x")
    link = named(blob, "onnx", tmp_path)
    assert link.name == "artifact.onnx"
    assert named(blob, "onnx", tmp_path).read_bytes() == b"x"
    assert named(link, "onnx", tmp_path) == link
