"""Small models with known outputs, and the runner's child to run them with, for the contract suites
of backends and converters."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from agent.contract import codec
from agent.contract.child_jobs import (
    Converted,
    ConvertJob,
    Probed,
    Referenced,
    ReferenceJob,
    TrialJob,
)
from agent.contract.conversion_graph import on_the_way
from agent.contract.device import RuntimeFacts
from agent.contract.trial import (
    SCHEMA,
    ModelRef,
    ReferenceRef,
    RuntimeRef,
    Scenario,
    TensorSpec,
    Tolerance,
    TrialRequest,
    TrialResult,
)
from agent.runtimes import registry
from agent.worker.attempts.conversion import as_it_is, unknown_option
from agent.worker.environments.conversion_planning import NoConversionPath, offered, plan
from support.environments import ROOT, NotBuilt, python_of
from support.need import need

T = TypeVar("T")
Array = np.ndarray[Any, np.dtype[np.float32]]

MAIN = ROOT / "agent" / "runner" / "__main__.py"
TFLITE = ROOT / "tests" / "fixtures" / "tflite"
QUICK = Scenario(min_duration_s=0.0, max_duration_s=0.3, warm_up_s=0.0, min_samples=20)
LOOSE = Tolerance(min_cosine=0.98, max_top1_drop=1.0)
SPEC = TensorSpec("x", "float32", (1, 3, 6, 6))

_RANDOM = np.random.RandomState(5)
KERNEL: Array = (_RANDOM.standard_normal((4, 3, 3, 3)) * 0.3).astype(np.float32)
BIAS: Array = _RANDOM.standard_normal(4).astype(np.float32)
DENSE: Array = (_RANDOM.standard_normal((4, 5)) * 0.5).astype(np.float32)


def expected(x: Array) -> Array:
    """Convolution 3 × 3 without padding, ReLU, mean over the image, matrix product: in NumPy."""
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    convolved = np.einsum("nchwij,ocij->nohw", windows, KERNEL) + BIAS[:, None, None]
    product: Array = np.maximum(convolved, 0.0).mean(axis=(2, 3)) @ DENSE
    return product


def write_onnx(path: Path, batch: int | str = 1) -> Path:
    """The same as ONNX; ``batch`` may be a symbol."""
    nodes = [
        helper.make_node("Conv", ["x", "kernel", "bias"], ["c"], name="conv"),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["g"], name="pool"),
        helper.make_node("Flatten", ["g"], ["f"], name="flatten"),
        helper.make_node("MatMul", ["f", "dense"], ["y"], name="product"),
    ]
    weights = {"kernel": KERNEL, "bias": BIAS, "dense": DENSE}
    return _save(
        path,
        nodes,
        {"x": [batch, 3, 6, 6]},
        {"y": [batch, 5]},
        [numpy_helper.from_array(w, n) for n, w in weights.items()],
    )


def write_two(path: Path) -> Path:
    """Two inputs, two outputs: (a + b, a - b), both (1, 3)."""
    nodes = [helper.make_node(op, ["a", "b"], [op.lower()]) for op in ("Add", "Sub")]
    return _save(path, nodes, {"a": [1, 3], "b": [1, 3]}, {"add": [1, 3], "sub": [1, 3]}, [])


def write_unknown_operator(path: Path, domain: str = "") -> Path:
    node = helper.make_node("Frobnicate", ["x"], ["y"], domain=domain)
    return _save(path, [node], {"x": [1, 3]}, {"y": [1, 3]}, [], domain)


def write_poles(path: Path) -> Path:
    """y = 1 / x: infinite at 0."""
    node = helper.make_node("Reciprocal", ["x"], ["y"])
    return _save(path, [node], {"x": [1, 3]}, {"y": [1, 3]}, [])


def _save(
    path: Path, nodes: Any, inputs: Any, outputs: Any, weights: Any, domain: str = ""
) -> Path:
    def infos(shapes: Mapping[str, list[Any]]) -> list[Any]:
        return [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, shape)
            for n, shape in shapes.items()
        ]

    graph = helper.make_graph(nodes, "g", infos(inputs), infos(outputs), weights)
    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


PT2 = """
import sys
import numpy as np, torch
names = ("kernel", "bias", "dense")
kernel, bias, dense = (torch.from_numpy(np.load(sys.argv[1])[name]) for name in names)

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.kernel, self.bias, self.dense = map(torch.nn.Parameter, (kernel, bias, dense))
    def forward(self, picture):
        c = torch.nn.functional.conv2d(picture, self.kernel, self.bias)
        return torch.relu(c).mean((2, 3)) @ self.dense

