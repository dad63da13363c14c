"""TVM through the real child: compile, measure, and what it cannot do."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from agent.contract.child_jobs import Converted, ConvertJob
from agent.contract.conversion_graph import Edge
from agent.contract.failures import BadOption
from agent.contract.trial import RuntimeRef, TensorSpec
from agent.runtimes.tvm.converters.tvm_compile import trials_of
from agent.runtimes.tvm.linking import machine_of, require_own_machine
from support import onnx_files
from support.environments import python_of
from support.need import need
from support.runner_child import (
    QUICK,
    Bench,
    child,
    dataset_file,
    model_of,
    reference_file,
    require,
    write_onnx,
    write_two,
    write_unknown_operator,
)
from support.runtime_contract import RuntimeContract

CONTRACT = RuntimeContract(other_converters=frozenset({"tvm_compile", "tvm_cross"}))
RUNTIME = RuntimeRef("tvm", threads=1)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    require("tvm")
    folder = tmp_path / "engines" / "job"
    folder.mkdir(parents=True)
    return Bench("tvm", folder)


def about_of(artifact: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(artifact).with_name("model.json").read_text())
    return found


@pytest.mark.parametrize("batch", [1, "N"])
def test_a_model_is_compiled_and_its_trial_passes(
    bench: Bench, tmp_path: Path, batch: int | str
) -> None:
    source = write_onnx(tmp_path / "0123abcd", batch)
    model = model_of(source, "onnx")
    made = bench.convert(model, RUNTIME, source)
    assert made.failure is None
    assert made.format == "tvm_library"
    artifact = Path(made.artifact)
    assert {p.name for p in artifact.parent.iterdir()} == {"model.so", "model.json"}
    assert {p.name for p in bench.folder.iterdir()} == {"stage", artifact.parent.name}
    assert "default schedules" in made.steps[0]
    reference = reference_file(tmp_path / "reference.npz")
    dataset = dataset_file(tmp_path / "dataset.npz")
    found = bench.trial(model, RUNTIME, artifact, reference, form=made.format, dataset=dataset)
    assert found.failure is None
    assert found.fidelity is not None
    assert found.fidelity.max_abs < 1e-4
    assert found.accuracy is not None
    assert found.accuracy.top1 == 1.0
    assert "1 threads" in found.placement
    assert found.placement.endswith("default schedules")
    assert found.phases.load_warm_s is not None


@pytest.fixture
def cross_linker() -> None:
    require("tvm")
    find = "import importlib.util; print(bool(importlib.util.find_spec('ziglang')))"
    asked = subprocess.run([python_of("tvm"), "-c", find], capture_output=True, text=True)
    found = asked.stdout.strip() == "True" or shutil.which("aarch64-linux-gnu-gcc") is not None
    need("aarch64_linker", found, "neither ziglang beside TVM nor aarch64-linux-gnu-gcc")


@pytest.mark.usefixtures("cross_linker")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("mcpu", "word"), [("cortex-a72", "cortex-a72"), ("", "generic")])
def test_a_library_for_another_architecture_is_made_and_not_loaded_here(
    bench: Bench, tmp_path: Path, mcpu: str, word: str
) -> None:
    source = write_onnx(tmp_path / "m.onnx")
    model = model_of(source, "onnx")
    runtime = replace(RUNTIME, options={"cross": "aarch64", **({"mcpu": mcpu} if mcpu else {})})
    made = bench.convert(model, runtime, source)
    assert made.failure is None
    assert f"aarch64-linux-gnu {word}" in made.steps[0]
    about = about_of(made.artifact)
    assert (about["target"]["mtriple"], about["target"]["mcpu"]) == ("aarch64-linux-gnu", word)
    assert machine_of(Path(made.artifact)) == "aarch64"
    assert {p.name for p in bench.folder.iterdir()} == {"stage", "step1"}
    if platform.machine() == "aarch64":
        return
    reference = reference_file(tmp_path / "reference.npz")
    found = bench.trial(model, runtime, Path(made.artifact), reference, form=made.format)
    assert found.failure is not None
    assert (found.status, found.failure.kind) == ("unsupported", "unsupported")
    assert f"compiled for aarch64 and this machine is {platform.machine()}" in found.failure.message


@pytest.mark.usefixtures("cross_linker")
@pytest.mark.timeout(600)
def test_a_builder_makes_a_library_for_a_board_of_another_architecture(tmp_path: Path) -> None:
    """What a builder is told names no target: the converter itself says what it is for."""
    source = write_onnx(tmp_path / "m.onnx")
    way = (Edge("tvm_cross", ("onnx", "fp32"), ("tvm_library", "fp32")),)
    runtime = RuntimeRef("", options={"mcpu": "cortex-a72"})
    reference = reference_file(tmp_path / "reference.npz")
    job = ConvertJob(
        *(model_of(source, "onnx"), runtime, str(source), str(tmp_path / "job"), way),
        reference=str(reference),
    )
    made = child("tvm", "convert", job, Converted)
    assert made.failure is None
    assert "tvm_cross" in made.steps[0]
    assert "aarch64-linux-gnu cortex-a72" in made.steps[0]
    assert machine_of(Path(made.artifact)) == "aarch64"


def test_the_architecture_is_read_from_the_file(tmp_path: Path) -> None:
    """In the header of elf.h: the class, the byte order, and ``e_machine`` at byte 18."""
    path = tmp_path / "model.so"
    for order, number, name in ((1, 183, "aarch64"), (1, 62, "x86_64"), (2, 8, "ELF machine 8")):
        said = number.to_bytes(2, "little" if order == 1 else "big")
        path.write_bytes(b"\x7fELF\x02" + bytes([order]) + bytes(12) + said)
        assert machine_of(path) == name
    path.write_bytes(b"MZ")
    assert machine_of(path) == ""
    require_own_machine(path)  # whatever it is, the loader says


def test_threads_are_taken(bench: Bench, tmp_path: Path) -> None:
    source = write_onnx(tmp_path / "m.onnx")
    model = model_of(source, "onnx")
    made = bench.convert(model, RUNTIME, source)
    reference = reference_file(tmp_path / "reference.npz")
    two = replace(RUNTIME, threads=2)
    found = bench.trial(model, two, Path(made.artifact), reference, form=made.format)
    assert found.failure is None
    assert "2 threads" in found.placement


def test_another_batch_than_it_was_compiled_for_is_a_result(bench: Bench, tmp_path: Path) -> None:
    source = write_onnx(tmp_path / "m.onnx", "N")
    model = model_of(source, "onnx")
    made = bench.convert(model, RUNTIME, source)
    found = bench.trial(
        model,
        RUNTIME,
        Path(made.artifact),
        reference_file(tmp_path / "reference.npz"),
        form=made.format,
        scenario=replace(QUICK, batch_size=2),
    )
    assert found.failure is not None
    assert (found.status, found.failure.kind) == ("unsupported", "unsupported_shape")


def test_several_inputs_and_outputs_keep_their_names(bench: Bench, tmp_path: Path) -> None:
    source = write_two(tmp_path / "two.onnx")
    model = model_of(source, "onnx", tuple(TensorSpec(n, "float32", (1, 3)) for n in ("b", "a")))
    made = bench.convert(model, RUNTIME, source)
    assert made.failure is None
    a, b = np.ones((2, 1, 1, 3), np.float32) * [[[[1]]], [[[4]]]], np.full((2, 1, 1, 3), 3.0)
    arrays: dict[str, Any] = {
        "input:a": a.astype(np.float32)[:, 0],
        "input:b": b.astype(np.float32)[:, 0],
        "output:add": (a + b).astype(np.float32)[:, 0],
        "output:sub": (a - b).astype(np.float32)[:, 0],
    }
    np.savez(tmp_path / "reference.npz", **arrays)
    found = bench.trial(
        model, RUNTIME, Path(made.artifact), tmp_path / "reference.npz", form=made.format
    )
    assert found.failure is None
    assert found.fidelity is not None
    assert found.fidelity.max_abs == 0.0


def test_an_unknown_operator_is_named(bench: Bench, tmp_path: Path) -> None:
    source = write_unknown_operator(tmp_path / "m.onnx")
    model = model_of(source, "onnx", (TensorSpec("x", "float32", (1, 3)),))
    made = bench.convert(model, RUNTIME, source)
    assert made.failure is not None
    assert (made.status, made.failure.kind) == ("unsupported", "unsupported_operator")
    assert "Frobnicate" in made.failure.message


def test_integers_and_any_name_work(bench: Bench, tmp_path: Path) -> None:
    name, table = "Zeile 1:é", np.arange(12, dtype=np.float32).reshape(4, 3)
    source = tmp_path / "m.onnx"
    source.write_bytes(
        onnx_files.model(
            [helper.make_node("Gather", ["table", name], ["y"])],
            [helper.make_tensor_value_info(name, TensorProto.INT64, [2])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
            {"table": table},
        ).SerializeToString()
    )
    model = model_of(source, "onnx", (TensorSpec(name, "int64", (2,)),))
    made = bench.convert(model, RUNTIME, source)
    assert made.failure is None
    rows = np.array([[3, 0]], np.int64)
    arrays: dict[str, Any] = {"input:" + name: rows, "output:y": table[rows]}
    np.savez(tmp_path / "reference.npz", **arrays)
    artifact = Path(made.artifact)
    found = bench.trial(model, RUNTIME, artifact, tmp_path / "reference.npz", form=made.format)
    assert found.failure is None
    assert found.fidelity is not None
    assert found.fidelity.max_abs == 0.0


def test_texts_are_not_supported(bench: Bench, tmp_path: Path) -> None:
    source = tmp_path / "m.onnx"
    source.write_bytes(onnx_files.with_input_type(TensorProto.STRING))
    made = bench.convert(model_of(source, "onnx", ()), RUNTIME, source)
    assert made.failure is not None
    assert (made.status, made.failure.kind) == ("unsupported", "unsupported_format")


@pytest.mark.parametrize("cut", [0, 40, 10_000])
def test_a_damaged_source_is_a_bad_model(bench: Bench, tmp_path: Path, cut: int) -> None:
    source = write_onnx(tmp_path / "m.onnx")
    source.write_bytes(source.read_bytes()[:-cut] if cut else b"no model at all")
    made = bench.convert(model_of(source, "onnx"), RUNTIME, source)
    assert made.failure is not None
    assert (made.failure.stage, made.failure.kind) == ("convert", "bad_model")


def test_a_damaged_library_or_one_from_elsewhere_is_a_bad_model(
    bench: Bench, tmp_path: Path
) -> None:
    source = write_onnx(tmp_path / "m.onnx")
    model = model_of(source, "onnx")
    made = bench.convert(model, RUNTIME, source)
    artifact = Path(made.artifact)
    artifact.write_bytes(artifact.read_bytes()[:100])
    reference = reference_file(tmp_path / "reference.npz")
    found = bench.trial(model, RUNTIME, artifact, reference, form=made.format)
    assert found.failure is not None
    assert (found.failure.stage, found.failure.kind) == ("load", "bad_model")
    artifact.with_name("model.json").unlink()
    found = bench.trial(model, RUNTIME, artifact, reference, form=made.format)
    assert found.failure is not None
    assert "no TVM library of ours" in found.failure.message


@pytest.mark.parametrize(
    ("change", "kind", "word"),
    [
        ({"options": {"speed": 3}}, "bad_option", "tuning"),
        ({"options": {"tuning": "relay"}}, "bad_option", "metaschedule"),
        ({"options": {"tuning": "metaschedule", "tuning_trials": "all"}}, "bad_option", "1 to"),
        ({"options": {"cross": "mips"}}, "bad_option", "aarch64"),
        ({"options": {"mcpu": "cortex-a72"}}, "bad_option", "goes with cross"),
        ({"options": {"cross": "aarch64", "mcpu": "-x; y"}}, "bad_option", "cortex-a72"),
        ({"options": {"cross": "aarch64", "tuning": "metaschedule"}}, "bad_option", "measures on"),
        ({"target": "NPU"}, "unsupported_target", "CPU"),
        ({"precision": "fp16"}, "unsupported_precision", "fp32"),
    ],
)
def test_what_it_cannot_make_is_named(
    bench: Bench, tmp_path: Path, change: dict[str, Any], kind: str, word: str
) -> None:
    source = write_onnx(tmp_path / "m.onnx")
    made = bench.convert(model_of(source, "onnx"), replace(RUNTIME, **change), source)
    assert made.failure is not None
    assert made.failure.kind == kind
    assert word in made.failure.message


def test_the_budget_is_a_whole_number_and_needs_tuning() -> None:
    assert trials_of({"tuning": "none", "tuning_trials": ""}) == 0
    assert trials_of({"tuning": "metaschedule", "tuning_trials": "8"}) == 8
    assert trials_of({"tuning": "metaschedule"}) > 8
    for options in (
        {"tuning": "none", "tuning_trials": "8"},
        {"tuning": "metaschedule", "tuning_trials": "0"},
    ):
        with pytest.raises(BadOption):
            trials_of(options)


def test_int8_is_not_offered_because_it_computes_in_fp32() -> None:
    facts = require("tvm")
    assert list(facts.wants) == ["fp32"]
    assert all(target.precisions == ("fp32",) for target in facts.targets)


@pytest.mark.timeout(600)
def test_tuning_is_really_used_and_its_records_are_carried_on(tmp_path: Path) -> None:
    """A tuned library differs from an untuned one in its code; the second conversion, next door,
    finds the first one's records and measures nothing."""
    require("tvm")
    source = tmp_path / "dense.onnx"
    source.write_bytes(onnx_files.dense_bytes())
    spec = TensorSpec("x", "float32", (1, onnx_files.FEATURES))
    model = model_of(source, "onnx", (spec,))
    tuned = replace(RUNTIME, options={"tuning": "metaschedule", "tuning_trials": 2})
    made = {}
    for name, runtime in (("plain", RUNTIME), ("tuned", tuned), ("again", tuned)):
        folder = tmp_path / "engines" / name
        folder.mkdir(parents=True)
        made[name] = Bench("tvm", folder).convert(model, runtime, source)
        assert made[name].failure is None
    first, again = (about_of(made[name].artifact) for name in ("tuned", "again"))
    assert first["tuned_functions"] >= 1
    assert first["records"] >= 2
    assert (first["reused"], again["reused"]) == (0, first["records"])
    assert again["records"] == first["records"]
    assert made["again"].seconds < made["tuned"].seconds / 2
    assert f"{first['records']} reused" in made["again"].steps[0]
    code = {name: Path(m.artifact).read_bytes() for name, m in made.items()}
    assert code["plain"] != code["tuned"]
    folder = tmp_path / "engines" / "tuned"
    assert {p.name for p in (folder / "step1").iterdir()} == {"model.so", "model.json", "tuning"}
    assert {p.name for p in folder.iterdir()} == {"stage", "step1"}
