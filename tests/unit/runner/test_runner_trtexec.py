"""TensorRT through ``trtexec``: its real flags, versions, messages and file formats, and whole jobs
through the real child with a double of the program. No GPU has run any of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.contract import codec
from agent.contract.child_jobs import Converted, ConvertJob, TrialJob
from agent.contract.conversion_graph import Edge
from agent.contract.failures import (
    BadModel,
    BadOption,
    BadOutput,
    ClockError,
    ConversionFailed,
    RuntimeMissing,
    Unsupported,
    UnsupportedFormat,
    UnsupportedOperator,
    UnsupportedScenario,
    UnsupportedShape,
    UnsupportedTarget,
)
from agent.contract.trial import (
    SCHEMA,
    ReferenceRef,
    RuntimeRef,
    Scenario,
    TrialRequest,
    TrialResult,
)
from agent.runtimes.converter import Calibration
from agent.runtimes.tensorrt import trtexec, trtexec_output
from agent.runtimes.tensorrt.backend import TensorRt
from agent.runtimes.tensorrt.converters.trtexec_build import TrtexecBuild
from agent.runtimes.tensorrt.trtexec_session import describe
from support import trtexec_double
from support.runner_child import (
    LOOSE,
    MAIN,
    QUICK,
    SPEC,
    dataset_file,
    expected,
    model_of,
    reference_file,
    write_onnx,
)

FIXTURES = Path(__file__).parents[2] / "fixtures" / "trtexec"
FLAGS: dict[str, list[str]] = json.loads((FIXTURES / "flags.json").read_text())
ERRORS: dict[str, str] = json.loads((FIXTURES / "errors.json").read_text())
GPU = RuntimeRef("tensorrt", target="GPU")
NORMAL = {"cuda_graph": "off", "spin_wait": "off", "data_transfers": "on", "tf32": "on"}


def tool_of(version: str) -> trtexec.TrtexecProgram:
    return trtexec.TrtexecProgram("trtexec", version, frozenset(FLAGS[version]))


@pytest.fixture(params=sorted(FLAGS))
def version(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(params=["8201", "110300"])
def program(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A double of the program first on the path, of the oldest or the newest flags."""
    path = trtexec_double.install(tmp_path / "bin", request.param)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
    return path


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    folder = tmp_path / "engine"
    folder.mkdir()
    describe(folder, (SPEC,), ())
    (folder / "model.engine").write_bytes(b"ENGINE")
    return folder / "model.engine"


def load(engine: Path, **options: str) -> Any:
    return TensorRt().load(engine, replace(GPU, options=dict(options)), (SPEC,))


# --- the program ---


@pytest.mark.parametrize(
    ("number", "meant"),
    [
        ("8003", "8.0.3"),
        ("8201", "8.2.1"),
        ("8412", "8.4.12"),
        ("100001", "10.0.1"),
        ("101602", "10.16.2"),
        ("110300", "11.3.0"),
    ],
)
def test_the_banner_tells_the_version(number: str, meant: str) -> None:
    text = f"&&&& RUNNING TensorRT.trtexec [TensorRT v{number}] # trtexec --help\n"
    assert trtexec.version_in(text) == meant
    assert trtexec.version_in("&&&& RUNNING TensorRT.trtexec # trtexec") == ""  # TensorRT 7


def test_it_is_found_asked_and_offered(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = trtexec_double.install(tmp_path / "bin", version)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    found = trtexec.find()
    assert found is not None
    assert found.path == str(program)
    assert found.flags == set(FLAGS[version])
    assert TensorRt().import_runtime() == found.version
    monkeypatch.setattr(trtexec, "cuda_devices", lambda: 1)
    facts = TensorRt().probe()
    assert facts.version == found.version
    assert facts.targets[0].name == "GPU"
    assert f"through {program}" in facts.targets[0].description
    monkeypatch.setattr(trtexec, "cuda_devices", lambda: 0)
    with pytest.raises(RuntimeMissing, match="no CUDA device"):
        TensorRt().probe()


def test_a_machine_without_cudas_driver_has_no_device() -> None:
    if os.path.exists("/dev/nvidia0") or os.path.exists("/dev/nvhost-gpu"):
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeMissing, match="no CUDA device answers"):
        trtexec.require_device()


@pytest.mark.parametrize(
    "text",
    ["#!/bin/sh\nexit 127\n", "#!/bin/sh\necho '&&&& RUNNING TensorRT.trtexec # trtexec'\n", "?"],
)
def test_a_program_that_is_none_of_tensorrt_8_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    path = tmp_path / "trtexec"
    path.write_text(text)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeMissing, match=str(path)):
        trtexec.find()


