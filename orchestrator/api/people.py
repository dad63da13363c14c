"""The people's side: devices, models, sweeps, reports."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from orchestrator.api.context import InFarm, Operator, Viewer
from orchestrator.report import export, html, tables
from orchestrator.report.build import build_report
from orchestrator.service import (
    events,
    health,
    models,
    networks,
    progress,
    register,
    reports,
    retention,
    retiring,
    sweeps,
)
from orchestrator.service.farm import Farm
from orchestrator.service.views import (
    ControllerView,
    DeletedView,
    DeviceView,
    EventView,
    HealthCheckView,
    JoinView,
    ModelView,
    PlanView,
    RetiredView,
    SweepView,
)
from orchestrator.settings import reaches_one_machine

MAX_ID = 2**31 - 1

router = APIRouter(tags=["people"])


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class JoinBody(Body):
    device_class: str = ""
    tags: dict[str, str] = {}
    again: bool = False


class ClassBody(Body):
    device_class: str


class TagBody(Body):
    """An empty value removes a tag."""

    tags: dict[str, str]


class MaintenanceBody(Body):
    on: bool


class ModelBody(Body):
    name: str
    file_name: str
    sha256: str
    format: str = ""
    shapes: dict[str, list[int]] = {}
    dataset_name: str = ""
    dataset_sha256: str = ""


class SweepBody(Body):
    """``text`` is the YAML as written; ``source`` the file's name, for messages. ``yes_really``:
    also where it has more cells than usual."""

    text: Annotated[str, Field(max_length=1 << 20)]
    source: str = "spec"
    name: str = ""
    yes_really: bool = False


@router.get("/controller")
def show_controller(request: Request, farm: InFarm, _: Viewer) -> ControllerView:
    local = reaches_one_machine(request.app.state.broker_url)
    return ControllerView(url=farm.settings.public_url, local_broker=local)


@router.get("/devices")
def list_devices(farm: InFarm, _: Viewer) -> list[DeviceView]:
    return register.devices(farm)


@router.get("/devices/{name}")
def show_device(name: str, farm: InFarm, _: Viewer) -> DeviceView:
    return register.device(farm, name)


@router.post("/devices/{name}/join-token")
def join_token(name: str, body: JoinBody, farm: InFarm, _: Operator) -> JoinView:
    return register.join_token(
        farm, name, device_class=body.device_class, tags=body.tags, again=body.again
    )


@router.delete("/devices/{name}")
def retire_device(name: str, farm: InFarm, _: Operator) -> RetiredView:
    return retiring.retire(farm, name)


@router.post("/devices/{name}/rotate")
def rotate_device(name: str, farm: InFarm, _: Operator) -> JoinView:
    return register.rotate(farm, name)


@router.post("/devices/{name}/enable")
def enable_device(name: str, farm: InFarm, _: Operator) -> DeviceView:
    return register.enable(farm, name, True)


@router.post("/devices/{name}/drain")
def drain_device(name: str, farm: InFarm, _: Operator) -> DeviceView:
    return register.enable(farm, name, False)


@router.post("/devices/{name}/class")
def classify_device(name: str, body: ClassBody, farm: InFarm, _: Operator) -> DeviceView:
    return register.set_class(farm, name, body.device_class)


@router.post("/devices/{name}/tags")
def tag_device(name: str, body: TagBody, farm: InFarm, _: Operator) -> DeviceView:
    return register.tag(farm, name, body.tags)


@router.post("/devices/{name}/maintenance")
def maintain_device(name: str, body: MaintenanceBody, farm: InFarm, _: Operator) -> DeviceView:
    return health.maintain(farm, name, body.on)


@router.post("/devices/{name}/checks", status_code=201)
def check_device(name: str, farm: InFarm, _: Operator) -> HealthCheckView:
    """Ask for a health check now; the answer is the check, which has yet to run."""
    return health.ask(farm, name)


@router.get("/devices/{name}/checks")
def list_checks(
    name: str, farm: InFarm, _: Viewer, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> list[HealthCheckView]:
    """A device's health checks, the latest first."""
    return health.latest(farm, name, limit)


