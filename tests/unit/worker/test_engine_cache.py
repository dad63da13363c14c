"""The engine cache: what is kept, for how long, and what is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.contract.child_jobs import Converted, ConvertJob
from agent.contract.trial import ModelRef, RuntimeRef
from agent.worker.attempts.engine_cache import ANSWER_NAME, CachedEngine, EngineCache
from agent.worker.isolation.runner_client import ChildOutcome


class Bench:
    """Engines and a converter whose runs are counted."""

    def __init__(self, folder: Path, max_bytes: int = 1 << 30) -> None:
        self.folder = folder
        self.engines = EngineCache(folder / "engines", max_bytes)
        self.source = folder / "source"
        self.source.write_bytes(b"source")
        self.runs = 0
        self.answer: Callable[[Path], Converted] = self.file

    def file(self, folder: Path) -> Converted:
        (folder / "model.bin").write_bytes(b"x" * 1000)
        return Converted(str(folder / "model.bin"), "bin", 1000)

    def get(self, name: str) -> CachedEngine:
        def run(job: ConvertJob, folder: Path) -> ChildOutcome:
            self.runs += 1
            return ChildOutcome(None, answer=self.answer(folder))

        return self.engines.get({"name": name}, self._job, run)

    def _job(self, folder: Path) -> ConvertJob:
        model = ModelRef("m", "onnx", "0" * 64, 1, (), ())
        return ConvertJob(model, RuntimeRef("b"), str(self.source), str(folder), ())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def artifact(engine: CachedEngine) -> Path:
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