def test_without_bindings_and_program_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert trtexec.find() is None
    with pytest.raises(RuntimeMissing, match="tensorrt cannot be imported"):
        TensorRt().probe()
    with pytest.raises(RuntimeMissing, match="neither"):
        TrtexecBuild().convert(tmp_path / "m.onnx", tmp_path, Calibration([], ""))


# --- command lines ---


def names(command: list[str]) -> set[str]:
    return {word.partition("=")[0] for word in command[1:]}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_it_is_told_only_what_its_version_knows(version: str, precision: str) -> None:
    tool = tool_of(version)
    cores = (-1, 1) if precision != "fp32" else (-1,)
    for core in cores:
        made = trtexec.build_command(
            *(tool, Path("m.onnx"), Path("m.engine"), Path("t.cache"), [SPEC], precision),
            dla_core=core,
            tf32=False,
            free=["x"],
        )
        assert names(made) <= tool.flags
        assert (f"--{precision}" in made) is (f"--{precision}" in tool.flags)
        for on in (False, True):
            ran = trtexec.run_command(
                *(tool, Path("m.engine"), {"x": "x.bin"}),
                outputs="o",
                times="t",
                free=[SPEC],
                dla_core=core,
                cuda_graph=on,
                spin_wait=on,
                data_transfers=on,
            )
            assert names(ran) <= tool.flags


def test_an_old_builder_is_given_memory_and_a_new_one_left_its_own() -> None:
    def workspace(version: str) -> bool:
        paths = (Path("m.onnx"), Path("e"), Path("t"))
        command = trtexec.build_command(tool_of(version), *paths, [SPEC], "fp32")
        return f"--workspace={trtexec.WORKSPACE_MIB}" in command

    assert [workspace(v) for v in ("8201", "8503", "100900")] == [True, False, False]


SWITCHES = {"--useCudaGraph", "--useSpinWait", "--noDataTransfers"}
NEW_SWITCHES = {"--noCudaGraph", "--noSpinWait", "--includeDataTransfers"}


def test_rows_of_different_versions_compare(version: str) -> None:
    """Defaults flipped in 11, where the old names are listed and do nothing."""

    def switches(on: bool) -> set[str]:
        ran = trtexec.run_command(
            tool_of(version), Path("e"), {}, cuda_graph=on, spin_wait=on, data_transfers=not on
        )
        assert {"--exposeDMA", "--iterations=1"} < set(ran)
        assert {"--streams=1", "--infStreams=1"} & set(ran)
        return names(ran) & (SWITCHES | NEW_SWITCHES)

    new = version.startswith("11")
    assert switches(on=False) == (NEW_SWITCHES if new else set())
    assert switches(on=True) == (set() if new else SWITCHES)


def test_a_switch_that_a_version_lacks_is_refused() -> None:
    bare = trtexec.TrtexecProgram("trtexec", "8.0.0", frozenset({"--loadEngine"}))
    with pytest.raises(BadOption, match="no --noDataTransfers"):
        trtexec.run_command(bare, Path("e"), {}, data_transfers=False)
    with pytest.raises(BadOption, match="no --useCudaGraph"):
        trtexec.run_command(bare, Path("e"), {}, cuda_graph=True)


def test_names_are_quoted_or_refused() -> None:
    tool = tool_of("8201")
    assert "--loadInputs='x:0':f" in trtexec.run_command(tool, Path("e"), {"x:0": "f"})
    for name in ("a,b", "it's", 'say "x"'):
        with pytest.raises(UnsupportedShape, match="cannot be told"):
            trtexec.run_command(tool, Path("e"), {name: "f"})
    free = replace(SPEC, shape=(-1, 3, 6, 6))
    with pytest.raises(UnsupportedShape, match="free dimension"):
        trtexec.run_command(tool, Path("e"), {}, free=[free])


# --- what it says ---


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("operator", UnsupportedOperator, "operator Round"),
        ("model", BadModel, "ModelImporter.cpp:179"),
        ("dla", UnsupportedTarget, "it has GPU"),
        ("shape", UnsupportedShape, "Static dimension mismatch"),
        ("implementation", ConversionFailed, "Could not find any implementation"),
    ],
)
def test_a_failed_build_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: type[Exception], words: str
) -> None:
    program = trtexec_double.install(tmp_path / "bin", "8201", ERRORS[name])
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    with pytest.raises(kind, match=words) as caught:
        build(tmp_path)
    assert len(str(caught.value)) < 600


def test_a_crash_is_named() -> None:
    found = trtexec.failure(tool_of("8201"), "", -11)
    assert isinstance(found, trtexec.TrtexecFailed)
    assert "signal 11" in str(found)


