"""Facts about a device, which ``agent.facts`` collects and the agent sends.

Frozen dataclasses, standard library only, Python 3.8 syntax, units in names, like
``agent.contract.trial``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Optional, Tuple

from agent.contract.conversion_graph import Node, Tool


@dataclass(frozen=True)
class TargetFacts:
    """A target of a runtime on this device (``CPU``, ``GPU.0``).

    Attributes:
        precisions: those that this device can run, with the converters that it has.
        runs: those that the runtime supports there; empty: the same.
    """

    name: str
    precisions: Tuple[str, ...]
    description: str = ""
    runs: Tuple[str, ...] = ()


@dataclass(frozen=True)
class RuntimeFacts:
    """A runtime on this device, or why it cannot be used (``missing``).

    Attributes:
        accepts: source formats that it can run, directly or through converters of this device.
        options: name → accepted values, as text; empty: any.
        wants: precision → artifacts that it loads for it, best first.
    """

    backend: str
    version: str
    environment: str
    targets: Tuple[TargetFacts, ...] = ()
    accepts: Tuple[str, ...] = ()
    missing: str = ""
    options: Dict[str, Tuple[str, ...]] = field(default_factory=dict)
    wants: Dict[str, Tuple[Node, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class CoreGroup:
    """Cores of one kind (``Cortex-A78AE``, ``performance``, ``offline``) and their highest clock.

    ``threads``: the hardware threads of all of them (0: unknown). ``capacity``: the kernel's
    measure of an ARM core, 1024 for the board's strongest.
    """

    kind: str
    count: int
    max_mhz: Optional[float] = None
    threads: int = 0
    capacity: Optional[int] = None


@dataclass(frozen=True)
class Cache:
    """A level of the processor's caches, ``count`` caches of the same size. ``kind`` is Data,
    Instruction or Unified."""

    level: int
    kind: str
    size_kib: int
    count: int


@dataclass(frozen=True)
class Storage:
    """The disk that holds the agent's state. ``kind`` is nvme, emmc, sd, ssd, hdd, virtual or
    empty; ``total_mib`` is 0 where it is no disk (memory, network)."""

    device: str
    kind: str
    total_mib: float


@dataclass(frozen=True)
class Accelerator:
    """A GPU, NPU or other accelerator. ``kind``: nvidia_gpu, intel_gpu, intel_npu, edgetpu or dla.
    ``bus``: pci, usb or soc. ``detail``: e.g. ``usb_mbps``, ``memory_mib``, ``driver``."""

    kind: str
    name: str
    bus: str = ""
    detail: Dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sensor:
    """A reading of a sensor. ``source`` is the telemetry source; ``unit`` is C, mW, MHz, percent,
    MiB, rpm, J, s or count."""

    source: str
    name: str
    unit: str
    value: float


@dataclass(frozen=True)
class DeviceFacts:
    """All facts about a device. Those that could not be read are ``None`` or empty, with the reason
    in ``unread``.

    ``versions`` of drivers and vendor software, by name: ``jetpack``, ``l4t``, ``cuda``,
    ``tensorrt``, ``nvidia_driver``, ``libedgetpu``, ``intel_gpu``, ``intel_npu``. ``sensors`` are
    those that gave a reading.
    """

    hostname: str
    machine: str
    system: str
    python: str
    model: Optional[str] = None
    cpu_model: Optional[str] = None
    cpu_count: Optional[int] = None
    isa: Tuple[str, ...] = ()
    memory_mib: Optional[float] = None
    storage_free_mib: Optional[float] = None
    runtimes: Tuple[RuntimeFacts, ...] = ()
    tools: Tuple[Tool, ...] = ()
    unread: Dict[str, str] = field(default_factory=dict)
    soc: Optional[str] = None
    cores: Tuple[CoreGroup, ...] = ()
    caches: Tuple[Cache, ...] = ()
    storage: Optional[Storage] = None
    versions: Dict[str, str] = field(default_factory=dict)
    accelerators: Tuple[Accelerator, ...] = ()
    power_mode: Optional[str] = None
    power_modes: Tuple[str, ...] = ()
    sensors: Tuple[Sensor, ...] = ()
