"""ExecuTorch's sessions in one process under its interpreter, and its converters' options."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from agent.contract.trial import Options, RuntimeRef
from support.environments import ROOT, python_of
from support.runner_child import Bench, model_of, reference_file, require, write_pt2
from support.runtime_contract import ConverterCase, RuntimeContract

_FILES = frozenset({"model.pte", "notes.json"})
CONTRACT = RuntimeContract(
    converters=(
        ConverterCase(
            *("executorch_lower", "executorch", "fp32", "executorch_pte", _FILES), source="pt2"
        ),
        ConverterCase(
            *("executorch_quantize", "executorch", "int8", "executorch_pte", _FILES),
            calibrated=True,
            source="pt2",
        ),
    )
)

SESSION = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from agent.contract.trial import RuntimeRef, TensorSpec
from agent.contract import failures
from agent.runtimes import registry

program = Path(sys.argv[2])
backend = registry.find_backend("executorch")
spec = TensorSpec("x", "float32", (1, 3, 6, 6))
one = RuntimeRef("executorch", threads=1)

def raises(kind, call, *words):
    try:
        call()
    except kind as error:
        assert all(word in str(error) for word in words), error
    else:
        raise AssertionError(words)

session = backend.load(program, one, [spec])
assert list(session.inputs) == [spec], session.inputs
assert session.outputs[0].shape == (1, 5), session.outputs
# A mean that drops its axes is none that XNNPACK takes.
where = "CPU, 1 threads, XNNPACK 3 nodes, ExecuTorch's own kernels 1 mean"
assert session.placement == where, session.placement
found = []
for seed in (1, 2, 1):
    x = np.random.RandomState(seed).standard_normal(spec.shape).astype(np.float32)
    session.bind({"x": x})
    x[:] = 0.0
    session.infer()
    (array,) = session.read().values()
    found.append(array)
assert np.array_equal(found[0], found[2]) and not np.array_equal(found[0], found[1])
for bad in ({"z": x}, {"x": x[:, :, :5]}, {"x": x.astype(np.float64)}):
    raises(failures.UnsupportedShape, lambda: session.bind(bad))
session.close()
raises(RuntimeError, session.infer, "closed")

# Notes are the converter's: without them tensors are numbered.
bare = program.with_name("bare") / "model.pte"
bare.parent.mkdir()
bare.write_bytes(program.read_bytes())
session = backend.load(bare, one)
assert session.inputs[0].name == "input0" and session.outputs[0].name == "output0"
assert "made elsewhere" in session.placement
session.close()

data = program.read_bytes()
cut = bare.with_name("cut.pte")
for length in (0, 3, 11, 40, 200, len(data) // 2, len(data) - 4000, len(data) - 1):
    cut.write_bytes(data[:max(length, 0)])
    raises(failures.BadModel, lambda: backend.load(cut, one, [spec]), "cut.pte")
raises(failures.BadModel, lambda: backend.load(bare.with_name("none.pte"), one), "does not exist")
raises(failures.UnsupportedPrecision,
       lambda: backend.load(program, RuntimeRef("executorch", precision="fp8")), "int8")
raises(failures.UnsupportedTarget,
       lambda: backend.load(program, RuntimeRef("executorch", target="NPU")), "CPU")
raises(failures.BadOption,
       lambda: backend.load(program, RuntimeRef("executorch", options={"delegate": "x"})),
       "xnnpack, portable")
raises(failures.UnsupportedShape,
       lambda: backend.load(program, one, [TensorSpec("x", "float32", (2, 3, 6, 6))]),
       "[1, 3, 6, 6]")
for threads in (1, 2):
    session = backend.load(program, RuntimeRef("executorch", threads=threads), [spec])
    assert "%d threads" % threads in session.placement, session.placement
    session.close()
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model of batch 1."""
    require("pytorch")
    require("executorch")
    _, fixed = write_pt2(tmp_path_factory.mktemp("program"))
    return fixed


def test_a_session_keeps_the_protocol(program: Path, tmp_path: Path) -> None:
    bench = Bench("executorch", tmp_path)
    made = bench.convert(model_of(program, "pt2"), RuntimeRef("executorch"), program)
    assert made.failure is None
    command = [python_of("executorch"), "-c", SESSION, str(ROOT), made.artifact]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_probe_tells_what_it_can_run() -> None:
    facts = require("executorch")
    assert facts.version
    (target,) = facts.targets
    assert (target.name, target.precisions) == ("CPU", ("fp32", "int8"))
    assert facts.options["delegate"] == ("xnnpack", "portable")


def test_it_runs_without_a_delegate_where_the_option_says(program: Path, tmp_path: Path) -> None:
    bench = Bench("executorch", tmp_path)
    runtime = RuntimeRef("executorch", threads=1, options={"delegate": "portable"})
    model = model_of(program, "pt2")
    made = bench.convert(model, runtime, program)
    assert made.failure is None
    reference = reference_file(tmp_path / "reference.npz")
    found = bench.trial(model, runtime, Path(made.artifact), reference, form=made.format)
    assert found.failure is None
    assert found.fidelity is not None
    assert found.fidelity.max_abs < 1e-4
    assert found.placement == "CPU, 1 threads, ExecuTorch's own kernels"


def test_int8_needs_xnnpack_and_calibration(program: Path, tmp_path: Path) -> None:
    bench = Bench("executorch", tmp_path)
    cases: tuple[tuple[Options, str, str], ...] = (
        ({"delegate": "portable"}, "random", "bad_option"),
        ({"delegate": "tpu"}, "random", "bad_option"),
        ({}, "", "calibration_missing"),
    )
    for options, calibration, kind in cases:
        runtime = RuntimeRef("executorch", precision="int8", options=options)
        made = bench.convert(model_of(program, "pt2"), runtime, program, calibration=calibration)
        assert made.failure is not None
        assert (made.status, made.failure.kind) == ("failed", kind)