def test_its_times_become_samples_without_the_warm_up() -> None:
    every = trtexec_output.read_times(FIXTURES / "times.json", 0)
    kept = trtexec_output.read_times(FIXTURES / "times.json", 100)
    assert (len(every.latency), len(kept.latency), kept.latency.dtype.name) == (12, 10, "int64")
    assert 1_400_000 < kept.latency.min() < kept.latency.max() < 1_500_000
    assert (kept.compute < kept.latency).all()
    assert kept.wall_ns >= kept.latency.sum()
    with pytest.raises(BadOutput, match="no query after 9000 ms"):
        trtexec_output.read_times(FIXTURES / "times.json", 9000)


def test_its_outputs_become_arrays() -> None:
    assert trtexec_output.read_outputs(FIXTURES / "output.json")["y"].shape == (1, 5)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"latencyMs": 1}]', "[]", '[{"name": "y"}]'])
def test_a_spoilt_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "spoilt.json"
    path.write_text(text)
    with pytest.raises(BadOutput):
        trtexec_output.read_times(path, 0)
    with pytest.raises(BadOutput):
        trtexec_output.read_outputs(path)


# --- building ---


def build(tmp_path: Path, batch: int | str = 1, name: str = "job", **runtime: Any) -> Any:
    source = write_onnx(tmp_path / "m.onnx", batch)
    model = model_of(source, "onnx")
    folder = tmp_path / "engines" / name / "step1"
    folder.mkdir(parents=True)
    converter = TrtexecBuild()
    runtime_ref = replace(GPU, **runtime)
    converter.configure(ConvertJob(model, runtime_ref, str(source), str(folder.parent), ()))
    return converter.convert(source, folder, Calibration([], ""))


def test_an_engine_is_built_and_its_timings_are_carried_on(program: Path, tmp_path: Path) -> None:
    made = build(tmp_path, precision="int8")
    assert made.artifact.read_bytes() == b"ENGINE"
    assert "timing cache new" in made.step
    files = {p.name for p in made.artifact.parent.iterdir()}
    assert files == {"model.engine", "model.json", "timing.cache"}
    assert "timing cache carried on" in build(tmp_path, "N", "next").step
    # One that this version does not take (the double refuses it) is left out, not fatal.
    (tmp_path / "engines" / "next" / "step1" / "timing.cache").write_bytes(b"of another version")
    assert "timing cache new" in build(tmp_path, name="last").step
    fixed, free, *_ = trtexec_double.commands(program)
    # trtexec fails when a shape is given for an input of fixed shape.
    assert not {"--optShapes"} & names(["", *fixed])
    assert {f"--{w}Shapes=x:1x3x6x6" for w in ("min", "opt", "max")} < set(free)


def test_inputs_that_do_not_fit_are_refused_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = trtexec_double.install(tmp_path / "bin", "8201")
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    source = write_onnx(tmp_path / "m.onnx")
    converter = TrtexecBuild()
    model = model_of(source, "onnx", (replace(SPEC, shape=(2, 3, 6, 6)),))
    converter.configure(ConvertJob(model, GPU, str(source), str(tmp_path), ()))
    with pytest.raises(UnsupportedShape, match="asked for"):
        converter.convert(source, tmp_path, Calibration([], ""))
    source.write_bytes(b"\x00no model")
    with pytest.raises(BadModel, match="not an ONNX model"):
        converter.convert(source, tmp_path, Calibration([], ""))
    assert not program.with_name("commands.jsonl").exists()


# --- sessions ---


def test_it_runs_what_is_bound(program: Path, engine: Path) -> None:
    session = load(engine)
    assert tuple(session.inputs) == (SPEC,)
    assert [(s.name, s.shape) for s in session.outputs] == [("y", (1, 5))]
    for seed in (1, 2):
        x = np.random.RandomState(seed).standard_normal(SPEC.shape).astype(np.float32)
        session.bind({"x": x})
        session.infer()
        np.testing.assert_allclose(session.read()["y"], expected(x), rtol=1e-5, atol=1e-6)
    assert "through trtexec, CUDA graph off" in session.placement
    folder = session._folder
    session.close()
    assert not folder.exists()


def test_a_second_run_is_made_only_where_the_first_is_not_enough(
    program: Path, engine: Path
) -> None:
    session = load(engine, data_transfers="off")
    scenario = Scenario(min_duration_s=1, max_duration_s=4, warm_up_s=0.2, target_relative_ci=0.5)
    laps = session.measured(scenario)
    assert (laps.stopped_by, laps.calls_per_sample) == ("precision", 1)
    assert len(laps.caller_ns) == trtexec_double.QUERIES
    assert (laps.runtime_ns < laps.caller_ns).all()
    laps = session.measured(replace(scenario, min_samples=10**6))
    assert laps.stopped_by == "max_duration"
    first, *measured = trtexec_double.commands(program)
    durations = [next(w for w in c if w.startswith("--duration")) for c in measured]
    assert durations == ["--duration=1", "--duration=1", "--duration=4"]
    # Verifying needs the outputs on the host, whatever is timed.
    old = "--noDataTransfers" in measured[0]
    assert old is not ("--includeDataTransfers" in first)
    assert "--noDataTransfers" not in first
    assert session.tool_memory().peak_rss_mib > 1
    session.close()


