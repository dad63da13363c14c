"""A cell's raw samples: which results they come from, and why there are none."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from agent.contract.trial import Failure
from orchestrator.domain.errors import Conflict, UserError
from orchestrator.report import sample_table
from orchestrator.report.sample_table import SampledTrial, records
from orchestrator.service.scheduling import scheduler
from orchestrator.service.sweeps import retention
from orchestrator.service.sweeps.cell_samples import cell_samples
from orchestrator.service.sweeps.retention import Policy
from support.farms import FarmKit, failed
from support.report_samples import trial


@pytest.fixture
def board(farm: FarmKit) -> int:
    farm.add_model()
    return farm.device()


def cell_of(farm: FarmKit) -> int:
    return farm.trials()[-1].cell_id


def test_every_accepted_result_counts_with_its_trial_and_attempt(farm: FarmKit, board: int) -> None:
    farm.submit(trials=2)
    farm.beat(board)
    farm.give(board, farm.ok(farm.last_rung(), [1000, 1100]))
    scheduler.tick(farm.farm)
    late = Failure("verify", "timeout", "limits.trial_s ran out")
    stopped = replace(farm.ok(farm.last_rung(), [1300]), status="failed", failure=late)
    farm.give(board, stopped)
    table = cell_samples(farm.farm, cell_of(farm))
    assert table["caller_ns"].tolist() == [1000, 1100, 1300]
    assert table["trial"].tolist() == [0, 0, 1]
    assert table["status"].tolist() == [b"ok", b"ok", b"failed"]
    assert set(table["attempt"].tolist()) == {1}
    assert table["sample"].tolist() == [0, 1, 0]
    assert len(set(table["trial_id"].tolist())) == 2


def test_a_cell_without_samples_says_why(farm: FarmKit, board: int) -> None:
    farm.submit(attempts=1)
    with pytest.raises(UserError, match=r"on board\) has no samples: no trial took any \(not run"):
        cell_samples(farm.farm, cell_of(farm))
    farm.beat(board)
    farm.give(board, failed(farm.last_rung()))
    with pytest.raises(UserError, match=r"no trial took any \(failed\)"):
        cell_samples(farm.farm, cell_of(farm))
    with pytest.raises(UserError, match="there is no cell 4711; the column “cell”"):
        cell_samples(farm.farm, 4711)


def test_pruned_samples_point_to_the_report(farm: FarmKit, board: int) -> None:
    farm.submit()
    farm.beat(board)
    farm.give(board, farm.ok(farm.last_rung(), [1_000_000] * 30))
    farm.clock.advance(100 * 86400)
    retention.prune(farm.farm, Policy(samples=timedelta(days=90)))
    with pytest.raises(Conflict, match=r"its samples were pruned on .*`benchfarm report first`"):
        cell_samples(farm.farm, cell_of(farm))


def test_the_runtimes_own_latency_is_empty_where_there_is_none(tmp_path: Path) -> None:
    pair = np.array([[30, 40], [20, 25]])
    table = records(7, [SampledTrial(1, trial(0, pair)), SampledTrial(2, trial(1, pair[:1]))])
    assert table["runtime_ns"].tolist() == [20, 25, 0, 0]
    assert sample_table.from_npy(sample_table.to_npy(table)).tolist() == table.tolist()
    lines = list(csv.DictReader(io.StringIO(sample_table.to_csv(table))))
    assert [line["runtime_ns"] for line in lines] == ["20", "25", "", ""]
    trials = json.loads(sample_table.to_json(table))["trials"]
    assert [t["runtime_ns"] for t in trials] == [[20, 25], None]
    with pytest.raises(ValueError, match="another release"):
        sample_table.from_npy(sample_table.to_npy(np.zeros(3)))


def test_parquet_holds_the_same(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = records(7, [SampledTrial(1, trial(0, np.array([[30, 40]])))])
    sample_table.write_parquet(table, tmp_path / "s.parquet")
    read = parquet.read_table(tmp_path / "s.parquet")
    assert read["caller_ns"].to_pylist() == [30, 40]
    assert read["runtime_ns"].to_pylist() == [None, None]
    assert read["status"].to_pylist() == ["ok", "ok"]
