"""Many converters and sessions in one process of the TensorFlow interpreter, which takes seconds to
start: ``work`` hands tasks over as JSON, this file, run as a script there, does them in order.

A task is ``{"convert": NAME, "source": PATH, …}`` or ``{"run": PATH, "feed": NPZ, …}``; a result is
what it made, or the failure's kind and message. A later task names an earlier one's artifact by
``"@KEY"``.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Tasks = dict[str, dict[str, Any]]
AGENT = Path(__file__).resolve().parents[2] / "agent"


def work(python: str, folder: Path, tasks: Tasks) -> Tasks:
    """Each task's result under its key."""
    done = subprocess.run(
        [python, "-I", __file__, str(folder)],
        input=json.dumps(tasks),
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: Tasks = json.loads((folder / "results.json").read_text("utf-8"))
    return found


def _find_agent() -> None:
    spec = importlib.util.spec_from_file_location(
        "agent", AGENT / "__init__.py", submodule_search_locations=[str(AGENT)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["agent"] = module
    spec.loader.exec_module(module)


def _convert(key: str, task: dict[str, Any], done: Tasks, folder: Path) -> dict[str, Any]:
    import numpy as np

    from agent.contract.child_jobs import ConvertJob
    from agent.contract.trial import ModelRef, RuntimeRef
    from agent.runtimes import registry
    from agent.runtimes.converter import Calibration, Configurable

    before = done.get(str(task["source"]).lstrip("@"), {})
    source = Path(before.get("artifact", task["source"]))
    inputs = _specs(task.get("inputs", before.get("inputs", [])))
    outputs = _specs(task.get("outputs", before.get("outputs", [])))
    runtime = RuntimeRef(
        "x", precision=task.get("precision", "fp32"), options=task.get("options", {})
    )
    converter = registry.find_converter(task["convert"])
    if isinstance(converter, Configurable):
        model = ModelRef("m", "", "", 1, inputs, outputs)
        converter.configure(ConvertJob(model, runtime, str(source), str(folder), ()))
    feeds = []
    if task.get("calibrate"):
        random = np.random.RandomState(7)
        feeds = [
            {
                s.name: (
                    random.randint(0, 8, s.shape)
                    if "int" in s.dtype
                    else random.standard_normal(s.shape)
                ).astype(s.dtype)
                for s in inputs
            }
            for _ in range(20)
        ]
    target = folder / key
    target.mkdir()
    made = converter.convert(source, target, Calibration(feeds, "calibrated on noise"))
    return {
        "artifact": str(made.artifact),
        "step": made.step,
        "files": sorted(p.name for p in target.iterdir()),
        "inputs": [vars(s) for s in made.inputs] if made.inputs else [vars(s) for s in inputs],
        "outputs": [vars(s) for s in made.outputs] if made.outputs else [vars(s) for s in outputs],
    }


def _run(key: str, task: dict[str, Any], done: Tasks, folder: Path) -> dict[str, Any]:
    """``feed``: an ``.npz``, bound in the order of the artifact's inputs. What was timed is looked
    at from outside: how often the function was traced, and Keras called."""
    import numpy as np

    from agent.contract.trial import RuntimeRef
    from agent.runtimes import registry

    before = done.get(str(task["run"]).lstrip("@"), {})
    artifact = Path(before.get("artifact", task["run"]))
    inputs = _specs(task.get("inputs", before.get("inputs", [])))
    runtime = RuntimeRef("tensorflow", threads=1, options=task.get("options", {}))
    session: Any = registry.find_backend("tensorflow").load(artifact, runtime, inputs)
    with np.load(task["feed"]) as file:
        arrays = [file[name] for name in file.files]
    names = [spec.name for spec in inputs or session.inputs]
    found: list[Any] = []
    with _counting() as calls:
        for scale in (1.0, 0.5, 1.0):
            scaled = [(a * scale).astype(a.dtype) if a.dtype.kind == "f" else a for a in arrays]
            session.bind(dict(zip(names, scaled, strict=True)))
            scaled[0][...] = 0  # what is bound is a copy
            session.infer()
            session.infer()
            found.append(session.read())
    result = {
        "inputs": [vars(s) for s in session.inputs],
        "outputs": [vars(s) for s in session.outputs],
        "placement": session.placement,
        "keras_calls": calls[0],
        "repeats": all(np.array_equal(found[0][n], found[2][n]) for n in found[0]),
        "follows": any(not np.array_equal(found[0][n], found[1][n]) for n in found[0]),
        "result": str(folder / f"{key}.npz"),
    }
    if hasattr(session, "function"):
        result["callable"] = type(session.function).__name__
        result["traces"] = session._keep[0].experimental_get_tracing_count()
    order = [o["name"] for o in before.get("outputs", [])] or [s.name for s in session.outputs]
    np.savez(folder / f"{key}.npz", *[found[0][name] for name in order])
    session.close()
    try:
        session.infer()
        result["closed"] = False
    except RuntimeError:
        result["closed"] = True
    return result


@contextmanager
def _counting() -> Iterator[list[int]]:
    """A count of the calls of any Keras model within the block."""
    import keras

    count = [0]
    originals = {name: getattr(keras.Model, name) for name in ("__call__", "predict")}

    def counted(original: Any) -> Any:
        def call(*args: Any, **more: Any) -> Any:
            count[0] += 1
            return original(*args, **more)

        return call

    for name, original in originals.items():
        setattr(keras.Model, name, counted(original))
    try:
        yield count
    finally:
        for name, original in originals.items():
            setattr(keras.Model, name, original)


def _specs(rows: Any) -> tuple[Any, ...]:
    from agent.contract.trial import TensorSpec

    return tuple(TensorSpec(**{**row, "shape": tuple(row["shape"])}) for row in rows)


def main() -> None:
    _find_agent()
    from agent.contract.failures import RunnerError
    from agent.runtimes import registry
    from agent.runtimes.tensorflow import sessions

    registry.find_backend("tensorflow").import_runtime()
    sessions.configure_process("CPU", 1, True)  # once, before anything runs
    folder = Path(sys.argv[1])
    done: Tasks = {}
    for key, task in json.loads(sys.stdin.read()).items():
        try:
            done[key] = (_convert if "convert" in task else _run)(key, task, done, folder)
        except RunnerError as error:
            done[key] = {"kind": error.kind, "status": error.status, "message": str(error)}
    (folder / "results.json").write_text(json.dumps(done), "utf-8")


if __name__ == "__main__":
    main()
