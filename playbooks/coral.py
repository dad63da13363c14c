"""What hosts of an Edge TPU need: Coral's library and driver, and a way for the agent to the
device."""

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
"""Before and after the library loaded the firmware, as in Coral's own rules."""

_PACKAGE = "libedgetpu1-std (or libedgetpu1-max, for the higher clock)"


def library_step() -> Step:
    """Coral's library is there; benchfarm never brings one along."""

    def check(site: BoardTarget) -> str:
        there = site.host.is_true("ldconfig -p | grep -q 'libedgetpu[.]so[.]1'", root=True)
        return "" if there else "no libedgetpu"

    def apply(site: BoardTarget) -> None:
        raise Unfit(
            f"{site.host.name} has no libedgetpu.so.1: install {_PACKAGE} from Coral's package "
            "source there, see coral.ai/docs/accelerator/get-started"
        )

    return Step("libedgetpu", check, apply)


def apex_steps() -> list[Step]:
    """On PCIe: the driver has the device, whose group is ``apex``."""

    def no_device(site: BoardTarget) -> str:
        return "" if site.host.is_true("test -e /dev/apex_0") else "no /dev/apex_0"

    def ask(site: BoardTarget) -> None:
        raise Unfit(
            f"{site.host.name} has no /dev/apex_0: install Coral's driver there (package "
            "gasket-dkms), and load it (`sudo modprobe apex`)"
        )

    def closed(site: BoardTarget) -> str:
        node = site.host.ask("stat -c '%G %a' /dev/apex_0")
        open_to_all = node.endswith("6")
        return "" if node == "apex 660" or open_to_all else f"/dev/apex_0 is {node}"

    return [
        Step("driver", no_device, ask),
        Step("device access", closed, lambda site: _write(site, APEX_RULE, "apex", "apex")),
    ]


def usb_steps() -> list[Step]:
    """On USB: the device's group is ``plugdev``, by Coral's rules or ours."""

    def closed(site: BoardTarget) -> str:
        ask = "grep -lsq 'idVendor.*1a6e' /lib/udev/rules.d/*.rules /etc/udev/rules.d/*.rules"
        ruled = site.host.is_true(ask) and site.host.is_true("getent group plugdev")
        return "" if ruled else "no udev rule for it"

    return [Step("device access", closed, lambda site: _write(site, USB_RULE, "plugdev", "usb"))]


def _write(site: BoardTarget, rules: str, group: str, subsystem: str) -> None:
    site.script(f"getent group {group} >/dev/null || groupadd --system {group}")
    site.write(UDEV_RULES, rules)
    site.script(
        f"udevadm control --reload-rules; udevadm trigger --subsystem-match={subsystem}\n"
        "udevadm settle --timeout=10"
    )
