"""Two versions of one runtime in one sweep, each measured in its own environment."""

from __future__ import annotations

import json
from pathlib import Path

from agent.worker import cli_support
from support.cli import running
from support.wheels import NEW, OLD

EXAMPLE = Path(__file__).parents[2] / "examples" / "versions.yaml"
SHORT = "trials: 2\nscenario: {min_duration_s: 0.1, max_duration_s: 0.5}"


def test_each_version_runs_in_its_own_environment(tmp_path: Path, wheelhouse: Path) -> None:
    home = tmp_path / "home"
    runtimes = cli_support.runtimes(home / "agent")
    for version in (OLD, NEW):
        runtimes.build(f"onnxruntime=={version}", wheelhouse, print)
    sweep = tmp_path / "sweep.yaml"
    text = EXAMPLE.read_text(encoding="utf-8").replace("trials: 5", SHORT)
    # a prefix of the version at a dot means the same
    prefix = OLD.rpartition(".")[0]
    sweep.write_text(text.replace(f"onnxruntime=={OLD}]", f"onnxruntime=={prefix}]"))
    with running(home) as farm:
        farm.fine("zoo", "build", "digits_cnn")
        farm.fine("sweep", "run", str(sweep))
        report = json.loads(farm.fine("report", "versions", "-o", "json"))
    rows = report["rows"]
    assert {(row["version"], row["runtime_version"]) for row in rows} == {(OLD, OLD), (NEW, NEW)}
    assert all(row["p50_ms"]["value"] for row in rows)
    verdicts = {row["version"]: row["speed_up"]["verdict"] for row in rows}
    assert verdicts[OLD] == "baseline"
    assert verdicts[NEW] != "baseline"
