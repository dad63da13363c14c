"""Conversions through several environments: what distinguishes two, and what each child is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.contract.child_jobs import Converted, ConvertJob, Probed, Referenced, ReferenceJob
from agent.contract.conversion_graph import Edge, Tool
from agent.contract.device import RuntimeFacts
from agent.contract.trial import DatasetRef, Failure, Fidelity, Scenario, TensorSpec, TrialRequest
from agent.worker.attempts.conversion import Conversion, ConversionInputs, ConversionRunner
from agent.worker.attempts.engine_cache import EngineCache
from agent.worker.environments.conversion_planning import NoConversionPath, plan
from agent.worker.environments.environments import Environments, RuntimeEnvironment
from agent.worker.isolation.child_process import ChildLimits
from agent.worker.isolation.runner_client import ChildOutcome
from support.played_board import make_request

DATASET = DatasetRef("digits", "d" * 64, 1, 1, 1)
NHWC = TensorSpec("input", "float32", (1, 4), "NHWC")

# Keras becomes TFLite under TensorFlow, and runs, or is quantised first, in another environment.
EXPORT = Tool(
    "export", (Edge("export", ("keras", "fp32"), ("savedmodel", "fp32")),), options={"depth": ()}
)
LITE = Tool("lite", (Edge("lite", ("savedmodel", "fp32"), ("tflite", "fp32")),))
SHRINK = Tool(
    "shrink",
    (Edge("shrink", ("tflite", "fp32"), ("tflite", "int8")),),
    needs_calibration=True,
    options={"per_channel": ("on", "off")},
)
ABSENT = Tool("absent", (Edge("absent", ("pt2", "fp32"), ("tflite", "fp32")),), missing=("torch",))
PROBED = {
    "/default": Probed((), (replace(LITE, missing=("tensorflow",)), ABSENT)),
    "/tensorflow": Probed((RuntimeFacts("tensorflow", "2.21.0", ""),), (EXPORT, LITE)),
    "/tflite": Probed(
        (
            RuntimeFacts(
                "tflite",
                "2.3.0",
                "",
                options={"xnnpack": ("on", "off")},
                wants={"fp32": (("tflite", "fp32"),), "int8": (("tflite", "int8"),)},
            ),
        ),
        (SHRINK,),
    ),
}


class Board:
    """A board of three environments, whose children are played and noted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.probed = dict(PROBED)
        self.environments = Environments(folder, lambda python: self.probed[python], "/default")
        for name, version in (("tensorflow", "2.21.0"), ("tflite", "2.3.0")):
            self.environments.add(RuntimeEnvironment(f"{name}-env", name, version, f"/{name}"))
        self.conversion_runner = ConversionRunner(
            self.environments,
            EngineCache(folder / "engines", 1 << 30),
            self._run,
            self._check,
            "x86_64 cpu",
        )
        self.checks: list[tuple[str, ReferenceJob]] = []
        self.found = Referenced(fidelity=Fidelity(0.0, 0.0, 0.99995, None, 4, "y", True))
        self.jobs: list[tuple[str, ConvertJob]] = []
        self.fails: str = ""
        self.source = folder / "source"
        self.source.write_bytes(b"source")

    def _run(self, python: str, job: ConvertJob, folder: Path, bounds: ChildLimits) -> ChildOutcome:
        self.jobs.append((python, job))
        if job.way[-1].converter == self.fails:
            return ChildOutcome(None, answer=Converted(status="unsupported", steps=("tried",)))
        made = folder / "made"
        made.write_text(Path(job.source).read_text() + " " + python, "utf-8")
        steps = tuple(edge.converter for edge in job.way)
        return ChildOutcome(
            None, answer=Converted(str(made), job.way[-1].target[0], 9, steps, 1.0, inputs=(NHWC,))
        )

    def _check(
        self, python: str, job: ReferenceJob, folder: Path, bounds: ChildLimits
    ) -> ChildOutcome:
        self.checks.append((python, job))
        return ChildOutcome(None, answer=self.found)

    def convert(self, request: TrialRequest) -> Conversion:
        environment = self.environments.resolve(request.runtime.backend)
        facts = self.environments.facts_in(environment)
        planned = plan(
            self.source, request.model.format, request.runtime, facts, self.environments.tools()
        )
        sources = ConversionInputs(self.source, self.folder / "reference", self.folder / "dataset")
        return self.conversion_runner.convert(request, planned, sources)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


