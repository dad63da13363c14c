"""One run: a farm, a schedule of faults while sweeps run, and the verdict."""

from __future__ import annotations

import contextlib
import functools
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from farm.board import Plan
from farm.farm import running

from . import faults
from .lanes import Lanes
from .schedule import EMBEDDED_FAULTS, FAULTS, HOST_FAULTS, Fault, plan
from .servers import server_programs
from .verdict import Verdict, judge
from .world import LEASE_S, World


def run(
    seed: int,
    *,
    agents: int,
    real: int,
    count: int,
    trials: int,
    lanes: int = 2,
    within_s: float,
    say: Callable[[str], None],
    embedded: bool = False,
    hosts: int = 0,
    weights: Mapping[str, int] | None = None,
    lease_s: float = LEASE_S,
) -> Verdict:
    """Inject ``count`` faults drawn from ``seed``, ``lanes`` at once, while sweeps of ``trials``
    trials a board run one after the other. Then everything is healed, and the farm has ``within_s``
    seconds to finish.

    ``agents``: agent processes, of which ``real`` use the real runner; ``hosts``: boards of the
    nspawn farm; ``embedded``: one controller with the embedded database and broker; ``weights``:
    the kinds of fault that may be drawn. The folder with every process' log is kept where something
    is wrong.
    """
    began = time.monotonic()

    def note(line: str) -> None:
        say(f"{time.monotonic() - began:6.1f} s  {line}")

    assert not (embedded and hosts), "the embedded broker reaches no other machine"
    schedule = plan(seed, count, weights or kinds(embedded=embedded, hosts=hosts))
    folder = Path(tempfile.mkdtemp(prefix="benchfarm-chaos-", dir="/tmp"))
    note(f"seed {seed}; logs in {folder}")
    with contextlib.ExitStack() as stack:
        # the boards outlive the world: the verdict reads what their agents logged at the end
        farm = stack.enter_context(running(*_plans(hosts))) if hosts else None
        world = World(folder, None if embedded else server_programs(), farm, lease_s)
        stack.callback(world.close)
        world.open(agents, real)
        note("the farm is ready")
        sweeps, wrong = _inject_faults(world, schedule, lanes, trials, note)
        world.heal()
        note(f"healed; requests of one step that were hit: {world.uplink.hits}")
        why = _finish(world, sweeps, within_s, note)
        verdict = judge(world)
        verdict.wrong += wrong + why
    if verdict.good:
        shutil.rmtree(folder, ignore_errors=True)
    for line in verdict.wrong[:20]:
        note(line)
    note(
        f"{verdict.attempts} attempts, {verdict.checks} health checks; {verdict.ran_out} leases "
        f"ran out; the deepest queue held {world.deepest_queue} doorbells"
    )
    note("over")
    say(verdict.line(count, seed))
    return verdict


def kinds(*, embedded: bool = False, hosts: int = 0) -> dict[str, int]:
    """The faults that such a farm can suffer, by weight."""
    return {**(EMBEDDED_FAULTS if embedded else FAULTS), **(HOST_FAULTS if hosts else {})}


def _plans(hosts: int) -> list[Plan]:
    return [Plan(f"host{number}") for number in range(hosts)]


def _finish(
    world: World, sweeps: list[str], within_s: float, note: Callable[[str], None]
) -> list[str]:
    """Let the farm finish its sweeps, then end it as a user does; why it did not, in words."""
    try:
        _all_end(world, sweeps, within_s)
        resumed = world.resume_all()  # a killed child is a failure, and that is a result
        note(f"resumed {resumed} failed trials")
        _all_end(world, sweeps, within_s)
        world.wait_for(lambda: _delivered(world), "the delivery of late results", within_s)
        world.wait_for(world.all_well, "every board to be well again", within_s)
        world.stop()
    except AssertionError as error:
        world.kill()
        return [str(error)]
    return []


def _all_end(world: World, sweeps: list[str], within_s: float) -> None:
    for name in sweeps:
        world.wait_for(functools.partial(world.finished, name), f"the end of {name}", within_s)


def _inject_faults(
    world: World, schedule: Sequence[Fault], lanes: int, trials: int, note: Callable[[str], None]
) -> tuple[list[str], list[str]]:
    """Inject every fault of the schedule while a sweep is always running. The sweeps' names, and
    what went wrong."""
    sweeps = ["sweep1"]
    world.submit(sweeps[0], trials)
    with Lanes(schedule, lanes, functools.partial(faults.apply, world), note) as injecting:
        while injecting.running:
            world.keep_up()
            world.look_at_queues()
            if world.finished(sweeps[-1]):
                sweeps.append(f"sweep{len(sweeps) + 1}")
                world.submit(sweeps[-1], trials)
            time.sleep(0.3)
    return sweeps, injecting.wrong


def _delivered(world: World) -> bool:
    """Whether no board has an undelivered result or an unfinished attempt."""
    parts = [b.state / part for b in world.boards for part in ("samples", "attempts")]
    if not all(host.is_idle() for host in world.hosts):
        return False
    return not any(any(part.iterdir()) for part in parts)
