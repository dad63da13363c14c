"""The graphs of registered models: read from their files, counted, drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.domain import flops
from orchestrator.domain.errors import UserError
from orchestrator.domain.network import NetworkGraph
from orchestrator.report import network_svg
from orchestrator.service import models, onnx_network, tflite_network
from orchestrator.service.farm import Farm
from orchestrator.service.views import ModelView

DRAWN = ("onnx", "tflite", "edgetpu_tflite")
"""Formats whose graph is read, the preferred first."""


def read(path: Path, form: str, shapes: Mapping[str, tuple[int, ...]]) -> NetworkGraph:
    """The graph of a file in one of ``DRAWN``, at its registered input shapes."""
    if form == "onnx":
        return onnx_network.read(path, shapes)
    return tflite_network.read(path, form, shapes)


def svg(farm: Farm, name: str, form: str = "") -> str:
    """A model drawn, from its artifact in ``form`` or the preferred one. Raises ``UserError``."""
    model = models.model(farm, name)
    graph = _graph(farm, model, form)
    return network_svg.draw(name, graph, flops.count(graph))


def with_work(farm: Farm, model: ModelView) -> ModelView:
    """``model`` with what one inference costs, counted now where registering it did not."""
    if "work" in model.details:
        return model
    return model.model_copy(update={"details": {**model.details, "work": _work(farm, model)}})


def _work(farm: Farm, model: ModelView) -> dict[str, Any]:
    try:
        return flops.count(_graph(farm, model, "")).plain()
    except UserError as error:
        return flops.nothing(str(error)).plain()


def _graph(farm: Farm, model: ModelView, form: str) -> NetworkGraph:
    there = {artifact.format: artifact for artifact in model.artifacts}
    if form and form not in there:
        raise UserError(f"model {model.name!r} has no {form}; it has {', '.join(there)}")
    chosen = form or next((f for f in DRAWN if f in there), "")
    if chosen not in DRAWN:
        raise UserError(
            f"no graph is read from {chosen or ', '.join(there)}, only from {', '.join(DRAWN)}; "
            f"add {model.name!r} in one of these too (`benchfarm model add`)"
        )
    # the file's own: it may have other names and axes than the model it joined
    shapes = {i["name"]: tuple(i["shape"]) for i in there[chosen].inputs}
    return read(farm.blobs.path(there[chosen].sha256), chosen, shapes)