@pytest.fixture
def request_() -> TrialRequest:
    request = make_request()
    runtime = replace(request.runtime, backend="tflite", options={"depth": 3, "xnnpack": "off"})
    return replace(
        request, model=replace(request.model, format="keras"), runtime=runtime, dataset=DATASET
    )


def runtime(**changes: Any) -> Callable[[TrialRequest], TrialRequest]:
    return lambda r: replace(r, runtime=replace(r.runtime, **changes))


def int8(request: TrialRequest) -> TrialRequest:
    return replace(runtime(precision="int8")(request), calibration="dataset")


def test_a_way_leads_through_two_environments(board: Board, request_: TrialRequest) -> None:
    done = board.convert(int8(request_))
    assert [python for python, _ in board.jobs] == ["/tensorflow", "/tflite"]
    first, second = (job for _, job in board.jobs)
    assert [edge.converter for edge in first.way] == ["export", "lite"]
    assert done.converted is not None
    assert done.converted.steps == (
        "export",
        "lite, checked by tflite, cosine 0.999950",
        "shrink",
    )
    assert Path(done.converted.artifact).read_text("utf-8") == "source /tensorflow /tflite"
    assert (second.model.format, second.model.own_inputs) == ("tflite", (NHWC,))
    assert second.model.inputs == request_.model.inputs
    assert second.source.endswith("made")


def test_each_child_is_told_what_concerns_it(board: Board, request_: TrialRequest) -> None:
    request_ = runtime(options={"depth": 3, "xnnpack": "off", "per_channel": "on"})(request_)
    board.convert(int8(request_))
    first, second = (job for _, job in board.jobs)
    assert (first.runtime.options, second.runtime.options) == ({"depth": 3}, {"per_channel": "on"})
    assert (first.calibration, first.dataset) == ("", None)
    assert (second.calibration, second.dataset) == ("dataset", str(board.folder / "dataset"))
    assert {job.runtime.threads for _, job in board.jobs} == {0}
    assert (first.runtime.backend, second.runtime.backend) == ("", "tflite")
    assert {job.reference for _, job in board.jobs} == {str(board.folder / "reference")}


def test_what_the_converting_child_cannot_run_another_environment_checks(
    board: Board, request_: TrialRequest
) -> None:
    board.convert(int8(request_))
    [(python, job)] = board.checks
    assert python == "/tflite"
    assert (job.model.format, job.expected) == ("tflite", str(board.folder / "reference"))
    assert job.tolerances["fp32"].min_cosine == 0.9999


def test_a_part_that_is_off_ends_it_and_is_not_kept(board: Board, request_: TrialRequest) -> None:
    off = Failure("verify", "other_network", "output y is off: cosine 0.1")
    board.found = Referenced(failure=off)
    for _ in range(2):
        done = board.convert(int8(request_))
        assert done.converted is not None
        assert (done.converted.status, done.cached) == ("invalid", False)
        assert done.converted.failure is not None
        assert done.converted.failure.message == "lite: output y is off: cosine 0.1"
    assert [job.way[-1].converter for _, job in board.jobs] == ["lite", "lite"]


def test_what_was_made_is_kept_part_by_part(board: Board, request_: TrialRequest) -> None:
    assert not board.convert(request_).cached
    again = board.convert(request_)
    assert (again.cached, again.seconds, len(board.jobs)) == (True, 0.0, 1)


def test_a_failing_part_ends_it_with_the_steps_so_far(board: Board, request_: TrialRequest) -> None:
    board.fails = "shrink"
    done = board.convert(int8(request_))
    assert done.converted is not None
    assert done.converted.status == "unsupported"
    assert [step.split(",")[0] for step in done.converted.steps] == ["export", "lite", "tried"]