def test_times_that_cannot_be_are_no_figure(
    program: Path, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = load(engine)
    late = trtexec_output.TrtexecTimes(np.full(9, 10**12), np.full(9, 10**11), 10**13)
    monkeypatch.setattr(trtexec_output, "read_times", lambda *_: late)
    with pytest.raises(ClockError, match="9 queries took 9000"):
        session.measured(QUICK)
    with pytest.raises(UnsupportedScenario, match="not offline"):
        session.measured(replace(QUICK, kind="offline"))
    session.close()


def test_what_it_cannot_run_is_named(program: Path, engine: Path, tmp_path: Path) -> None:
    graph = replace(GPU, target="DLA0", precision="fp16", options={"cuda_graph": "on"})
    with pytest.raises(BadOption, match="without CUDA graphs"):
        TensorRt().load(engine, graph)
    with pytest.raises(UnsupportedShape, match="asked for"):
        TensorRt().load(engine, GPU, (replace(SPEC, shape=(2, 3, 6, 6)),))
    engine.write_bytes(b"damaged")
    with pytest.raises(BadModel, match="deserialization failed"):
        load(engine)
    describe(engine.parent, (replace(SPEC, dtype="int64"),), ())
    with pytest.raises(UnsupportedFormat, match="float32, float16, int32, int8"):
        TensorRt().load(engine, GPU)
    (engine.parent / "model.json").unlink()
    with pytest.raises(BadModel, match="no engine of ours"):
        load(engine)


def test_a_graph_that_was_asked_for_and_refused_is_told(
    program: Path, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "[W] The specified --useCudaGraph flag has been ignored."
    monkeypatch.setattr(trtexec, "run", lambda *_: trtexec.TrtexecRun(1.0, 1.0, text))
    with pytest.raises(Unsupported, match="CUDA graph"):
        load(engine, cuda_graph="on")


# --- whole jobs, through the real child ---


def child(verb: str, job: Any, cls: type[Any]) -> Any:
    done = subprocess.run(
        [sys.executable, "-I", str(MAIN), verb],
        input=codec.dumps(job),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return codec.loads(cls, done.stdout)


def test_a_whole_trial_through_the_child(program: Path, tmp_path: Path) -> None:
    source = write_onnx(tmp_path / "m.onnx")
    model = model_of(source, "onnx")
    folder = tmp_path / "engines" / "job"
    folder.mkdir(parents=True)
    way = (Edge("trtexec_build", ("onnx", "fp32"), ("tensorrt_engine", "fp32")),)
    made = child("convert", ConvertJob(model, GPU, str(source), str(folder), way), Converted)
    assert made.failure is None
    assert (made.format, made.steps[0].split()[0]) == ("tensorrt_engine", "trtexec_build")
    reference = reference_file(tmp_path / "reference.npz")
    request = TrialRequest(
        *(SCHEMA, "a1", "t1", model, GPU, QUICK, ReferenceRef("", 0, 4, "test"), LOOSE)
    )
    job = TrialJob(
        *(request, made.artifact, made.format, made.size_bytes, str(reference), str(folder)),
        dataset=str(dataset_file(tmp_path / "dataset.npz")),
    )
    found = child("trial", job, TrialResult)
    assert (found.status, found.failure) == ("ok", None)
    assert found.fidelity.passed
    assert 0 < found.fidelity.max_abs < 1e-4  # six printed digits
    assert found.samples.series == ("caller", "runtime")
    caller, runtime = np.fromfile(folder / "samples.i64", "<i8").reshape(2, -1)
    assert len(caller) == found.samples.count == trtexec_double.QUERIES
    assert (runtime < caller).all()
    assert found.clock.name.startswith("CUDA events")
    assert found.memory.source == "ru_maxrss of trtexec"
    # What a tool in its own process does not tell is absent, not guessed.
    assert found.usage is None
    assert found.accuracy is None
    phases = found.phases
    assert (phases.first_inference_ms, phases.warm_up_s, phases.load_warm_s) == (None, None, None)
    assert phases.load_cold_s > 0
    assert "through trtexec" in found.placement
    runs = [c for c in trtexec_double.commands(program) if any("--loadEngine" in w for w in c)]
    measured = [c for c in runs if any("--exportTimes" in w for w in c)]
    assert len(runs) - len(measured) == 1 + 4  # the load, and each feed of the reference
