"""The engine cache: what distinguishes two conversions, and what is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.contract import DatasetRef, ModelRef, RuntimeRef, Scenario, TensorSpec, TrialRequest
from agent.jobs import Converted, ConvertJob
from agent.worker.engines import ANSWER_NAME, Engine, Engines, engine_key, key_parts, make_job
from agent.worker.environments import RuntimeEnvironment
from agent.worker.runner import Outcome
from support.played_board import make_request

ENVIRONMENT = RuntimeEnvironment("default", "onnxruntime", "1.31.1", "/python")
DATASET = DatasetRef("digits", "d" * 64, 1, 1, 1)


@pytest.fixture
def request_() -> TrialRequest:
    return make_request()


def key(request: TrialRequest, environment: RuntimeEnvironment = ENVIRONMENT) -> str:
    return engine_key(key_parts(request, environment, "x86_64 cpu"))


def runtime(**changes: Any) -> Callable[[TrialRequest], TrialRequest]:
    return lambda r: replace(r, runtime=replace(r.runtime, **changes))


def int8(request: TrialRequest) -> TrialRequest:
    return replace(request, calibration="dataset", dataset=DATASET)


@pytest.mark.parametrize(
    "change",
    [
        lambda r: replace(r, model=replace(r.model, sha256="1" * 64)),
        lambda r: replace(r, model=replace(r.model, inputs=(TensorSpec("x", "float32", (2, 4)),))),
        runtime(backend="openvino"),
        runtime(precision="int8"),
        runtime(target="GPU.0"),
        runtime(options={"graph": "all"}),
        lambda r: replace(r, seed=1),
        lambda r: replace(r, calibration="random"),
        int8,
        lambda r: replace(int8(r), dataset=replace(DATASET, sha256="e" * 64)),
    ],
)
def test_what_makes_another_engine(
    request_: TrialRequest, change: Callable[[TrialRequest], TrialRequest]
) -> None:
    assert key(change(request_)) != key(request_)


@pytest.mark.parametrize(
    "change",
    [
        lambda r: replace(r, attempt_id="a2", trial_id="t2"),
        lambda r: replace(r, scenario=Scenario("offline")),
        lambda r: replace(r, dataset=DATASET),
        lambda r: replace(r, reference=replace(r.reference, sha256="3" * 64)),
        runtime(threads=1),
    ],
)
def test_what_does_not(
    request_: TrialRequest, change: Callable[[TrialRequest], TrialRequest]
) -> None:
    assert key(change(request_)) == key(request_)


def test_the_runtimes_version_and_the_device_count(request_: TrialRequest) -> None:
    assert key(request_) != key(request_, replace(ENVIRONMENT, version="1.30.0"))
    other = engine_key(key_parts(request_, ENVIRONMENT, "aarch64 cpu"))
    assert other != key(request_)


def test_the_order_of_options_does_not_count(request_: TrialRequest) -> None:
    one = runtime(options={"a": 1, "b": 2})(request_)
    two = runtime(options={"b": 2, "a": 1})(request_)
    assert key(one) == key(two)


def test_what_the_key_leaves_out_the_converter_is_not_told(request_: TrialRequest) -> None:
    request_ = replace(request_, runtime=RuntimeRef("onnxruntime", threads=4), dataset=DATASET)
    job = make_job(request_, Path("/m"), Path("/f"), Path("/d"), Path("/r"))
    assert (job.runtime.threads, job.dataset, job.reference) == (0, None, None)
    job = make_job(int8(request_), Path("/m"), Path("/f"), Path("/d"), Path("/r"))
    assert (job.dataset, job.reference) == ("/d", "/r")


class Bench:
    """Engines and a converter whose runs are counted."""

    def __init__(self, folder: Path, max_bytes: int = 1 << 30) -> None:
        self.folder = folder
        self.engines = Engines(folder / "engines", max_bytes)
        self.source = folder / "source"
        self.source.write_bytes(b"source")
        self.runs = 0
        self.answer: Callable[[Path], Converted] = self.file

    def file(self, folder: Path) -> Converted:
        (folder / "model.bin").write_bytes(b"x" * 1000)
        return Converted(str(folder / "model.bin"), "bin", 1000)

    def get(self, name: str) -> Engine:
        def run(job: ConvertJob, folder: Path) -> Outcome:
            self.runs += 1
            return Outcome(None, answer=self.answer(folder))

        return self.engines.get({"name": name}, self._job, run)

    def _job(self, folder: Path) -> ConvertJob:
        model = ModelRef("m", "onnx", "0" * 64, 1, (), ())
        return ConvertJob(model, RuntimeRef("b"), str(self.source), str(folder))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def artifact(engine: Engine) -> Path:
    assert engine.converted is not None
    return Path(engine.converted.artifact)


def test_a_hit_starts_nothing(bench: Bench) -> None:
    first, second = bench.get("a"), bench.get("a")
    assert (first.cached, second.cached, bench.runs) == (False, True, 1)
    assert first.converted == second.converted
    assert artifact(second).read_bytes() == b"x" * 1000
    assert not list((bench.folder / "engines").glob("tmp-*"))


def test_a_hit_survives_a_restart(bench: Bench) -> None:
    first = bench.get("a")
    again = Bench(bench.folder)
    assert again.get("a").converted == first.converted
    assert again.runs == 0


def test_the_source_itself_is_an_answer_too(bench: Bench) -> None:
    bench.answer = lambda _folder: Converted(str(bench.source), "onnx", 6)
    assert artifact(bench.get("a")) == bench.source
    assert artifact(bench.get("a")) == bench.source
    assert bench.runs == 1


def test_what_was_lost_is_made_again(bench: Bench) -> None:
    artifact(bench.get("a")).unlink()
    assert not bench.get("a").cached
    assert artifact(bench.get("a")).exists()


def test_a_damaged_answer_is_made_again(bench: Bench) -> None:
    home = artifact(bench.get("a")).parent
    (home / ANSWER_NAME).write_text("{")
    assert not bench.get("a").cached
    assert bench.get("a").cached


def test_a_converter_that_raises_leaves_nothing(bench: Bench) -> None:
    def broken(_folder: Path) -> Converted:
        raise RuntimeError("no")

    bench.answer = broken
    with pytest.raises(RuntimeError):
        bench.get("a")
    assert list((bench.folder / "engines").iterdir()) == []


def test_half_a_conversion_from_before_is_cleared(tmp_path: Path) -> None:
    half = tmp_path / "engines" / "tmp-abc"
    half.mkdir(parents=True)
    (half / "file").write_bytes(b"x")
    Bench(tmp_path)
    assert not half.exists()


def test_the_least_recently_used_engine_goes(tmp_path: Path) -> None:
    bench = Bench(tmp_path, max_bytes=3500)
    for name in ("a", "b", "c"):
        bench.get(name)
    bench.get("a")
    bench.get("d")
    bench.get("e")
    runs = bench.runs
    assert bench.get("e").cached
    assert bench.get("a").cached
    assert bench.runs == runs
    assert not bench.get("b").cached
