"""Reading the device classes that ship in the ``inventory`` package."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import yaml

from orchestrator.domain.device_class import DeviceClass


@cache
def device_classes() -> tuple[DeviceClass, ...]:
    folder = files("inventory") / "classes"
    documents = (p for p in folder.iterdir() if p.name.endswith(".yaml"))
    loaded = (DeviceClass(**yaml.safe_load(p.read_text(encoding="utf-8"))) for p in documents)
    return tuple(sorted(loaded, key=lambda c: c.name))
