"""Graphs of registered models: work per inference, and drawings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.domain import flops
from orchestrator.domain.errors import Busy, UserError
from orchestrator.report.network.svg import is_drawing
from orchestrator.service.context import FarmContext
from orchestrator.service.models import inspection, registration
from orchestrator.service.models.inspection import GRAPHS
from orchestrator.service.models.source_file import tensors
from orchestrator.service.views import ModelView


class _Chosen(NamedTuple):
    path: Path
    format: str
    inputs: list[dict[str, Any]]


def svg(farm: FarmContext, name: str, form: str = "") -> str:
    """The model's graph as SVG, from its artifact in ``form`` or the preferred one.

    Raises ``UserError``.
    """
    chosen = _chosen(farm, registration.model(farm, name), form)
    shapes = {i["name"]: i["shape"] for i in chosen.inputs}
    drawn = inspection.draw(farm.inspect, chosen.path, name, chosen.format, shapes)
    if not is_drawing(drawn):
        raise UserError(f"{name}: what was drawn of it is no drawing of ours")
    return drawn


def with_work(farm: FarmContext, model: ModelView) -> ModelView:
    """``model`` with the work of one inference, counted now if it was not at registration."""
    if "work" in model.details:
        return model
    return model.model_copy(update={"details": {**model.details, "work": _work(farm, model)}})


def _work(farm: FarmContext, model: ModelView) -> dict[str, Any]:
    try:
        path, form, inputs = _chosen(farm, model, "")
        return inspection.count_work(farm.inspect, path, model.name, form, tensors(inputs))
    except (UserError, Busy) as error:
        return flops.nothing(str(error)).plain()


def _chosen(farm: FarmContext, model: ModelView, form: str) -> _Chosen:
    there = {artifact.format: artifact for artifact in model.artifacts}
    if form and form not in there:
        raise UserError(f"model {model.name!r} has no {form}; it has {', '.join(there)}")
    chosen = form or next((f for f in GRAPHS if f in there), "")
    if chosen not in GRAPHS:
        raise UserError(
            f"no graph is read from {chosen or ', '.join(there)}, only from {', '.join(GRAPHS)}; "
            f"add {model.name!r} in one of these too (`benchfarm model add`)"
        )
    # the artifact's own inputs: their names and axes may differ from the model's
    return _Chosen(farm.blobs.path(there[chosen].sha256), chosen, there[chosen].inputs)
