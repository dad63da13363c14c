"""The HTTP API over a real socket: what people and devices do with it."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from agent.contract import codec
from agent.contract.api_messages import HeartbeatAnswer, Started
from orchestrator.client import Client
from orchestrator.domain.errors import UserError
from orchestrator.service.scheduling import dispatch
from support import onnx_files
from support.farms import judged, spec_text
from support.http_calls import beat, kind
from support.serving import Served


def test_a_person_does_the_main_job(
    served: Served, operator: Client, board: httpx.Client, tmp_path: Path
) -> None:
    path = tmp_path / "dense.onnx"
    path.write_bytes(onnx_files.dense_bytes("n"))
    with pytest.raises(UserError, match=r"dense\.onnx: input 'x' has the free shape"):
        operator.add_model(path)
    assert served.kit.blobs() == set()
    assert operator.add_model(path, shapes={"x": [1, 6]}).name == "dense"
    text = spec_text(trials=2)
    assert operator.plan(text, "mine.yaml").trials == 2
    assert operator.submit(text, "mine.yaml", "other").name == "other"
    board.put("/devices/board/heartbeat", json=beat())
    for _ in range(2):
        attempt = served.kit.last_rung()
        started = codec.loads(Started, board.post(f"/attempts/{attempt}/start").content)
        assert board.get(f"/blobs/{started.request.model.sha256}").content == path.read_bytes()
        result = codec.dumps(served.kit.ok(attempt, list(range(1000, 1200))))
        given = board.put(f"/attempts/{attempt}/result", content=result)
        assert (given.status_code, given.json()) == (200, {"accepted": True})
    view = operator.sweep("other")
    assert (view.state, view.counts) == ("done", {"done": 2})
    assert [v.name for v in operator.sweeps()] == ["other"]
    for form in ("json", "html", "markdown", "csv"):
        assert "dense" in operator.report_text("other", form)
    assert [d.name for d in operator.devices()] == ["board"]


def test_a_check_is_asked_for_run_and_read(
    served: Served, operator: Client, board: httpx.Client
) -> None:
    with pytest.raises(UserError, match="there is no device 'nobody'"):
        operator.ask_check("nobody")
    asked = operator.ask_check("board")
    assert (asked.why, asked.state, asked.ok) == ("asked for", "pending", None)
    with pytest.raises(UserError, match="health check 'board 999'"):
        operator.check("board", 999)
    kit = served.kit
    dispatch.dispatch(kit.farm, kit.device_id("board"))
    attempt = kit.last_rung()
    assert board.post(f"/attempts/{attempt}/start").status_code == 200
    given = codec.dumps(judged(kit.ok(attempt)))
    assert board.put(f"/attempts/{attempt}/result", content=given).status_code == 200
    assert operator.check("board", asked.id).ok
    assert [c.id for c in operator.checks("board")] == [asked.id]
    assert operator.device("board").health == "good"
    assert operator.maintain("board", True).health == "maintenance"


def test_the_controller_says_where_boards_reach_it(served: Served, operator: Client) -> None:
    said = operator.controller()
    assert said.url == served.kit.farm.settings.public_url
    assert not said.local_broker  # redis://broker.invalid


def test_superseded_is_409(served: Served, operator: Client, board: httpx.Client) -> None:
    served.kit.add_model()
    served.kit.submit()
    board.put("/devices/board/heartbeat", json=beat())
    attempt = served.kit.last_rung()
    operator.cancel("first")
    assert kind(board.post(f"/attempts/{attempt}/start")) == (409, "superseded")
    answer = board.put(f"/attempts/{attempt}/result", content=codec.dumps(served.kit.ok(attempt)))
    assert kind(answer) == (409, "superseded")
    cancel = board.put("/devices/board/heartbeat", json=beat(attempt))
    assert codec.loads(HeartbeatAnswer, cancel.content).cancel


def test_retiring_says_how_many_trials_it_took_back(served: Served, operator: Client) -> None:
    served.kit.device("board")
    served.kit.add_model()
    served.kit.submit(trials=2)
    assert operator.device("board").waiting == 2
    retired = operator.retire("board")
    assert (retired.cancelled, retired.kept) == (2, True)
    assert operator.device("board").connection == "retired"
    assert operator.sweep("first").state == "cancelled"
