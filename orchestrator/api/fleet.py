"""The people's side: the devices, looked after."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field

from orchestrator.api.bodies import MAX_ID, Body
from orchestrator.api.context import InFarm, Operator, Viewer
from orchestrator.service import fleet, health, register, retiring
from orchestrator.service.views import DeviceView, HealthCheckView, JoinView, RetiredView

router = APIRouter(tags=["people"])


class JoinBody(Body):
    device_class: str = ""
    tags: dict[str, str] = Field(default_factory=dict)
    again: bool = False


class ClassBody(Body):
    device_class: str


class TagBody(Body):
    """An empty value removes a tag."""

    tags: dict[str, str]


class MaintenanceBody(Body):
    on: bool


@router.get("/devices")
def list_devices(farm: InFarm, _: Viewer) -> list[DeviceView]:
    return fleet.devices(farm)


@router.get("/devices/{name}")
def show_device(name: str, farm: InFarm, _: Viewer) -> DeviceView:
    return fleet.device(farm, name)


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
    return fleet.enable(farm, name, True)


@router.post("/devices/{name}/drain")
def drain_device(name: str, farm: InFarm, _: Operator) -> DeviceView:
    return fleet.enable(farm, name, False)


@router.post("/devices/{name}/class")
def classify_device(name: str, body: ClassBody, farm: InFarm, _: Operator) -> DeviceView:
    return fleet.set_class(farm, name, body.device_class)


@router.post("/devices/{name}/tags")
def tag_device(name: str, body: TagBody, farm: InFarm, _: Operator) -> DeviceView:
    return fleet.tag(farm, name, body.tags)


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
