"""ONNX whose weights lie in a file beside it, and ONNX larger than one protobuf message may be.

Large files have holes for weights: they take no space, and whoever must not read them takes no
memory for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest

from agent.contract.failures import Unsupported
from agent.contract.trial import RuntimeRef
from agent.formats import onnx_external_data
from agent.runner.artifact_paths import named
from support.need import need
from support.runner_child import (
    Bench,
    dataset_file,
    model_of,
    reference_file,
    require,
    write_onnx,
)

OVER = (2 << 30) + (1 << 20)


@dataclass(frozen=True)
class Reader:
    """A backend and a precision; ``converter`` leads there, empty: it reads ONNX itself."""

    backend: str
    precision: str = "fp32"
    converter: str = ""
    one_message: bool = False


READERS = (
    Reader("onnxruntime"),
    Reader("openvino"),
    Reader("onnxruntime", "fp16", "onnx_fp16", one_message=True),
    Reader("onnxruntime", "int8", "onnxruntime_quantize", one_message=True),
    Reader("openvino", "fp16", "openvino_fp16"),
    Reader("openvino", "int8", "nncf_quantize"),
    Reader("tvm", "fp32", "tvm_compile", one_message=True),
)


def named_by(reader: Reader) -> str:
    return reader.converter or reader.backend


@pytest.fixture(params=READERS, ids=named_by)
def reader(request: pytest.FixtureRequest) -> Reader:
    """One that is here."""
    found: Reader = request.param
    offered = any(found.precision in t.precisions for t in require(found.backend).targets)
    need(found.backend, offered, f"{found.converter} is not installed")
    return found


def outside(path: Path, weights: str) -> Path:
    """The small model, its weights in a file beside it."""
    model = onnx.load(str(write_onnx(path)))
    onnx.save(model, str(path), save_as_external_data=True, location=weights, size_threshold=0)
    return path


def convert(reader: Reader, source: Path, folder: Path) -> Any:
    folder.mkdir()
    dataset = dataset_file(folder.parent / "dataset.npz")
    return Bench(reader.backend, folder).convert(
        model_of(source, "onnx"),
        RuntimeRef(reader.backend, precision=reader.precision, threads=1),
        source,
        calibration="dataset",
        dataset=str(dataset),
    )


def trial(reader: Reader, source: Path, artifact: Path, form: str, folder: Path) -> Any:
    runtime = RuntimeRef(reader.backend, precision=reader.precision, threads=1)
    reference = reference_file(folder / "reference.npz")
    bench = Bench(reader.backend, folder)
    return bench.trial(model_of(source, "onnx"), runtime, artifact, reference, form=form)


def test_weights_beside_the_model_are_read(reader: Reader, tmp_path: Path) -> None:
    source = outside(tmp_path / "m.onnx", "weights.bin")
    before = {p.name for p in tmp_path.iterdir()}
    made = convert(reader, source, tmp_path / "job")
    assert made.failure is None
    if reader.converter:
        assert reader.converter in made.steps[0]
    found = trial(reader, source, Path(made.artifact), made.format, tmp_path)
    assert found.failure is None
    assert found.fidelity.passed
    assert {p.name for p in tmp_path.iterdir()} >= before


def test_weights_that_are_not_there_are_named(reader: Reader, tmp_path: Path) -> None:
    source = outside(tmp_path / "m.onnx", "weights.bin")
    (tmp_path / "weights.bin").unlink()
    found = convert(reader, source, tmp_path / "job")
    if not reader.converter:  # loaded as it is: nothing was converted
        assert found.failure is None
        found = trial(reader, source, source, "onnx", tmp_path)
    assert found.failure is not None
    assert (found.status, found.failure.kind) == ("unsupported", "unsupported")
    assert "weights in weights.bin, which is not beside it" in found.failure.message


def hollow(path: Path, size: int) -> None:
    with path.open("ab") as file:
        file.truncate(size)


def test_a_file_too_large_for_protobuf_is_told_at_once(reader: Reader, tmp_path: Path) -> None:
    """Left to the readers, it takes 24 s and 2 GiB to hear that the file is corrupt."""
    source = write_onnx(tmp_path / "m.onnx")
    hollow(source, OVER)
    found = convert(reader, source, tmp_path / "job")
    if not reader.converter:
        found = trial(reader, source, source, "onnx", tmp_path)
        assert found.memory is None  # it did not get so far
    assert found.failure is not None
    assert (found.status, found.failure.kind) == ("unsupported", "unsupported")
    assert "2049 MiB, and one ONNX message holds at most 2 GiB" in found.failure.message


@pytest.mark.parametrize(
    "reader", [r for r in READERS if r.one_message], ids=named_by, indirect=True
)
def test_what_makes_one_message_of_it_says_what_does_not_fit(
    reader: Reader, tmp_path: Path
) -> None:
    source = outside(tmp_path / "m.onnx", "weights.bin")
    hollow(tmp_path / "weights.bin", OVER)
    found = convert(reader, source, tmp_path / "job")
    assert found.failure is not None
    assert (found.status, found.failure.kind) == ("unsupported", "unsupported")
    assert f"{reader.converter} holds a network in one ONNX message" in found.failure.message


def test_where_the_weights_lie_is_read_as_onnx_writes_it(tmp_path: Path) -> None:
    source = outside(tmp_path / "m.onnx", "weights ü.bin")
    assert onnx_external_data.external_files(source) == {tmp_path / "weights ü.bin"}
    assert onnx_external_data.external_files(write_onnx(tmp_path / "whole.onnx")) == set()
    for content in (b"", b"no model at all"):
        (tmp_path / "other").write_bytes(content)
        assert onnx_external_data.external_files(tmp_path / "other") == set()


def test_a_blob_that_is_read_by_a_link_has_no_weights_beside_it(tmp_path: Path) -> None:
    """Blobs are named by hash and linked for their ending: what lies beside the blob is not beside
    the link, and a reader would not find it."""
    outside(tmp_path / "m.onnx", "weights.bin").rename(tmp_path / "0123abcd")
    folder = tmp_path / "job"
    folder.mkdir()
    with pytest.raises(Unsupported, match=r"weights\.bin"):
        named(tmp_path / "0123abcd", "onnx", folder)
    assert all(path.is_symlink() for path in folder.iterdir())
