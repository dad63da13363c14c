"""Routes for people: models and drawings of their networks."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import Field

from orchestrator.api.dependencies import InFarm, Operator, Viewer
from orchestrator.api.request_models import Body
from orchestrator.service.models import network_graphs, registration, removal, tasks
from orchestrator.service.views import ModelView, RemovedModelView

router = APIRouter(tags=["people"])


class ModelBody(Body):
    name: str
    file_name: str
    sha256: str
    format: str = ""
    shapes: dict[str, list[int]] = Field(default_factory=dict)
    dataset_name: str = ""
    dataset_sha256: str = ""
    inputs: list[str] = Field(default_factory=list)
    feeds_name: str = ""
    feeds_sha256: str = ""
    task: str = ""
    score_output: str = ""
    threshold: float | None = None


@router.get("/models")
def list_models(farm: InFarm, _: Viewer) -> list[ModelView]:
    return registration.models(farm)


@router.get("/models/{name}")
def show_model(name: str, farm: InFarm, _: Viewer) -> ModelView:
    return network_graphs.with_work(farm, registration.model(farm, name))


@router.get("/models/{name}/network")
def draw_model(
    name: str, farm: InFarm, _: Viewer, form: Annotated[str, Query(alias="format")] = ""
) -> Response:
    """The network as SVG, from the artifact in ``format``, else from the preferred one."""
    return Response(network_graphs.svg(farm, name, form), media_type="image/svg+xml")


@router.post("/models")
def add_model(body: ModelBody, farm: InFarm, _: Operator) -> ModelView:
    given = body.model_dump()
    words = (given.pop("task"), given.pop("score_output"), given.pop("threshold"))
    scoring = tasks.declared(*words)
    return registration.add(farm, registration.NewModel(**given, scoring=scoring))


@router.delete("/models/{name}")
def remove_model(
    name: str, farm: InFarm, _: Operator, form: Annotated[str, Query(alias="format")] = ""
) -> RemovedModelView:
    """Forget a model that no sweep uses, or only its file in ``format``."""
    return removal.remove(farm, name, form)
