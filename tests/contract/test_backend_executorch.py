"""What is ExecuTorch's own, in one process under its interpreter: the conversion and trials of its
programs are in ``test_converters_torch``."""

from __future__ import annotations

import subprocess
from pathlib import Path

from agent.contract.trial import RuntimeRef
from support.runner_child import ROOT, SPEC, Bench, model_of, python_of, require, write_pt2

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


def test_a_session_keeps_the_protocol(tmp_path: Path) -> None:
    require("pytorch")
    require("executorch")
    (tmp_path / "job").mkdir()
    _, fixed = write_pt2(tmp_path)
    bench = Bench("executorch", tmp_path / "job")
    made = bench.convert(model_of(fixed, "pt2", (SPEC,)), RuntimeRef("executorch"), fixed)
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
