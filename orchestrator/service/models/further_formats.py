"""Further files of a model: each must compute the same network as the model's reference."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import Any

from agent.contract import codec
from agent.contract.child_jobs import Referenced, ReferenceJob
from agent.contract.trial import ModelRef, TensorSpec, Tolerance
from agent.runtimes.formats import FORMATS
from orchestrator.domain.errors import UserError
from orchestrator.service.context import FarmContext
from orchestrator.service.models import inspection
from orchestrator.service.models.source_file import SourceFile, said, tensors
from orchestrator.store.tables import Model

REFERENCE = "gave the reference"
UNCHECKED = "not checked"
"""How the text of a file begins that nothing here could run."""

MIN_COSINE = {"fp32": 0.999, "fp16": 0.99, "int8": 0.95}
"""By the file's precision: when it is still the same network as another framework's file. Looser
at FP32 than a sweep is by default, which holds one framework's kernels against another's."""

_CANNOT_RUN = ("runtime_missing", "unsupported_operator")


@dataclass(frozen=True)
class CheckedAgainstModel:
    """A file's own tensors in the model's order, and what was found, in words."""

    checked: str
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()

    @property
    def plain_inputs(self) -> list[Any] | None:
        return [codec.to_plain(i) for i in self.inputs] or None

    @property
    def plain_outputs(self) -> list[Any] | None:
        return [codec.to_plain(o) for o in self.outputs] or None


def join(farm: FarmContext, present: Model, file: SourceFile) -> CheckedAgainstModel:
    """Hold a file's outputs against the model's reference, in a bounded child. Where no runtime
    here can run it, nothing is known of it but its format, and that is said.

    Raises:
        UserError: it is damaged, or not the same network; names the first output that is off.
    """
    if not FORMATS[file.format].backend:
        return CheckedAgainstModel(f"{UNCHECKED}: nothing but its accelerator runs it")
    with tempfile.TemporaryDirectory(prefix="reference-", dir=farm.settings.home) as folder:
        found = farm.reference(_job(farm, present, file, folder))
    failure = found.failure
    if failure is None:
        return CheckedAgainstModel(_words(found), found.inputs, found.outputs)
    if failure.kind in _CANNOT_RUN:
        return CheckedAgainstModel(f"{UNCHECKED}: {failure.message}")
    if failure.kind in ("other_network", "bad_output"):
        raise UserError(
            f"{file.name}: it is not the same network as model {present.name!r}: "
            f"{failure.message}; register it under another name with --name"
        )
    raise UserError(f"{file.name}: {said(failure)}")


def _job(farm: FarmContext, present: Model, file: SourceFile, folder: str) -> ReferenceJob:
    inputs, outputs = tensors(present.inputs), tensors(present.outputs)
    size = file.path.stat().st_size
    layouts = inspection.layouts(farm.inspect, file.path, file.name, file.format)
    # A model that is registered from a quantised file has outputs that are only as good.
    of_model = MIN_COSINE[present.details.get("precision", "fp32")]
    return ReferenceJob(
        ModelRef(present.name, file.format, file.sha256, size, inputs, outputs),
        str(file.path),
        folder,
        layouts=layouts,
        expected=str(farm.blobs.path(present.reference["sha256"])),
        tolerances={
            precision: Tolerance(min(cosine, of_model), 1.0)
            for precision, cosine in MIN_COSINE.items()
        },
    )


def _words(found: Referenced) -> str:
    cosine = found.fidelity.cosine if found.fidelity else 0.0
    return f"checked: as the reference's, cosine {cosine:.6f} ({found.origin})"
