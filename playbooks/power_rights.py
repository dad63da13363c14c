"""A sudoers file that lets the agent run exactly the commands that set the power mode."""

from __future__ import annotations

from agent.contract.power_modes import Argv, PowerCommands
from playbooks.step_runner import Step
from playbooks.target import USER, BoardTarget

SUDOERS = "/etc/sudoers.d/benchfarm"


def rights_step(power: PowerCommands) -> Step:
    """Permit the agent's user to set those of the class's modes that this board has."""

    def wanted(target: BoardTarget) -> str:
        listing = target.host.output(f"cat {power.listing}") if power.listing else ""
        lines = [_line(argv) for argv in power.allowed(power.numbers(listing))]
        return "\n".join(["# benchfarm: the power modes of this board, and nothing more", *lines])

    def check(target: BoardTarget) -> str:
        current = target.host.output(f"cat {SUDOERS} 2>/dev/null", root=True)
        return "" if current == wanted(target) else f"no {SUDOERS} as it should be"

    def apply(target: BoardTarget) -> None:
        # sudo ignores files with a dot in their names: an incomplete or invalid file has no effect
        target.script(
            f"t={SUDOERS}.new; cat > $t; chmod 440 $t\n"
            f"visudo -cqf $t || {{ rm -f $t; exit 1; }}\nmv $t {SUDOERS}",
            secret=wanted(target) + "\n",
        )

    return Step("power rights", check, apply)


def _line(argv: Argv) -> str:
    """A rule for exactly these arguments: without any, sudoers would allow all arguments."""
    program, *words = argv
    return f"{USER} ALL=(root) NOPASSWD: {program} {' '.join(words) if words else chr(34) * 2}"
