"""Intel's graphics and NPU on the PCI bus, and the versions of their compute drivers.

Graphics: class 03xx, drivers i915 and xe. NPU: the driver intel_vpu, or class 12xx (processing
accelerator) without one.
"""

from __future__ import annotations

from pathlib import Path

from agent.contract.device import Accelerator
from agent.facts import packages, pci

# Names of Intel's packages, older and newer (github.com/intel/compute-runtime, linux-npu-driver).
_GPU_PACKAGES = ("libze-intel-gpu1", "intel-level-zero-gpu", "intel-opencl-icd")
_NPU_PACKAGE = "intel-level-zero-npu"


def accelerators(root: Path) -> list[Accelerator]:
    """Intel's GPUs and NPUs. Where ``driver`` is ``none`` nothing runs there."""
    found = []
    for device in pci.devices(root):
        if device.vendor != "8086":
            continue
        if device.driver == "intel_vpu" or device.kind.startswith("12"):
            kind, otherwise = "intel_npu", "Intel NPU"
        elif device.kind.startswith("03"):
            kind, otherwise = "intel_gpu", "Intel GPU"
        else:
            continue
        detail = {"slot": device.slot, "driver": device.driver or "none"}
        found.append(Accelerator(kind, pci.name(root, device, otherwise), "pci", detail))
    return found


def gpu_version(root: Path) -> str | None:
    """Version of Intel's compute runtime, by its package."""
    found = packages.installed(root, "|".join(_GPU_PACKAGES))
    return next((found[name] for name in _GPU_PACKAGES if name in found), None)


def npu_version(root: Path) -> str | None:
    """Version of Intel's user-mode NPU driver, by its package."""
    return packages.installed(root, _NPU_PACKAGE).get(_NPU_PACKAGE)
