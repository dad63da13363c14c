"""Diagnoses a board: checks over SSH, and those of its own agent."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from playbooks.connection import Login, connected
from playbooks.errors import HostKeyChanged, LoginRefused, NoShell, PlaybookError, StepFailed
from playbooks.host import Host
from playbooks.host_keys import PinnedHostKeys
from playbooks.target import AGENT, OPT, OWNERSHIP_FILE, STATE, UNIT, USER
from playbooks.waiting import Waiting, unseen

FREE_LIMIT_MIB = 1024
SKEW_LIMIT_S = 30.0
DOCTOR_LIMIT_S = 180.0

REMEDIES: Mapping[str, str] = {
    "joined": "run `benchfarm device add NAME` again: it joins the board anew",
    "controller": "is the controller up, and its address let through? Else run `benchfarm device "
    "add NAME --controller-url http://ADDRESS:PORT`",
    "clock": "let the board's clock be set: `timedatectl set-ntp true` on it",
    "token": "run `benchfarm device add NAME` again: it gives the board a new token",
    "broker": "do what it says, then run `benchfarm device doctor NAME` again",
    "disk": "free some space on the board",
    "runtimes": "run `benchfarm device add NAME` again: it builds what is missing",
}
"""What to do if a check of ``benchfarm-agent doctor`` fails, by the check's name."""


@dataclass(frozen=True)
class DoctorFinding:
    """One check. ``side`` is where it was made; ``remedy`` is empty if it is ``ok``."""

    side: str
    check: str
    ok: bool
    text: str
    remedy: str = ""


def examine(
    device: str, login: Login, host_keys: PinnedHostKeys, waiting: Waiting = unseen
) -> list[DoctorFinding]:
    """All checks that can be made over SSH. Those that need a failed one are left out."""
    try:
        with connected(login, host_keys, waiting) as host:
            found = [
                DoctorFinding("controller", "ssh", True, f"as {host.name}"),
                DoctorFinding("controller", "host key", True, "as pinned"),
            ]
            return found + _findings(host, device)
    except NoShell as error:
        remedy = "give the account another login shell, or mend its profile"
        return [DoctorFinding("controller", "login shell", False, str(error), remedy)]
    except HostKeyChanged as error:
        return [DoctorFinding("controller", "host key", False, str(error), "see left")]
    except LoginRefused as error:
        return [
            DoctorFinding("controller", "ssh", False, str(error), "--identity or --ask-password")
        ]
    except PlaybookError as error:
        remedy = "check the board's power, cable and address, then ask again"
        return [DoctorFinding("controller", "ssh", False, str(error), remedy)]


def _findings(host: Host, device: str) -> list[DoctorFinding]:
    found: list[DoctorFinding] = []
    for look in (_board, _unit, _disk, _clock):
        found.append(_checked(look, host, device))
    if found[0].ok:
        found += _agent_findings(host, device)
    if host.foreign:
        text = f"prints with each command, which is left out: {host.foreign[:120]}"
        found.insert(0, DoctorFinding("controller", "login shell", True, text))
    return found


def _checked(look: Callable[[Host, str], DoctorFinding], host: Host, device: str) -> DoctorFinding:
    try:
        return look(host, device)
    except NoShell:
        raise
    except PlaybookError as error:
        return DoctorFinding("controller", look.__name__.strip("_"), False, str(error), "see left")


def _board(host: Host, device: str) -> DoctorFinding:
    text = host.output(f"cat {OWNERSHIP_FILE} 2>/dev/null")
    try:
        owner = str(json.loads(text)["device"]) if text else ""
    except (ValueError, KeyError, TypeError):
        owner = "?"
    if owner == device:
        link = host.output(f"readlink {OPT}/agent")
        return DoctorFinding(
            "controller", "board", True, f"it is {device}, with {link or 'no agent'}"
        )
    words = f"it is the board {owner!r}" if owner else "it is no board of a farm"
    remedy = f"run `benchfarm device add {device} --ssh ...` with the right address"
    return DoctorFinding("controller", "board", False, words, remedy)


def _unit(host: Host, _device: str) -> DoctorFinding:
    active = host.output(f"systemctl is-active {UNIT}") or "unknown"
    enabled = host.output(f"systemctl is-enabled {UNIT} 2>/dev/null") or "not there"
    ok = (active, enabled) == ("active", "enabled")
    remedy = "see `benchfarm device logs`; `benchfarm device add` sets it right" if not ok else ""
    return DoctorFinding("controller", "unit", ok, f"{active}, {enabled}", remedy)


def _disk(host: Host, _device: str) -> DoctorFinding:
    free = host.free_mib(STATE if host.is_true(f"test -e {STATE}") else "/")
    ok = free >= FREE_LIMIT_MIB
    text = f"{free} MiB free, {FREE_LIMIT_MIB} are wanted"
    return DoctorFinding("controller", "disk", ok, text, "" if ok else REMEDIES["disk"])


def _clock(host: Host, _device: str) -> DoctorFinding:
    before = time.time()
    said = host.run("date +%s").out.strip()
    if not said.isdigit():
        raise StepFailed(f"{host.name}: `date +%s` said {said[:80]!r}: expected seconds")
    theirs = float(said)
    skew_s = theirs - (before + time.time()) / 2
    ok = abs(skew_s) <= SKEW_LIMIT_S
    text = f"{abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} this machine's"
    return DoctorFinding("controller", "clock", ok, text, "" if ok else REMEDIES["clock"])


def _agent_findings(host: Host, device: str) -> list[DoctorFinding]:
    """The findings of ``benchfarm-agent doctor``, run as the agent's user."""
    words = shlex.join((AGENT, "doctor", "-o", "json"))
    try:
        result = host.run(
            f"cd {STATE} && HOME={STATE} BENCHFARM_AGENT_HOME={STATE} {words}",
            user=USER,
            limit_s=DOCTOR_LIMIT_S,
            check=False,
        )
        return [agent_finding(item, device) for item in json.loads(result.out)]
    except (ValueError, KeyError, TypeError):
        text = f"`benchfarm-agent doctor` failed: {result.tail}"
    except PlaybookError as error:
        text = str(error)
    remedy = f"run `benchfarm device add {device}` again: it makes the agent whole"
    return [DoctorFinding("board", "agent", False, text, remedy)]


def agent_finding(item: Mapping[str, object], device: str) -> DoctorFinding:
    """A finding of ``benchfarm-agent doctor``. Raises ``KeyError``."""
    check, ok = str(item["check"]), item["ok"] is True
    remedy = REMEDIES.get(check, "see what it says").replace("NAME", device)
    return DoctorFinding("board", check, ok, str(item["text"]), "" if ok else remedy)
