"""CI gate: fail when a candidate network is slower, or less right, than the released one.

Usage, in a job that may reach the controller (BENCHFARM_URL, BENCHFARM_TOKEN):

    python examples/ci_gate.py build/net.onnx --released net-1.4 --allow 0.05

It registers the file under a name made of its SHA-256, runs one sweep in which both networks are
measured in turns on the same devices, and prints one line for each pair of cells. Exit codes: 0 no
regression, 1 a regression, a wrong output or a cell without a figure, 2 wrong input.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from orchestrator.client import Client
from orchestrator.domain.errors import FarmError, UserError
from orchestrator.report.schema import CellRow, SweepReport
from orchestrator.settings import read_settings

SWEEP = Path(__file__).with_name("ci-gate.yaml")


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    try:
        with Client.from_home(read_settings()) as farm:
            candidate = register(farm, options.candidate, options.dataset)
            report = run_sweep(farm, options.sweep, options.released, candidate)
    except FarmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    lines = compare(report, options.released, candidate, options.allow)
    print("\n".join(line.text for line in lines))
    failed = sum(line.failed for line in lines)
    print(f"{failed} of {len(lines)} cells regressed; benchfarm report {report.name}")
    return 1 if failed or not lines else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Fail when a candidate network regresses.")
    parser.add_argument("candidate", type=Path, help="the model file that this commit built")
    parser.add_argument("--released", required=True, help="name of the registered model to beat")
    parser.add_argument("--dataset", type=Path, help=".npz with labels, to compare top-1 too")
    parser.add_argument("--allow", type=float, default=0.05, help="slowdown allowed, 0.05 = 5 %%")
    parser.add_argument("--sweep", type=Path, default=SWEEP, help="sweep without name and models")
    return parser


def register(farm: Client, file: Path, dataset: Path | None) -> str:
    """Register the candidate, unless the same bytes are registered already; return its name."""
    if not file.is_file():
        raise UserError(f"{file}: there is no such file")
    name = f"candidate-{hashlib.sha256(file.read_bytes()).hexdigest()[:12]}"
    if name not in {model.name for model in farm.models()}:
        farm.add_model(file, name=name, dataset=dataset)
    return name


def run_sweep(farm: Client, file: Path, released: str, candidate: str) -> SweepReport:
    """Measure both networks in one sweep and wait for its end."""
    spec = yaml.safe_load(file.read_text(encoding="utf-8"))
    spec |= {"name": f"gate-{time.time_ns()}", "models": [released, candidate]}
    sweep = farm.submit(yaml.safe_dump(spec), str(file))
    print(f"sweep {sweep.name}: {sweep.trials} trials")
    while sweep.state == "running":
        time.sleep(1.0)
        sweep = farm.sweep(sweep.name)
    return farm.report(sweep.name)


@dataclass(frozen=True)
class Line:
    """What is printed for one pair of cells, and whether the gate fails because of it."""

    text: str
    failed: bool


def compare(report: SweepReport, released: str, candidate: str, allow: float) -> list[Line]:
    """One line for each cell of the candidate that was not skipped."""
    before = {_cell(row): row for row in report.rows if row.model == released}
    rows = [r for r in report.rows if r.model == candidate and r.status != "skipped"]
    return [_compared(row, before.get(_cell(row)), allow) for row in rows]


def _cell(row: CellRow) -> tuple[str, ...]:
    """What two cells must share to be compared: everything but the model."""
    names = ("device", "backend", "version", "target", "precision", "threads", "batch_size")
    return (*(str(getattr(row, name)) for name in names), str(sorted(row.options.items())))


def _compared(new: CellRow, old: CellRow | None, allow: float) -> Line:
    """A cell regressed when its 95 % interval lies above the released cell's by more than
    ``allow``. Comparing the two points instead would fail builds for noise."""
    where = f"{new.label} on {new.device}"
    if new.status != "ok":  # failed_fidelity, failed_accuracy, unsupported, failed, ...
        return Line(f"FAIL {where}: {new.status} {new.status_note}".rstrip(), True)
    if new.p50_ms.low is None:
        return Line(f"FAIL {where}: no interval: {new.p50_ms.reason}", True)
    if old is None or old.p50_ms.high is None:
        return Line(f"FAIL {where}: the released network has no interval here", True)
    slower = new.p50_ms.low > old.p50_ms.high * (1 + allow)
    figures = f"p50 {_interval(new)} against {_interval(old)}"
    return Line(f"{'FAIL' if slower else 'ok  '} {where}: {figures}", slower)


def _interval(row: CellRow) -> str:
    return f"{row.p50_ms.value:.4g} ms [{row.p50_ms.low:.4g}, {row.p50_ms.high:.4g}]"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
