"""What lets the agent set the power mode: a sudoers file of exactly the commands that do."""

from __future__ import annotations

from agent.contract.power_modes import Argv, PowerCommands
from playbooks.step_runner import Step
from playbooks.target import USER, BoardTarget

SUDOERS = "/etc/sudoers.d/benchfarm"


def rights_step(power: PowerCommands) -> Step:
    """The agent's user may set those of the class's modes that this board has."""

    def wanted(site: BoardTarget) -> str:
        listing = site.host.ask(f"cat {power.listing}") if power.listing else ""
        lines = [_line(argv) for argv in power.allowed(power.numbers(listing))]
        return "\n".join(["# benchfarm: the power modes of this board, and nothing more", *lines])

    def check(site: BoardTarget) -> str:
        there = site.host.ask(f"cat {SUDOERS} 2>/dev/null", root=True)
        return "" if there == wanted(site) else f"no {SUDOERS} as it should be"

    def apply(site: BoardTarget) -> None:
        # sudo reads no file with a dot in its name: what is not whole, or wrong, does not count
        site.script(
            f"t={SUDOERS}.new; cat > $t; chmod 440 $t\n"
            f"visudo -cqf $t || {{ rm -f $t; exit 1; }}\nmv $t {SUDOERS}",
            secret=wanted(site) + "\n",
        )

    return Step("power rights", check, apply)


def _line(argv: Argv) -> str:
    """Exactly these words: a command without any would stand for any."""
    program, *words = argv
    return f"{USER} ALL=(root) NOPASSWD: {program} {' '.join(words) if words else chr(34) * 2}"
