"""A farm that is sent such files goes on, and keeps nothing of them."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orchestrator.domain.errors import Busy, FarmError, UserError
from orchestrator.domain.file_inspection import CheckedFile, Question
from orchestrator.inspection import client
from orchestrator.inspection.client import ConfinedInspector
from orchestrator.service.models import registration
from orchestrator.service.models.registration import NewModel
from support import onnx_files
from support.confined_readers import MIB, TFLITE, processes_below
from support.farms import FarmKit
from support.serving import serving


def test_a_farm_goes_on_and_keeps_nothing(
    sqlite_farm: FarmKit, evil: Callable[..., ConfinedInspector], tmp_path: Path
) -> None:
    """Through the API: 422 with one sentence; others are answered meanwhile."""
    walled = evil("import time; time.sleep(600)", wall_s=3)
    walled._home = sqlite_farm.farm.settings.home
    kit = replace(sqlite_farm, farm=replace(sqlite_farm.farm, inspect=walled))
    sha256 = kit.farm.blobs.put(TFLITE.read_bytes())
    rows, answers = kit.rows(), []
    with serving(kit) as served, served.http(served.token("operator")) as http:
        rows = kit.rows()
        body = {"name": "mine", "file_name": "mine.tflite", "sha256": sha256}
        thread = threading.Thread(target=lambda: answers.append(http.post("/models", json=body)))
        thread.start()
        between = 0
        while thread.is_alive():
            with served.http(http.headers["Authorization"].removeprefix("Bearer ")) as other:
                assert other.get("/models").status_code == 200
            between += thread.is_alive()
        thread.join()
    [answer] = answers
    assert between > 0
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["kind"] == "bad_input"
    assert "mine.tflite: it could not be read within 3 s and 512 MiB" in error["message"]
    assert kit.rows() == rows
    assert sha256 not in kit.blobs()
    assert not list(kit.farm.settings.home.glob("inspect-*"))
    assert processes_below(kit.farm.settings.home) == []


def test_a_model_is_registered_and_drawn_by_confined_children(sqlite_farm: FarmKit) -> None:
    """The same as where the test's own process reads the file."""
    from orchestrator.service.models import network_graphs

    farm = sqlite_farm.farm
    walled = replace(farm, inspect=ConfinedInspector(farm.settings.home, 60, MIB))
    buffer = io.BytesIO()
    rng = np.random.default_rng(0)
    np.savez(
        buffer,
        inputs=rng.standard_normal((8, onnx_files.FEATURES)).astype(np.float32),
        labels=rng.integers(0, onnx_files.CLASSES, 8),
        calibration=rng.standard_normal((4, onnx_files.FEATURES)).astype(np.float32),
    )
    views = []
    for number, one in enumerate((farm, walled)):
        new = NewModel(
            f"dense{number}",
            "dense.onnx",
            one.blobs.put(onnx_files.dense_bytes()),
            dataset_name="set.npz",
            dataset_sha256=one.blobs.put(buffer.getvalue()),
        )
        views.append(registration.add(one, new).model_copy(update={"name": ""}))
        assert "18 MACs (36 FLOPs)" in network_graphs.svg(one, f"dense{number}")
    first, second = (view.model_dump(exclude={"created_at"}) for view in views)
    assert first == second


def test_few_are_read_at_once_and_few_wait(
    evil: Callable[..., ConfinedInspector], question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MAX_RUNNING", 1)
    monkeypatch.setattr(client, "MAX_WAITING", 1)
    reader = evil("import time; time.sleep(600)", wall_s=3)
    errors: list[Exception] = []

    def ask() -> None:
        try:
            reader(question, CheckedFile)
        except FarmError as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    most = 0
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        most = max(most, len(processes_below(reader._home)))
        time.sleep(0.02)
    assert most == 1
    assert [type(error) for error in errors] == [Busy, UserError, UserError]
    assert "too many files are being read" in str(errors[0])
    assert str(errors[0]).startswith(question.name)


def test_an_answer_that_makes_no_sense_is_not_kept(home: Path) -> None:
    """Python refuses to read an integer of thousands of digits from JSON."""
    text = '{"format": "onnx", "precision": %s}' % ("9" * 5000)
    from agent.contract.codec import ContractError

    with pytest.raises(ContractError):
        client.decode_answer(Question("", "m"), CheckedFile, 0, text)
    with pytest.raises(ContractError):
        client.decode_answer(Question("", "m"), CheckedFile, 0, "[" * 100_000)
