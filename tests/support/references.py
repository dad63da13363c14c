"""The reference outputs of a model, really computed, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from agent.contract import Failure, TensorSpec
from agent.jobs import Referenced, ReferenceJob


def reference(job: ReferenceJob) -> Referenced:
    """As the runner's verb ``reference``, without its limits; feeds are seeded normal values."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    try:
        session = onnxruntime.InferenceSession(job.source, providers=["CPUExecutionProvider"])
        arrays, outputs = _run(session, job)
    except Exception as error:  # noqa: BLE001  the runtime raises kinds of its own
        return Referenced(failure=Failure("load", "reference", str(error)))
    path = Path(job.folder) / "reference.npz"
    np.savez(path, allow_pickle=False, **arrays)
    return Referenced(str(path), outputs, f"onnxruntime {onnxruntime.__version__}")


def _run(session: Any, job: ReferenceJob) -> tuple[dict[str, Any], tuple[TensorSpec, ...]]:
    rng = np.random.default_rng(job.seed)
    feeds = {
        spec.name: rng.standard_normal((job.feeds, *spec.shape)).astype(spec.dtype)
        for spec in job.model.inputs
    }
    names = [output.name for output in session.get_outputs()]
    rows = [
        session.run(names, {name: feed[i] for name, feed in feeds.items()})
        for i in range(job.feeds)
    ]
    stacked = {name: np.stack([row[i] for row in rows]) for i, name in enumerate(names)}
    outputs = tuple(
        TensorSpec(name, str(values.dtype), tuple(values.shape[1:]))
        for name, values in stacked.items()
    )
    arrays = {f"input:{name}": values for name, values in feeds.items()}
    arrays |= {f"output:{name}": values for name, values in stacked.items()}
    return arrays, outputs
