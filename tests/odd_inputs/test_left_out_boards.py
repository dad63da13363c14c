"""Boards that a sweep leaves out, runs in part, or loses: said, waited for, required, resumed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from agent.contract import codec
from agent.contract.api_messages import Enrolment
from orchestrator.client import Client
from orchestrator.settings import Settings
from support.cli import Shell, make_onnx
from support.farms import device_facts

RACK = "leftout"
QUICK = "scenario: {min_duration_s: 0.01, max_duration_s: 0.05, warm_up_s: 0, min_samples: 2}\n"


@pytest.fixture(scope="module")
def client(fleet_shell: Shell) -> Iterator[Client]:
    with Client.from_home(Settings(home=fleet_shell.home)) as found:
        yield found


@pytest.fixture(scope="module")
def spec(fleet_shell: Shell, client: Client) -> Path:
    """A sweep by tag on two boards: the farm's own, and one that has not said what it can run."""
    client.add_model(make_onnx(fleet_shell.home / "leftout.onnx", shape=[1, 4]), "leftout")
    (own,) = [d.name for d in client.devices() if d.connection == "online"]
    client.tag(own, {"rack": RACK})
    client.join_token("promised", tags={"rack": RACK})
    file = fleet_shell.home / "leftout.yaml"
    file.write_text(
        f"name: leftout\nmodels: leftout\ntrials: 1\n{QUICK}"
        f"runtimes: [{{backend: onnxruntime}}]\ndevices: {{select: {{rack: {RACK}}}}}\n"
    )
    return file


def report_in(client: Client, name: str) -> None:
    """The board ``name`` joins and says what it can run, over HTTP."""
    token = client.join_token(name, again=True).join_token
    body = codec.dumps(Enrolment(token, name, "0.1.0", device_facts(name)))
    answer = httpx.post(f"{client.url}/api/v1/enroll", content=body)
    assert answer.is_success, answer.text


def test_a_left_out_board_is_named_required_and_resumed(
    fleet_shell: Shell, client: Client, spec: Path
) -> None:
    refused = fleet_shell("sweep", "run", spec, "--strict", "--wait-for", "1s")
    assert refused.returncode == 1, refused.stdout
    assert "waiting for promised: has not said yet what it can run" in refused.stdout
    assert "sweep leftout was not submitted (--strict)" in refused.stderr
    assert "promised: has not said yet what it can run" in refused.stderr
    assert "leftout" not in [s.name for s in client.sweeps()]

    said = fleet_shell.fine("sweep", "run", spec)
    assert "left out: promised: the device has not said yet what it can run" in said
    nothing = fleet_shell("sweep", "resume", "leftout")
    assert nothing.returncode == 1, "every board that was left out still is"
    assert "left out: promised" in nothing.stdout

    report_in(client, "promised")
    assert client.sweep("leftout").returned == ["promised"]
    said = fleet_shell.fine("sweep", "resume", "leftout", "--detach")
    assert "leftout: 1 trial to run" in said
    assert "1 cells run that were skipped before" in said
    listed = fleet_shell.fine("sweep", "list")
    assert "admin" in listed, "who submitted it"

    ended = fleet_shell.fine("sweep", "cancel", "leftout", "--device", "promised")
    assert "leftout: 1 trial cancelled; cancelled" in ended
    assert "name the cell with --cell" in fleet_shell.refused(
        "sweep", "cancel", "leftout", "--trial", "1"
    )
    assert "there is no cell 'x'; known: leftout onnxruntime" in fleet_shell.refused(
        "sweep", "cancel", "leftout", "--cell", "x"
    )


def test_a_drained_board_says_why_everywhere(
    fleet_shell: Shell, client: Client, spec: Path
) -> None:
    said = fleet_shell.fine("device", "drain", "promised", "--note", "a new fan")
    assert "promised is drained" in said
    assert "no: a new fan" in fleet_shell.fine("device", "list")
    plan = client.plan(spec.read_text(), "s.yaml", "again")
    (board,) = [b for b in plan.boards if b.device == "promised"]
    assert board.left_out == (
        'the device is drained ("a new fan"); `benchfarm device enable promised`'
    )
    log = fleet_shell.fine("events", "--subject", "promised", "-o", "json")
    notes = [e["data"].get("note") for e in json.loads(log) if e["kind"] == "device_drained"]
    assert notes == ["a new fan"]
    client.enable("promised", True)


def test_a_board_that_comes_back_keeps_its_tags_and_a_sweep_by_tag_says_who_is_missing(
    fleet_shell: Shell, client: Client, spec: Path
) -> None:
    fleet_shell.fine("device", "retire", "promised", "--forget", "--yes")
    twice = fleet_shell.refused("device", "retire", "promised")
    assert "promised is retired already" in twice
    plan = client.plan(spec.read_text(), "s.yaml", "again")
    assert plan.missed == {"promised": "was in sweep leftout, and is retired"}
    assert "promised: was in sweep leftout, and is retired" in fleet_shell.fine(
        "sweep", "plan", spec, "--name", "again"
    ).replace("not selected any more: promised was", "promised: was")
    said = fleet_shell.fine("device", "join-token", "promised")
    assert f"promised is back: its tags are kept (rack={RACK})" in said
    assert "before it was retired promised also had onnxruntime==1.31.1" in said
    report_in(client, "promised")
    assert client.device("promised").tags == {"rack": RACK}
    client.retire("promised")


def test_an_unknown_kind_is_refused_and_versions_are_said(fleet_shell: Shell) -> None:
    said = fleet_shell.refused("events", "--kind", "sweep_submited")
    assert "did you mean 'sweep_submitted'?" in said
    assert "expected one of artifact_added, attempt_lost" in said
    assert fleet_shell.fine("--version").startswith("benchfarm 0.")
    for wrong in ("5", "5 minutes", "1y"):
        said = fleet_shell.refused("sweep", "run", "x.yaml", "--wait-for", wrong)
        assert f"--wait-for {wrong}: expected a number and s, min" in said
