"""A whole fleet from one file: three amd64 boards and an emulated aarch64 one, side by side.

The aarch64 board proves installing, probing and reporting on ARM, never speed.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from farm.board import Board, Plan
from farm.cache import keep_wheels
from farm.farm import Farm
from support import cli
from support.cli import BENCHFARM, Shell, make_onnx
from support.need import need
from support.servers import redis_program, redis_server

Find = Callable[[str], Board]

BOOT_S = 180.0
FLEET = ("edge-1", "edge-2", "edge-3", "arm")
SPEC = """
name: across
models: [tiny]
runtimes: [{backend: onnxruntime, threads: 1}]
trials: 1
scenario: {min_duration_s: 0, max_duration_s: 0.5, min_samples: 5, warm_up_s: 0}
"""


@pytest.fixture
def fleet(farm: Farm) -> Iterator[dict[str, Board]]:
    for name in FLEET:
        if name not in farm.boards:
            farm.add(Plan(name, "arm64" if name == "arm" else "amd64"))
    boards = {name: farm.boards[name] for name in FLEET}
    for board in boards.values():
        board.on()
    for board in boards.values():
        board.wait_ssh(BOOT_S)
    yield boards
    for board in boards.values():
        board.cut_power()


@pytest.fixture
def big_shell(farm: Farm, postgres_url: str, tmp_path: Path) -> Iterator[Shell]:
    """``benchfarm`` on real Redis and PostgreSQL."""
    program = redis_program()
    need("redis", program is not None, "no redis-server on the path")
    assert program is not None
    home, host = tmp_path / "home", farm.network.gateway
    keep_wheels(home)
    with (
        redis_server(program, host) as broker,
        cli.running(
            home,
            ("--host", host),
            BENCHFARM_BROKER_URL=broker,
            BENCHFARM_DATABASE_URL=postgres_url,
        ) as shell,
    ):
        yield shell


def write(path: Path, farm: Farm, boards: dict[str, Board], **more: dict[str, object]) -> Path:
    """Write an inventory: amd64 boards with a class, aarch64 ones whose class is detected."""
    devices: dict[str, dict[str, object]] = {}
    for name, board in boards.items():
        devices[name] = {"ssh": f"bench@{board.address}", **more.get(name.replace("-", "_"), {})}
        if board.plan.architecture == "amd64":
            devices[name]["class"] = "x86-64-generic"  # fits any processor of this machine
    text = {"defaults": {"identity": str(farm.key), "tags": {"rack": "1"}}, "devices": devices}
    path.write_text(yaml.safe_dump(text, sort_keys=False))
    return path


def changed(said: str) -> dict[str, int]:
    """Board → the number of changed steps that ``apply`` printed."""
    found = re.findall(r"^(\S+): \d+ steps, changed=(\d+)", said, re.MULTILINE)
    return {name: int(number) for name, number in found}


def differences(shell: Shell, file: Path) -> list[tuple[str, str, str, str]]:
    ended = shell("inventory", "diff", file, "-o", "json")
    rows = json.loads(ended.stdout)
    assert ended.returncode == (1 if rows else 0), ended.stderr
    return [(r["device"], r["what"], r["found"], r["wanted"]) for r in rows]


@pytest.mark.timeout(1800)
def test_a_fleet_from_nothing_to_a_report_and_back(
    farm: Farm, fleet: dict[str, Board], big_shell: Shell, tmp_path: Path
) -> None:
    shell = big_shell
    file = write(tmp_path / "farm.yaml", farm, fleet, edge_2={"tags": {"builder": "yes"}})
    assert [d[:2] for d in differences(shell, file)] == [(n, "registered") for n in FLEET]

    said = shell.fine("inventory", "apply", file, limit_s=1200)
    assert all(number > 5 for number in changed(said).values()), said
    assert set(changed(said)) == set(FLEET)
    again = shell.fine("inventory", "apply", file, limit_s=600)
    assert changed(again) == dict.fromkeys(FLEET, 0)
    assert "4 boards: 4 as the file says, 0 failed, changed=0" in again
    assert differences(shell, file) == []

    found = {d["name"]: d for d in json.loads(shell.fine("device", "list", "-o", "json"))}
    assert {n: d["connection"] for n, d in found.items()} == dict.fromkeys(FLEET, "online")
    assert (found["arm"]["device_class"], found["arm"]["facts"]["machine"]) == (
        *("arm64-generic", "aarch64"),
    )
    assert found["edge-1"]["tags"] == {"rack": "1"}
    assert found["edge-2"]["tags"] == {"rack": "1", "builder": "yes"}

    _sweeps(shell, tmp_path)
    _shows_drift_and_mends_it(shell, file)

    keep = {"edge-1": fleet["edge-1"]}
    kept = write(tmp_path / "kept.yaml", farm, keep)
    said = shell.fine("inventory", "apply", kept)
    assert "arm, edge-2, edge-3 (--prune retires them)" in said
    assert "say --yes" in shell.refused("inventory", "apply", kept, "--prune")
    said = shell.fine("inventory", "apply", kept, "--prune", "--yes", limit_s=600)
    assert all(fleet[n].inside("ls /opt") == "" for n in FLEET if n != "edge-1")
    assert changed(said)["edge-1"] == 0
    assert fleet["edge-1"].inside("systemctl is-active benchfarm-agent") == "active\n"
    shell.fine("device", "retire", "edge-1")


def _sweeps(shell: Shell, folder: Path) -> None:
    shell.fine("model", "add", make_onnx(folder / "tiny.onnx", shape=[1, 8]))
    spec = folder / "sweep.yaml"
    spec.write_text(SPEC)
    assert "4 of 4 trials ended; done" in shell.fine("sweep", "run", spec, limit_s=600)
    rows = json.loads(shell.fine("report", "across", "-o", "json"))["rows"]
    assert sorted((r["device"], r["status"]) for r in rows) == [(n, "ok") for n in sorted(FLEET)]


def _shows_drift_and_mends_it(shell: Shell, file: Path) -> None:
    shell.fine("device", "tag", "edge-1", "rack=2", "owner=me")
    text = file.read_text().replace("  edge-3:\n", "  edge-3:\n    enabled: false\n")
    file.write_text(text)
    drift = [
        ("edge-1", "tags.owner", "me", "-"),
        ("edge-1", "tags.rack", "2", "1"),
        ("edge-3", "enabled", "true", "false"),
    ]
    assert differences(shell, file) == drift
    said = shell.fine("inventory", "apply", file, "-l", "name=edge-1")
    assert changed(said) == {"edge-1": 1}
    assert differences(shell, file) == drift[-1:]
    assert changed(shell.fine("inventory", "apply", file, "-l", "name=edge-3")) == {"edge-3": 1}
    assert differences(shell, file) == []


def test_one_board_that_fails_stops_no_other_and_ctrl_c_leaves_none_in_the_middle(
    farm: Farm, shell: Shell, board: Find, tmp_path: Path
) -> None:
    one, two = board("one"), board("two")
    file = write(tmp_path / "farm.yaml", farm, {"one": one, "two": two})
    two.cut_power()
    ended = shell("inventory", "apply", file)
    assert ended.returncode == 1
    assert f"error: two: bench@{two.address}:22" in ended.stderr
    assert re.search(r"^two .*failed: bench@", ended.stdout, re.MULTILINE), ended.stdout
    assert "2 boards: 1 as the file says, 1 failed" in ended.stdout
    # the board of other tests is not in this file
    rows = [row for row in differences(shell, file) if row[0] != "kept"]
    ((device, what, found, _), (other, *_)) = rows
    assert (device, what, other) == ("two", "reached", "two")
    assert found.startswith(f"no: bench@{two.address}")

    two = board("two")
    said = _stopped_at(shell, file, "two: agent …")
    assert re.search(r"^two +\d+ .*stopped on the way", said, re.MULTILINE), said
    assert "the same command carries on" in said
    ended = shell("inventory", "apply", file)
    assert changed(ended.stdout)["one"] == 0
    assert "two: user" not in ended.stdout
    assert "2 boards: 2 as the file says" in ended.stdout
    for name in ("one", "two"):
        shell.fine("device", "retire", name)


def _stopped_at(shell: Shell, file: Path, line: str) -> str:
    """The output of ``apply`` when Ctrl-C is pressed after that line."""
    words = [str(BENCHFARM), "inventory", "apply", str(file)]
    environment = {**shell.environment, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        words,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        said = ""
        while line not in said:
            read = process.stdout.readline()
            assert read, said
            said += read
        process.send_signal(signal.SIGINT)
        said += process.stdout.read()
        assert process.wait(timeout=120) == 130, said
    return said