free = {"picture": {0: torch.export.Dim("batch", min=1, max=64)}}
example = (torch.zeros(2, 3, 6, 6),)
torch.export.save(torch.export.export(Net().eval(), example, dynamic_shapes=free), sys.argv[2])
torch.export.save(torch.export.export(Net().eval(), (torch.zeros(1, 3, 6, 6),)), sys.argv[3])
"""


def write_pt2(folder: Path) -> tuple[Path, Path]:
    """The same as an exported program, of free batch and of batch 1; its input has another name."""
    weights = folder / "weights.npz"
    np.savez(weights, kernel=KERNEL, bias=BIAS, dense=DENSE)
    free, fixed = folder / "free.pt2", folder / "fixed.pt2"
    command = [python_of("pytorch"), "-c", PT2, str(weights), str(free), str(fixed)]
    subprocess.run(command, check=True, capture_output=True)
    return free, fixed


def child(label: str, verb: str, job: Any, cls: type[T], folder: Path | None = None) -> T:
    """Run a verb under an environment's interpreter, elsewhere than in the source tree."""
    done = subprocess.run(
        [python_of(label), "-I", str(MAIN), verb],
        input=codec.dumps(job) if job is not None else "{}",
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return codec.loads(cls, done.stdout)


@cache
def probed(label: str) -> Probed:
    """What answers under an environment's interpreter."""
    return child(label, "probe", None, Probed)


@cache
def facts_of(label: str, tools: str = "") -> RuntimeFacts:
    """What the runtime of an environment offers with the converters of the environment ``tools``,
    or else with its own."""
    name = label.partition("@")[0]
    try:
        found = next(facts for facts in probed(label).runtimes if facts.backend == name)
        return offered(found, probed(tools or label).tools)
    except NotBuilt as error:
        return RuntimeFacts(name, "", "", missing=str(error))


def require(label: str) -> RuntimeFacts:
    """Skip where the runtime is missing; fail where ``BENCHFARM_REQUIRE`` names it."""
    facts = facts_of(label)
    need(label, not facts.missing, facts.missing)
    return facts


def model_of(path: Path, form: str, inputs: tuple[TensorSpec, ...] = (SPEC,)) -> ModelRef:
    return ModelRef("small", form, "0" * 64, path.stat().st_size, inputs, ())


@dataclass(frozen=True)
class Bench:
    """One backend, and a folder for each job.

    ``environment``: the one that it runs in, where it may run in several; ``tools``: the one that
    converts for it, where that is another.
    """

    backend: str
    folder: Path
    environment: str = ""
    tools: str = ""

    @property
    def _environment(self) -> str:
        return self.environment or self.backend

    def reference(self, model: ModelRef, source: Path, dataset: Path | None = None) -> Referenced:
        backend = "pytorch" if model.format == "pt2" else self._environment
        job = ReferenceJob(
            model, str(source), str(self.folder), dataset=str(dataset) if dataset else None
        )
        return child(backend, "reference", job, Referenced, self.folder)

    def convert(self, model: ModelRef, runtime: RuntimeRef, source: Path, **more: Any) -> Converted:
        """Convert as the worker does, with the tools of one environment."""
        converting = self.tools or self._environment
        tools, backend = probed(converting).tools, registry.find_backend(runtime.backend)
        facts = replace(
            facts_of(self._environment, converting),
            backend=backend.name,
            wants=dict(backend.wants),
            options=dict(backend.options),
        )
        try:
            way = plan(source, model.format, runtime, facts, tools).way
        except NoConversionPath as error:
            return Converted(status=error.status, failure=error.failure)
        wrong = unknown_option(runtime.options, facts, on_the_way(way, tools))
        if wrong:
            return Converted(status="failed", failure=wrong)
        if not way:
            converted = as_it_is(model, source).converted
            assert converted is not None
            return replace(converted, size_bytes=source.stat().st_size)
        job = ConvertJob(model, runtime, str(source), str(self.folder), way, **more)
        return child(converting, "convert", job, Converted, self.folder)

    def trial(
        self,
        model: ModelRef,
        runtime: RuntimeRef,
        artifact: Path,
        reference: Path,
        *,
        form: str = "",
        scenario: Scenario = QUICK,
        dataset: Path | None = None,
        top1: float | None = None,
    ) -> TrialResult:
        origin = ReferenceRef("", 0, 4, "test", top1)
        request = TrialRequest(
            SCHEMA, "attempt-1", "trial-1", model, runtime, scenario, origin, LOOSE
        )
        job = TrialJob(
            request,
            str(artifact),
            form or model.format,
            artifact.stat().st_size,
            str(reference),
            str(self.folder),
            str(dataset) if dataset else None,
        )
        return child(self._environment, "trial", job, TrialResult, self.folder)


def reference_file(path: Path, feeds: int = 4) -> Path:
    """The small model's reference, computed by NumPy."""
    x = np.random.RandomState(9).standard_normal((feeds, 1, 3, 6, 6)).astype(np.float32)
    y = np.stack([expected(feed) for feed in x]).astype(np.float32)
    arrays: dict[str, Any] = {"input:x": x, "output:y": y}
    np.savez(path, **arrays)
    return path


def dataset_file(path: Path, samples: int = 30) -> Path:
    """A data set that the small model scores 100 % on."""
    x = np.random.RandomState(11).standard_normal((samples, 3, 6, 6)).astype(np.float32)
    labels = expected(x).argmax(axis=1)
    np.savez(path, inputs=x, labels=labels, calibration=x[:20])
    return path