@router.get("/devices/{name}/checks/{number}")
def show_check(
    name: str, number: Annotated[int, Path(ge=1, le=MAX_ID)], farm: InFarm, _: Viewer
) -> HealthCheckView:
    return health.one(farm, name, number)


@router.get("/models")
def list_models(farm: InFarm, _: Viewer) -> list[ModelView]:
    return models.models(farm)


@router.get("/models/{name}")
def show_model(name: str, farm: InFarm, _: Viewer) -> ModelView:
    return networks.with_work(farm, models.model(farm, name))


@router.get("/models/{name}/network")
def draw_model(
    name: str, farm: InFarm, _: Viewer, form: Annotated[str, Query(alias="format")] = ""
) -> Response:
    """The network as SVG, drawn from the artifact in ``format``, else from the best that can be."""
    return Response(networks.svg(farm, name, form), media_type="image/svg+xml")


@router.post("/models")
def add_model(body: ModelBody, farm: InFarm, _: Operator) -> ModelView:
    return models.add(farm, models.NewModel(**body.model_dump()))


@router.post("/sweeps/plan")
def plan_sweep(body: SweepBody, farm: InFarm, _: Viewer) -> PlanView:
    return sweeps.plan(farm, body.text, body.source, body.name)


@router.post("/sweeps", status_code=201)
def submit_sweep(body: SweepBody, farm: InFarm, _: Operator) -> SweepView:
    return sweeps.submit(farm, body.text, body.source, body.name, yes_really=body.yes_really)


@router.get("/sweeps")
def list_sweeps(farm: InFarm, _: Viewer) -> list[SweepView]:
    return progress.sweeps(farm)


@router.get("/sweeps/{name}")
def show_sweep(name: str, farm: InFarm, _: Viewer) -> SweepView:
    return progress.sweep(farm, name)


@router.post("/sweeps/{name}/cancel")
def cancel_sweep(name: str, farm: InFarm, _: Operator) -> SweepView:
    return sweeps.cancel(farm, name)


@router.post("/sweeps/{name}/resume")
def resume_sweep(name: str, farm: InFarm, _: Operator) -> SweepView:
    return sweeps.resume(farm, name)


@router.delete("/sweeps/{name}")
def delete_sweep(name: str, farm: InFarm, _: Operator) -> DeletedView:
    return retention.delete_sweep(farm, name)


@router.get("/sweeps/{name}/report")
def report(
    name: str,
    farm: InFarm,
    _: Viewer,
    form: Annotated[Literal["json", "html", "markdown", "csv"], Query(alias="format")] = "json",
) -> Response:
    """The report, computed from the raw samples as it is asked for."""
    if form == "html":
        return Response(_page(farm, name), media_type="text/html; charset=utf-8")
    made = reports.frozen(farm, name) or build_report(reports.collect(farm, name))
    match form:
        case "json":
            return Response(made.model_dump_json(), media_type="application/json")
        case "markdown":
            return Response(tables.markdown(made), media_type="text/markdown; charset=utf-8")
        case "csv":
            return Response(export.to_csv(made), media_type="text/csv; charset=utf-8")


def _page(farm: Farm, name: str) -> str:
    kept = reports.frozen(farm, name)
    return html.render_html(kept, {}) if kept else html.html_report(reports.collect(farm, name))


@router.get("/events")
def list_events(
    farm: InFarm,
    _: Viewer,
    after: Annotated[int, Query(ge=0, le=MAX_ID)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    subject: str = "",
    kind: str = "",
    since: AwareDatetime | None = None,
    latest: bool = False,
) -> list[EventView]:
    """The event log after an event's number, oldest first; ``latest``: its last ``limit``."""
    return events.find(farm, events.Wanted(after, limit, subject, kind, since, latest))
