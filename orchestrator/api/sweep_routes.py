"""Routes for people: sweeps, reports and the event log."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as ApiPath
from fastapi.responses import PlainTextResponse
from pydantic import AwareDatetime, Field

from orchestrator.api.dependencies import InFarm, Operator, Viewer
from orchestrator.api.request_models import MAX_ID, Body
from orchestrator.report import sample_table
from orchestrator.report.build import build_report
from orchestrator.report.render import export, html, tables
from orchestrator.service import events
from orchestrator.service.context import FarmContext
from orchestrator.service.sweeps import partial_cancel, progress, report_data, retention, sweeps
from orchestrator.service.sweeps.cell_samples import cell_samples as samples_of_cell
from orchestrator.service.views import (
    ControllerView,
    DeletedView,
    EventView,
    PlanView,
    SweepView,
)
from orchestrator.settings import reaches_one_machine

router = APIRouter(tags=["people"])


class SweepBody(Body):
    """``text``: the YAML; ``source``: its file name, for messages. ``yes_really``: confirms more
    cells than ``BENCHFARM_CONFIRM_CELLS``. ``strict``: only on every board, and now."""

    text: Annotated[str, Field(max_length=1 << 20)]
    source: str = "spec"
    name: str = ""
    yes_really: bool = False
    strict: bool = False


class CancelBody(Body):
    """``cell``: number or label; ``trial``: one trial of that cell, from 1. Empty: all."""

    cell: str = ""
    device: str = ""
    trial: Annotated[int, Field(ge=0, le=1000)] = 0


@router.get("/controller")
def show_controller(request: Request, farm: InFarm, _: Viewer) -> ControllerView:
    local = reaches_one_machine(request.app.state.broker_url)
    return ControllerView(url=farm.settings.public_url, local_broker=local)


@router.get("/controller/authority", response_class=PlainTextResponse)
def show_authority(farm: InFarm, _: Viewer) -> str:
    """The certificate authority (PEM) that the controller trusts for its broker, and boards must
    too; empty: none besides the system's."""
    return farm.settings.authority()


@router.post("/sweeps/plan")
def plan_sweep(body: SweepBody, farm: InFarm, _: Viewer) -> PlanView:
    return sweeps.plan(farm, body.text, body.source, body.name)


@router.post("/sweeps", status_code=201)
def submit_sweep(body: SweepBody, farm: InFarm, _: Operator) -> SweepView:
    return sweeps.submit(
        farm, body.text, body.source, body.name, yes_really=body.yes_really, strict=body.strict
    )


@router.get("/sweeps")
def list_sweeps(farm: InFarm, _: Viewer) -> list[SweepView]:
    return progress.sweeps(farm)


@router.get("/sweeps/{name}")
def show_sweep(name: str, farm: InFarm, _: Viewer) -> SweepView:
    return progress.sweep(farm, name)


@router.post("/sweeps/{name}/cancel")
def cancel_sweep(name: str, farm: InFarm, _: Operator, body: CancelBody | None = None) -> SweepView:
    if body is None or body == CancelBody():
        return sweeps.cancel(farm, name)
    return partial_cancel.cancel_part(farm, name, body.cell, body.device, body.trial)


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
    """The report, computed now from the raw samples."""
    if form == "html":
        return Response(_page(farm, name), media_type="text/html; charset=utf-8")
    made = report_data.frozen_report(farm, name) or build_report(
        report_data.collect_sweep(farm, name)
    )
    match form:
        case "json":
            return Response(made.model_dump_json(), media_type="application/json")
        case "markdown":
            return Response(tables.markdown(made), media_type="text/markdown; charset=utf-8")
        case "csv":
            return Response(export.to_csv(made), media_type="text/csv; charset=utf-8")


def _page(farm: FarmContext, name: str) -> str:
    kept = report_data.frozen_report(farm, name)
    return (
        html.render_html(kept, {})
        if kept
        else html.html_report(report_data.collect_sweep(farm, name))
    )


@router.get("/cells/{cell}/samples")
def cell_samples(
    cell: Annotated[int, ApiPath(ge=1, le=MAX_ID)],
    farm: InFarm,
    _: Viewer,
    form: Annotated[Literal["npy", "csv", "json"], Query(alias="format")] = "json",
) -> Response:
    """Every raw sample of a cell, in nanoseconds. ``npy``: a structured array."""
    table = samples_of_cell(farm, cell)
    match form:
        case "npy":
            return Response(sample_table.to_npy(table), media_type="application/octet-stream")
        case "csv":
            return Response(sample_table.to_csv(table), media_type="text/csv; charset=utf-8")
        case "json":
            return Response(sample_table.to_json(table), media_type="application/json")


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
    """Events with a greater id than ``after``, oldest first; ``latest``: the last ``limit``."""
    return events.find(farm, events.EventFilter(after, limit, subject, kind, since, latest))
