"""What a device is, as it says itself: the wire types that ``agent.facts`` fills.

As in ``agent.contract.trial``: frozen dataclasses of the standard library, Python 3.8, units in
names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Optional, Tuple

from agent.contract.conversion_graph import Node, Tool


@dataclass(frozen=True)
class TargetFacts:
    """One place a runtime can run on this device (``CPU``, ``GPU.0``) and its precisions there.

    ``runs``: all that the runtime runs in; ``precisions``: those of them that this device has the
    converters for. Empty ``runs``: the same.
    """

    name: str
    precisions: Tuple[str, ...]
    description: str = ""
    runs: Tuple[str, ...] = ()


@dataclass(frozen=True)
class RuntimeFacts:
    """A runtime that answers on this device, or why it does not (``missing``).

    ``wants``: for each precision, what it loads for it, best first. ``accepts``: source formats
    that it can be given, directly or through the converters that this device has. ``options``:
    name → accepted values, as text (empty: any).
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
    """Cores of one kind (``Cortex-A78AE``, ``performance``, ``offline``), and the fastest that they
    may go.

    ``threads``: all their hardware threads (0: not known). ``capacity``: the kernel's measure of an
    ARM core, 1024 for the board's strongest.
    """

    kind: str
    count: int
    max_mhz: Optional[float] = None
    threads: int = 0
    capacity: Optional[int] = None


@dataclass(frozen=True)
class Cache:
    """One level of the processor's caches: ``kind`` is Data, Instruction or Unified; ``count`` such
    caches there are."""

    level: int
    kind: str
    size_kib: int
    count: int


@dataclass(frozen=True)
class Storage:
    """The disk under the agent's state: ``kind`` is nvme, emmc, sd, ssd, hdd, virtual or empty;
    ``total_mib`` 0 where no disk is below (memory, network)."""

    device: str
    kind: str
    total_mib: float


@dataclass(frozen=True)
class Accelerator:
    """What computes beside the processor. ``kind``: nvidia_gpu, intel_gpu, intel_npu, edgetpu or
    dla. ``bus``: pci, usb or soc. ``detail``: e.g. ``usb_mbps``, ``memory_mib``, ``driver``."""

    kind: str
    name: str
    bus: str = ""
    detail: Dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sensor:
    """One reading that this board gives: ``source`` is the telemetry source, ``unit`` C, mW, MHz,
    percent, MiB, rpm, J, s or count."""

    source: str
    name: str
    unit: str
    value: float


@dataclass(frozen=True)
class DeviceFacts:
    """What a device is. Facts that could not be read stay ``None`` or empty and are named in
    ``unread``.

    ``versions``: of what lies below the runtimes, by name: ``jetpack``, ``l4t``, ``cuda``,
    ``tensorrt``, ``nvidia_driver``, ``libedgetpu``, ``intel_gpu``, ``intel_npu``. ``sensors`` are
    those that answered when they were asked.
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
