"""The reverse of registering: the board is left as it was found."""

from __future__ import annotations

from playbooks.coral import UDEV_RULES
from playbooks.errors import InvalidRequest
from playbooks.file_transfer import INCOMING
from playbooks.power_rights import SUDOERS
from playbooks.step_runner import Step
from playbooks.target import OPT, STATE, UNIT, UNIT_PATH, USER, BoardTarget

STOP_LIMIT_S = 60.0


def retire_steps() -> list[Step]:
    """In an order in which each can be done again; the mark of whose board it is goes last."""
    return [
        Step("board", _is_ours, _nothing),
        Step("unit", _unit_there, _remove_unit),
        Step("state", _state_there, _remove_state),
        Step("user", _user_there, _remove_user),
        Step("files", _files_there, _remove_files),
        Step("controller", _known_there, lambda target: target.controller.retire(target.device)),
    ]


def _is_ours(target: BoardTarget) -> str:
    owner = target.ownership().get("device", target.device)
    if owner != target.device:
        raise InvalidRequest(
            f"{target.host.name} is the board {owner!r}, not {target.device!r}: left alone"
        )
    return ""


def _nothing(target: BoardTarget) -> None:
    """The step only checks the owner."""


def _unit_there(target: BoardTarget) -> str:
    there = bool(target.ownership()) and target.host.is_true(f"test -e {UNIT_PATH}")
    return f"{UNIT} is there" if there else ""


def _remove_unit(target: BoardTarget) -> None:
    target.script(
        f"systemctl --quiet disable --now {UNIT}; rm -f {UNIT_PATH}; systemctl daemon-reload\n"
        f"systemctl reset-failed {UNIT} 2>/dev/null || true",
        limit_s=STOP_LIMIT_S,
    )


def _state_there(target: BoardTarget) -> str:
    there = bool(target.ownership()) and target.host.is_true(f"test -e {STATE}")
    return f"{STATE} is there" if there else ""


def _remove_state(target: BoardTarget) -> None:
    target.script(f"rm -rf {STATE}", limit_s=STOP_LIMIT_S)


def _user_there(target: BoardTarget) -> str:
    made = bool(target.ownership().get("user_made"))
    return f"user {USER} is there" if made and target.host.is_true(f"getent passwd {USER}") else ""


def _remove_user(target: BoardTarget) -> None:
    target.script(
        f"pkill -KILL -u {USER} || true\n"
        f"userdel {USER}; getent group {USER} >/dev/null && groupdel {USER} || true"
    )


def _files_there(target: BoardTarget) -> str:
    ours = bool(target.ownership()) or target.host.is_true(f'test -e "$HOME/{INCOMING}"')
    return f"{OPT} is there" if ours else ""


def _remove_files(target: BoardTarget) -> None:
    target.host.run(f'rm -rf "$HOME/{INCOMING}"')
    target.script(
        f"rm -f {SUDOERS} {SUDOERS}.new; [ ! -e {UDEV_RULES} ] || {{ rm {UDEV_RULES}\n"
        f"udevadm control --reload-rules; }}\nrm -rf {OPT}",
        limit_s=STOP_LIMIT_S,
    )


def _known_there(target: BoardTarget) -> str:
    known = target.controller.known(target.device)
    return "the controller still trusts it" if known.joined else ""
