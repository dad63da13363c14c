"""Faults of the nspawn farm's boards that a mere process cannot suffer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from farm.commands import CommandFailed

from .hosts import AGENT, Host
from .schedule import Fault
from .world import PAST_LEASE_S


def _power_cut(host: Host, fault: Fault) -> None:
    host.board.cut_power()
    time.sleep(fault.lasts_s)
    host.up()


def _reboot(host: Host, fault: Fault) -> None:
    with contextlib.suppress(CommandFailed):  # the reboot may end the shell that asked for it
        host.board.inside("systemctl reboot")
    time.sleep(3 + fault.lasts_s)  # while it shuts down, its sshd still answers
    host.up()


def _unplug(host: Host, fault: Fault) -> None:
    host.board.cut_network()
    time.sleep(fault.lasts_s)
    host.board.mend_network()


def _kill_agent(host: Host, fault: Fault) -> None:
    """The board's systemd restarts it."""
    host.board.inside(f"systemctl kill --kill-who=main --signal=KILL {AGENT} || true")
    time.sleep(fault.lasts_s)


def _freeze(host: Host, fault: Fault) -> None:
    host.board.hang()
    time.sleep(max(fault.lasts_s, PAST_LEASE_S))
    host.board.unhang()


def _disk_full(host: Host, fault: Fault) -> None:
    host.board.fill_disk()
    time.sleep(fault.lasts_s)
    host.board.empty_disk()


ACTIONS: dict[str, Callable[[Host, Fault], None]] = {
    "host_power_cut": _power_cut,
    "host_reboot": _reboot,
    "host_unplug": _unplug,
    "host_kill_agent": _kill_agent,
    "host_freeze": _freeze,
    "host_disk_full": _disk_full,
}
