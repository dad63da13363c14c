"""What a trial costs beside load, warm-up and measurement, from dispatch to the accepted result."""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path

from sqlalchemy import select

from agent.contract import codec
from agent.contract.trial import TrialResult
from benchmarks.outcome import Outcome, of_rounds
from orchestrator import wiring
from orchestrator.cli import zoo
from orchestrator.client import Client
from orchestrator.controller import Controller
from orchestrator.local.setup import local_agent, wait_online
from orchestrator.settings import Settings
from orchestrator.store.tables import Attempt

TRIALS = 12
ALLOWED_S = 1.5
SPEC = """
name: overhead
models: [digits_cnn]
runtimes: [{backend: onnxruntime, threads: 1}]
trials: %d
scenario: {min_duration_s: 0.2, max_duration_s: 1.0}
"""


def measure() -> list[Outcome]:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder), port=0)
        with (
            wiring.controller(settings) as running,
            local_agent(running, "bench"),
            Client(running.url, running.token) as farm,
        ):
            wait_online(running, "bench")
            for file in zoo.emit("digits_cnn", Path(folder)):
                zoo.register(farm, "digits_cnn", file)
            farm.submit(SPEC % TRIALS, "benchmark")
            while farm.sweep("overhead").state == "running":
                time.sleep(0.5)
            attempts = _attempts(running)
    overheads, imports = _overheads(attempts)
    return [
        of_rounds(
            "trial_overhead",
            [s / ALLOWED_S for s in overheads],
            at_most=1.0,
            compared=f"s per trial over {ALLOWED_S} s, from one result to the next, less import, "
            f"load, warm-up and measurement; the runtime's import took {imports:.2f} s more",
        )
    ]


def _attempts(running: Controller) -> list[Attempt]:
    with running.farm.database.transaction() as session:
        found = session.scalars(select(Attempt).order_by(Attempt.ended_at)).all()
        return [a for a in found if a.accepted]


def _overheads(attempts: list[Attempt]) -> tuple[list[float], float]:
    """Seconds of overhead of each attempt but the first, and the mean import time.

    A trial's span runs from the result before it to its own: dispatch and idle time count too.
    """
    overheads, imports = [], []
    for before, this in itertools.pairwise(attempts):
        assert before.ended_at is not None
        assert this.ended_at is not None
        phases = codec.from_plain(TrialResult, this.result).phases
        spent = (
            phases.import_s,
            phases.load_cold_s,
            phases.load_warm_s,
            (phases.first_inference_ms or 0.0) / 1e3,
            phases.warm_up_s,
            phases.measure_s,
        )
        overheads.append(
            (this.ended_at - before.ended_at).total_seconds() - sum(s or 0.0 for s in spent)
        )
        imports.append(phases.import_s or 0.0)
    if not overheads:
        raise SystemExit("no two trials ended: nothing to measure")
    return overheads, sum(imports) / len(imports)
