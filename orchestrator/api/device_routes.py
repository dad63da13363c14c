"""Routes for people: devices and their health checks."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field

from orchestrator.api.dependencies import InFarm, Operator, Viewer
from orchestrator.api.request_models import MAX_ID, Body
from orchestrator.service.devices import devices, registration, renaming, retirement
from orchestrator.service.health import health_checks
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


class DrainBody(Body):
    """``note``: why, for those who wonder."""

    note: str = ""


class RenameBody(Body):
    name: str


class MaintenanceBody(Body):
    on: bool


@router.get("/devices")
def list_devices(farm: InFarm, _: Viewer) -> list[DeviceView]:
    return devices.devices(farm)


@router.get("/devices/{name}")
def show_device(name: str, farm: InFarm, _: Viewer) -> DeviceView:
    return devices.device(farm, name)


@router.post("/devices/{name}/join-token")
def join_token(name: str, body: JoinBody, farm: InFarm, _: Operator) -> JoinView:
    return registration.join_token(
        farm, name, device_class=body.device_class, tags=body.tags, again=body.again
    )


@router.delete("/devices/{name}")
def retire_device(name: str, farm: InFarm, _: Operator) -> RetiredView:
    return retirement.retire(farm, name)


@router.post("/devices/{name}/rotate")
def rotate_device(name: str, farm: InFarm, _: Operator) -> JoinView:
    return registration.rotate(farm, name)


@router.post("/devices/{name}/rename")
def rename_device(name: str, body: RenameBody, farm: InFarm, _: Operator) -> JoinView:
    """The answer lets the board join under its new name."""
    return renaming.rename(farm, name, body.name)


@router.post("/devices/{name}/enable")
def enable_device(name: str, farm: InFarm, _: Operator) -> DeviceView:
    return devices.set_enabled(farm, name, True)


@router.post("/devices/{name}/drain")
def drain_device(name: str, farm: InFarm, _: Operator, body: DrainBody | None = None) -> DeviceView:
    return devices.set_enabled(farm, name, False, body.note if body else "")


@router.post("/devices/{name}/class")
def classify_device(name: str, body: ClassBody, farm: InFarm, _: Operator) -> DeviceView:
    return devices.set_class(farm, name, body.device_class)


@router.post("/devices/{name}/tags")
def tag_device(name: str, body: TagBody, farm: InFarm, _: Operator) -> DeviceView:
    return devices.tag(farm, name, body.tags)


@router.post("/devices/{name}/maintenance")
def maintain_device(name: str, body: MaintenanceBody, farm: InFarm, _: Operator) -> DeviceView:
    return health_checks.set_maintenance(farm, name, body.on)


@router.post("/devices/{name}/checks", status_code=201)
def check_device(name: str, farm: InFarm, _: Operator) -> HealthCheckView:
    """Request a health check now; returns the check, which has yet to run."""
    return health_checks.request_check(farm, name)


@router.get("/devices/{name}/checks")
def list_checks(
    name: str, farm: InFarm, _: Viewer, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> list[HealthCheckView]:
    """A device's health checks, the latest first."""
    return health_checks.latest_checks(farm, name, limit)


@router.get("/devices/{name}/checks/{number}")
def show_check(
    name: str, number: Annotated[int, Path(ge=1, le=MAX_ID)], farm: InFarm, _: Viewer
) -> HealthCheckView:
    return health_checks.find_check(farm, name, number)
