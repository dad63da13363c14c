"""One running controller for all odd inputs; the networks are built by each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.cli import Shell, make_onnx, running


@pytest.fixture(scope="session")
def farm_shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """``benchfarm up --local-agent``, shared: a test leaves it usable and names its own models."""
    with running(tmp_path_factory.mktemp("odd") / "home") as found:
        yield found


@pytest.fixture(scope="session")
def fleet_shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Another one, for tests that add boards, drain and rename them: a board that is there is a row
    in every sweep."""
    with running(tmp_path_factory.mktemp("fleet") / "home") as found:
        yield found


@pytest.fixture(scope="session")
def measured_sweep(farm_shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a finished sweep: a tiny network with 1 and with 2 threads, two trials each, the
    first of them the baseline; and a cell that is skipped."""
    folder = tmp_path_factory.mktemp("measured")
    network = make_onnx(folder / "reported.onnx", shape=[1, 3, 8, 8])
    farm_shell.fine("model", "add", network, "--name", "reported")
    (folder / "reported.yaml").write_text(MEASURED)
    farm_shell.fine("sweep", "run", folder / "reported.yaml")
    return "reported"


MEASURED = """
name: reported
models: [reported]
runtimes:
  - {backend: onnxruntime, threads: [1, 2]}
  - {backend: onnxruntime, precision: bf16}
trials: 2
scenario: {min_duration_s: 0.05, max_duration_s: 0.2, warm_up_s: 0.05, min_samples: 50}
baseline: {threads: 1, precision: fp32}
"""