CHANGES: list[Callable[[TrialRequest], TrialRequest]] = [
    lambda r: replace(r, model=replace(r.model, sha256="1" * 64)),
    lambda r: replace(r, model=replace(r.model, inputs=(TensorSpec("x", "float32", (2, 4)),))),
    lambda r: replace(r, model=replace(r.model, own_inputs=(NHWC,))),
    runtime(options={"depth": 4}),
    int8,
    lambda r: replace(int8(r), seed=1),
    lambda r: replace(int8(r), calibration="random"),
    lambda r: replace(int8(r), dataset=replace(DATASET, sha256="e" * 64)),
    lambda r: runtime(options={"per_channel": "off"})(int8(r)),
    runtime(target="GPU.0"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_converted_anew(
    board: Board, request_: TrialRequest, change: Callable[[TrialRequest], TrialRequest]
) -> None:
    base = int8(request_) if change(request_).runtime.precision == "int8" else request_
    if change is not int8:
        board.convert(base)
    assert not board.convert(change(request_)).cached


@pytest.mark.parametrize(
    "change",
    [
        lambda r: replace(r, attempt_id="a2", trial_id="t2"),
        lambda r: replace(r, scenario=Scenario("offline")),
        lambda r: replace(r, dataset=None),
        lambda r: replace(r, seed=1),
        lambda r: replace(r, reference=replace(r.reference, sha256="3" * 64)),
        runtime(threads=1),
        runtime(options={"xnnpack": "on", "depth": 3}),
        runtime(version="2.3"),
        runtime(format="tflite", via=("lite",)),
    ],
)
def test_what_is_not(
    board: Board, request_: TrialRequest, change: Callable[[TrialRequest], TrialRequest]
) -> None:
    board.convert(request_)
    assert board.convert(change(request_)).cached


def test_another_device_or_other_packages_convert_anew(
    board: Board, request_: TrialRequest
) -> None:
    board.convert(request_)
    other = replace(board.conversion_runner, fingerprint="aarch64 cpu")
    board.conversion_runner = other
    assert not board.convert(request_).cached
    board.probed["/tensorflow"] = replace(
        board.probed["/tensorflow"], runtimes=(RuntimeFacts("tensorflow", "2.22.0", ""),)
    )
    board.environments.probe_all()
    assert not board.convert(request_).cached


@pytest.mark.parametrize(
    ("change", "status", "kind", "message"),
    [
        (
            lambda r: replace(r, model=replace(r.model, format="pt2")),
            "failed",
            "runtime_missing",
            "absent needs torch; install it, or add",
        ),
        (
            lambda r: replace(r, model=replace(r.model, format="onnx")),
            "unsupported",
            "unsupported_format",
            "no converter leads from onnx in fp32 to tflite in fp32",
        ),
        (
            runtime(precision="bf16"),
            "unsupported",
            "unsupported_precision",
            "it runs in fp32, int8",
        ),
        (
            runtime(format="onnx"),
            "unsupported",
            "unsupported_format",
            "loads no onnx in fp32; it loads tflite",
        ),
        (
            runtime(via=("shrink",)),
            "unsupported",
            "unsupported_format",
            "to tflite in fp32 through shrink",
        ),
    ],
)
def test_where_no_way_leads_the_reason_is_named(
    board: Board,
    request_: TrialRequest,
    change: Callable[[TrialRequest], TrialRequest],
    status: str,
    kind: str,
    message: str,
) -> None:
    with pytest.raises(NoConversionPath, match=message) as refused:
        board.convert(change(request_))
    assert (refused.value.status, refused.value.failure.kind) == (status, kind)


def test_facts_say_which_sources_lead_to_a_runtime(board: Board) -> None:
    facts = next(f for f in board.environments.facts() if f.backend == "tflite")
    assert facts.accepts == ("tflite", "savedmodel", "keras")
