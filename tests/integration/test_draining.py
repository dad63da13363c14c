"""A device is kept free of work for a while, and is as it was afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from orchestrator.cli.device import drain
from orchestrator.client import Client
from orchestrator.service.views import DeviceView
from support.farms import FarmKit
from support.serving import Served, serving


@pytest.fixture
def served(sqlite_farm: FarmKit) -> Iterator[Served]:
    with serving(sqlite_farm) as running:
        yield running


@pytest.fixture
def client(served: Served) -> Iterator[Client]:
    with Client(served.url, served.token("operator")) as found:
        yield found


def busy(kit: FarmKit) -> int:
    """A device with one trial running and one that waits."""
    device_id = kit.device("board")
    kit.add_model()
    kit.submit(trials=2)
    kit.beat(device_id)
    return device_id


def test_the_running_trial_is_waited_for_and_nothing_follows(
    served: Served,
    client: Client,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kit = served.kit
    device_id = busy(kit)
    attempt = kit.last_rung()
    polled = threading.Event()
    monkeypatch.setattr(drain, "POLL_S", 0.02)

    def finish() -> None:
        assert polled.wait(30)
        kit.give(device_id, kit.ok(attempt))

    ask = client.device

    def asked(name: str) -> DeviceView:
        found = ask(name)
        if not found.enabled:
            polled.set()
        return found

    with drain.drained(client, "board", now=True):
        assert client.device("board").running is not None, "it was not to be waited for"
    monkeypatch.setattr(client, "device", asked)
    ending = threading.Thread(target=finish)
    ending.start()
    with drain.drained(client, "board", now=False):
        view = ask("board")
        assert (view.running, view.enabled, view.waiting) == (None, False, 1)
    ending.join()
    assert ask("board").enabled is True
    said = capsys.readouterr().out
    assert "board: waiting for sweep first: " in said
    assert said.endswith("board is enabled again, as it was\n")


def test_it_is_enabled_again_whatever_happened(
    served: Served, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    served.kit.device("board")
    with pytest.raises(KeyboardInterrupt), drain.drained(client, "board", now=False):
        raise KeyboardInterrupt
    assert client.device("board").enabled is True
    assert "enabled again, as it was" in capsys.readouterr().out


def test_one_that_was_drained_stays_so(
    served: Served, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    served.kit.device("board")
    client.enable("board", False)
    with drain.drained(client, "board", now=False):
        pass
    assert client.device("board").enabled is False
    assert capsys.readouterr().out == ""


def test_a_controller_that_went_away_meanwhile_is_said(
    sqlite_farm: FarmKit, capsys: pytest.CaptureFixture[str]
) -> None:
    sqlite_farm.device("board")
    with serving(sqlite_farm) as served:
        client = Client(served.url, served.token("operator"))
        kept = drain.drained(client, "board", now=False)
        kept.__enter__()
    with client:
        kept.__exit__(None, None, None)
    said = capsys.readouterr().err
    assert "board could not be enabled again" in said
    assert "benchfarm device enable board" in said
