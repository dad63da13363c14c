"""What the commands about devices show, and the agent's log file, without a controller."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

import agent
from orchestrator.cli.device import doctor, logs, watch
from orchestrator.domain.errors import UserError
from orchestrator.provisioning.boards import is_local
from orchestrator.service.devices import devices
from playbooks.doctor import DoctorFinding, agent_finding
from support.farms import FarmKit


def log_file(folder: Path, *ages_s: float) -> Path:
    """A line of each age, each with a second line that has no time of its own."""
    path = folder / "agent.log"
    now = datetime.now()
    path.write_text(
        "".join(
            f"{now - timedelta(seconds=age):%Y-%m-%d %H:%M:%S},123 INFO agent: {age}\n"
            f"  more {age}\n"
            for age in ages_s
        )
    )
    return path


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1h", 3600), ("2d", 172800)]
)
def test_a_span_of_time_is_read(text: str, seconds: float) -> None:
    assert logs.seconds(text) == seconds


@pytest.mark.parametrize("text", ["h", "1", "1w", "-1h", "1 h", "1h30m", "9" * 7 + "s"])
def test_what_is_no_span_of_time_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="expected a number and one of s, m, h, d"):
        logs.seconds(text)


def test_the_last_lines_of_a_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = log_file(tmp_path, 7200.0, 60.0)
    logs.show_file(path, 1, follow=False, since_s=None)
    assert capfd.readouterr().out == "  more 60.0\n"
    logs.show_file(path, 100, follow=False, since_s=3600.0)
    shown = capfd.readouterr().out
    assert shown.endswith("INFO agent: 60.0\n  more 60.0\n")
    assert "7200" not in shown
    logs.show_file(path, 100, follow=False, since_s=10.0)
    assert capfd.readouterr().out == ""


def test_a_log_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"agent\.log cannot be read"):
        logs.show_file(tmp_path / "agent.log", 1, follow=False, since_s=None)
    assert not is_local(tmp_path, "board")


def test_a_line_for_each_device(sqlite_farm: FarmKit) -> None:
    kit = sqlite_farm
    device_id = kit.device("board")
    kit.enrol("silent")
    kit.add_model()
    kit.submit(trials=2)
    kit.beat(device_id)
    kit.clock.advance(10)
    lines = watch.rows(devices.devices(kit.farm), kit.clock.at)
    board, silent = lines
    assert (board["name"], board["connection"], board["enabled"]) == ("board", "online", "yes")
    assert str(board["running"]).startswith("sweep first: ")
    assert (board["running since"], board["last heartbeat"]) == ("10 s", "10 s")
    assert board["waiting"] == 1
    assert (silent["connection"], silent["running"], silent["last heartbeat"]) == (
        *("offline", "-"),
        "-",
    )


def test_what_the_controller_knows_is_judged(sqlite_farm: FarmKit) -> None:
    kit = sqlite_farm
    kit.device("board")

    def failed() -> dict[str, DoctorFinding]:
        found = doctor.known(devices.device(kit.farm, "board"), kit.clock.at)
        assert all(bool(f.remedy) != f.ok for f in found)
        return {f.check: f for f in found if not f.ok}

    if agent.__version__ == "0.1.0":  # what the kit's agents say they are
        assert failed() == {}
    kit.clock.advance(3600)
    assert "1 h 0 min ago: offline" in failed()["heartbeat"].text
    view = devices.device(kit.farm, "board")
    old = doctor.known(view.model_copy(update={"agent_version": "0.0.1"}), kit.clock.at)
    assert "device upgrade board" in next(f for f in old if f.check == "version").remedy


def test_the_boards_own_word_is_given_a_remedy() -> None:
    failed = {"check": "token", "ok": False, "text": "403"}
    found = agent_finding(failed, "board")
    assert (found.side, found.ok, found.text) == ("board", False, "403")
    assert "device add board" in found.remedy
    fine = agent_finding({**failed, "ok": True}, "board")
    assert fine == replace(found, ok=True, remedy="")
    with pytest.raises(KeyError):
        agent_finding({"ok": True}, "board")
