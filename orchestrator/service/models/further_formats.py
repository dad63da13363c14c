"""Further files of a model: each must compute the same outputs as the model's reference."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from typing import Any

from agent.contract import codec, comparison
from agent.contract.child_jobs import Referenced, ReferenceJob
from agent.contract.trial import ModelRef, TensorSpec, Tolerance
from agent.runtimes.formats import FORMATS
from orchestrator.domain.errors import UserError
from orchestrator.service.context import FarmContext
from orchestrator.service.models import inspection
from orchestrator.service.models.source_file import SourceFile, failure_message, tensors
from orchestrator.store.tables import Model

REFERENCE = "gave the reference"
UNCHECKED = "not checked"
"""Prefix of the text for a file that no runtime here could run."""

MIN_COSINE = {"fp32": 0.999, "fp16": 0.99, "bf16": 0.95, "int8": 0.95, "fp8": 0.95, "int4": 0.9}
"""Precision of the file → cosine similarity from which it is the same network. Looser at FP32 than
a sweep's default, because files of other frameworks differ more than kernels."""

MIN_SHARE = {"fp32": 0.95, "fp16": 0.9, "bf16": 0.75}
"""The same for class numbers that are equal, and for the overlap of regions."""
LEAST_SHARE = 0.5
"""The same for every other precision."""

_CANNOT_RUN = ("runtime_missing", "unsupported_operator")


@dataclass(frozen=True)
class CheckedAgainstModel:
    """A file's own tensors in the model's order, and the result of the check in words."""

    checked: str
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()

    @property
    def plain_inputs(self) -> list[Any] | None:
        return [codec.to_plain(i) for i in self.inputs] or None

    @property
    def plain_outputs(self) -> list[Any] | None:
        return [codec.to_plain(o) for o in self.outputs] or None


def check_against_model(
    farm: FarmContext, existing: Model, file: SourceFile
) -> CheckedAgainstModel:
    """Compare a file's outputs with the model's reference, in a child with limits.

    Where no runtime here can run the file, it is kept as not checked.

    Raises:
        UserError: it is damaged, or not the same network; names the first output that differs.
    """
    if not FORMATS[file.format].backend:
        return CheckedAgainstModel(f"{UNCHECKED}: nothing but its accelerator runs it")
    with tempfile.TemporaryDirectory(prefix="reference-", dir=farm.settings.home) as folder:
        found = farm.compute_reference(_job(farm, existing, file, folder))
    failure = found.failure
    if failure is None:
        return CheckedAgainstModel(_described(found), found.inputs, found.outputs)
    if failure.kind in _CANNOT_RUN:
        return CheckedAgainstModel(f"{UNCHECKED}: {failure.message}")
    if failure.kind in ("other_network", "bad_output"):
        raise UserError(
            f"{file.name}: it is not the same network as model {existing.name!r}: "
            f"{failure.message}; register it under another name with --name"
        )
    raise UserError(f"{file.name}: {failure_message(failure)}")


def _job(farm: FarmContext, existing: Model, file: SourceFile, folder: str) -> ReferenceJob:
    inputs, outputs = tensors(existing.inputs), tensors(existing.outputs)
    size = file.path.stat().st_size
    layouts = inspection.layouts(farm.inspect, file.path, file.name, file.format)
    # a model that was registered from a quantised file has less precise reference outputs
    of_model = MIN_COSINE[existing.details.get("precision", "fp32")]
    return ReferenceJob(
        ModelRef(
            *(existing.name, file.format, file.sha256, size, inputs, outputs),
            precision=file.precision,
        ),
        str(file.path),
        folder,
        layouts=layouts,
        expected=str(farm.blobs.path(existing.reference["sha256"])),
        tolerances={
            precision: _tolerance(precision, min(cosine, of_model))
            for precision, cosine in MIN_COSINE.items()
        },
    )


def _tolerance(precision: str, cosine: float) -> Tolerance:
    """A poor quantisation of the network is still that network: whether it is good enough is asked
    by each sweep."""
    share = MIN_SHARE.get(precision, LEAST_SHARE)
    return Tolerance(
        cosine,
        1.0,
        max_relative_error=2.0 * math.sqrt(2.0 * (1.0 - cosine)),
        min_psnr_db=0.0,
        min_equal=share,
        min_overlap=share,
    )


def _described(found: Referenced) -> str:
    if found.fidelity is None:
        return f"{UNCHECKED}: no output of this model is a function of its inputs ({found.origin})"
    close = comparison.closeness(found.fidelity.checks, found.fidelity.cosine)
    return f"checked: as the reference's, {close} ({found.origin})"
