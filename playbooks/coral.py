"""Steps for hosts of an Edge TPU: Coral's library and driver, and access to the device."""

from __future__ import annotations

from playbooks.errors import Unfit
from playbooks.step_runner import Step
from playbooks.target import BoardTarget

UDEV_RULES = "/etc/udev/rules.d/65-benchfarm-edgetpu.rules"
APEX_RULE = 'SUBSYSTEM=="apex", MODE="0660", GROUP="apex"\n'
USB_RULE = (
    'SUBSYSTEM=="usb", ATTRS{idVendor}=="1a6e", ATTRS{idProduct}=="089a", GROUP="plugdev"\n'
    'SUBSYSTEM=="usb", ATTRS{idVendor}=="18d1", ATTRS{idProduct}=="9302", GROUP="plugdev"\n'
)
"""USB ids before and after the library has loaded the firmware, from Coral's own rules."""

_PACKAGE = "libedgetpu1-std (or libedgetpu1-max, for the higher clock)"


def library_step() -> Step:
    """Require Coral's library, which benchfarm does not install."""

    def check(target: BoardTarget) -> str:
        there = target.host.is_true("ldconfig -p | grep -q 'libedgetpu[.]so[.]1'", root=True)
        return "" if there else "no libedgetpu"

    def apply(target: BoardTarget) -> None:
        raise Unfit(
            f"{target.host.name} has no libedgetpu.so.1: install {_PACKAGE} from Coral's package "
            "source there, see coral.ai/docs/accelerator/get-started"
        )

    return Step("libedgetpu", check, apply)


def apex_steps() -> list[Step]:
    """On PCIe: require the driver's device, and give it the group ``apex``."""

    def no_device(target: BoardTarget) -> str:
        return "" if target.host.is_true("test -e /dev/apex_0") else "no /dev/apex_0"

    def require_driver(target: BoardTarget) -> None:
        raise Unfit(
            f"{target.host.name} has no /dev/apex_0: install Coral's driver there (package "
            "gasket-dkms), and load it (`sudo modprobe apex`)"
        )

    def no_access(target: BoardTarget) -> str:
        node = target.host.output("stat -c '%G %a' /dev/apex_0")
        open_to_all = node.endswith("6")
        return "" if node == "apex 660" or open_to_all else f"/dev/apex_0 is {node}"

    return [
        Step("driver", no_device, require_driver),
        Step(
            "device access",
            no_access,
            lambda target: _write_udev_rules(target, APEX_RULE, "apex", "apex"),
        ),
    ]


def usb_steps() -> list[Step]:
    """On USB: give the device the group ``plugdev``, by Coral's udev rules or ours."""

    def no_access(target: BoardTarget) -> str:
        query = "grep -lsq 'idVendor.*1a6e' /lib/udev/rules.d/*.rules /etc/udev/rules.d/*.rules"
        has_rule = target.host.is_true(query) and target.host.is_true("getent group plugdev")
        return "" if has_rule else "no udev rule for it"

    return [
        Step(
            "device access",
            no_access,
            lambda target: _write_udev_rules(target, USB_RULE, "plugdev", "usb"),
        )
    ]


def _write_udev_rules(target: BoardTarget, rules: str, group: str, subsystem: str) -> None:
    target.script(f"getent group {group} >/dev/null || groupadd --system {group}")
    target.write(UDEV_RULES, rules)
    target.script(
        f"udevadm control --reload-rules; udevadm trigger --subsystem-match={subsystem}\n"
        "udevadm settle --timeout=10"
    )
