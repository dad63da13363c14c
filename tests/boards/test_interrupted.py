"""Provisioning that was interrupted is completed by the same call."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from farm.board import PASSWORD, Board
from farm.farm import Farm
from orchestrator.client import Client
from orchestrator.provisioning.boards import RemoteController, provisioning_context
from orchestrator.settings import Settings
from playbooks import playbook
from playbooks.connection import Login, connected
from playbooks.errors import BoardDiskFull, ConnectionLost, InvalidRequest, NoRoot, StepFailed
from playbooks.host_keys import PinnedHostKeys
from playbooks.playbook import ProvisioningContext
from playbooks.step_runner import RunOutcome, StepEvent
from support.cli import Shell

Find = Callable[[str], Board]


def add(work: ProvisioningContext, name: str, login: Login, **options: Any) -> RunOutcome:
    """Add a board with a class that fits any processor of this machine."""
    return playbook.add(work, name, login, device_class="x86-64-generic", **options)


class Events:
    """Records a playbook's events, and injects faults at its steps."""

    def __init__(self) -> None:
        self.received: list[StepEvent] = []
        self.faults: dict[str, Callable[[], object]] = {}

    def __call__(self, event: StepEvent) -> None:
        self.received.append(event)
        if not event.status and event.step in self.faults:
            self.faults.pop(event.step)()

    def changed(self) -> list[str]:
        return [e.step for e in self.received if e.status == "changed"]


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def work(shell: Shell, events: Events) -> Iterator[ProvisioningContext]:
    with Client.from_home(Settings(home=shell.home)) as client:
        yield provisioning_context(shell.home, RemoteController(client), events, lambda line: None)


@pytest.fixture
def login(farm: Farm) -> Callable[..., Login]:
    def make(to: Board, password: str = "") -> Login:
        return Login(f"bench@{to.address}", str(farm.key), password)

    return make


def test_power_cuts_and_a_full_disk_on_the_way(
    work: ProvisioningContext, events: Events, board: Find, login: Callable[..., Login]
) -> None:
    two = board("two")
    events.faults["agent"] = two.fill_disk
    with pytest.raises(BoardDiskFull, match="MiB free"):
        add(work, "unlucky", login(two))
    two.empty_disk()

    events.faults["runtime onnxruntime"] = two.cut_power
    with pytest.raises(ConnectionLost):
        add(work, "unlucky", login(two))
    assert "join" in events.changed()
    two = board("two")

    events.faults["unit"] = two.cut_network
    with pytest.raises(ConnectionLost):
        add(work, "unlucky", login(two))
    two = board("two")

    events.received.clear()
    add(work, "unlucky", login(two))
    assert "join" not in events.changed()
    # the scheduler may have started a check before the last step does
    assert [n for n in events.changed() if n != "health"][-2:] == ["heartbeat", "clean"]
    assert work.controller.known("unlucky").health == "good"
    assert work.controller.known("unlucky").runtimes == {"onnxruntime 1.31.1"}

    two.cut_power()  # the agent starts when the board boots
    seen = work.controller.known("unlucky").seen_at
    two = board("two")
    two.inside("until systemctl is-active benchfarm-agent; do sleep 0.2; done")
    events.received.clear()
    assert add(work, "unlucky", login(two)).changed in (0, 1)  # it may have sent no heartbeat yet
    assert set(events.changed()) <= {"heartbeat"}
    assert work.controller.known("unlucky").seen_at != seen

    playbook.retire(work, "unlucky", login(two))
    assert not work.controller.known("unlucky").joined


def test_two_at_once_on_one_name(
    work: ProvisioningContext, events: Events, board: Find, login: Callable[..., Login]
) -> None:
    two = board("two")
    refused: list[str] = []

    def second() -> None:
        with pytest.raises(InvalidRequest) as caught:
            add(work, "twice", login(two), dry_run=True)
        refused.append(str(caught.value))
        raise KeyboardInterrupt  # stop the first one, too

    events.faults["user"] = second
    with pytest.raises(KeyboardInterrupt):
        add(work, "twice", login(two))
    assert "another `benchfarm` works on 'twice'" in refused[0]
    playbook.retire(work, "twice", login(two))
    assert two.inside("ls /opt") == ""


def test_sudo_with_a_password(board: Find, login: Callable[..., Login], tmp_path: Path) -> None:
    host = board("asks")
    pins = PinnedHostKeys(tmp_path / "known_hosts", lambda line: None)
    with connected(login(host, PASSWORD), pins) as there:
        assert there.run("id -un; cat", root=True, secret="a secret\n").out == "root\na secret\n"
        assert there.run("id -un; cat", secret="a secret\n").out == "bench\na secret\n"
        heard: list[bytes] = []
        there.stream("id -un", heard.append)
        assert b"".join(heard) == b"root\n"
        with pytest.raises(StepFailed, match="no such"):
            there.stream("sh -c 'echo no such thing >&2; exit 3'", heard.append)
    with (
        connected(login(host, "wrong"), pins) as there,
        pytest.raises(NoRoot, match="with that password"),
    ):
        there.run("true", root=True)
    with connected(Login(f"bench@{host.address}", password=PASSWORD), pins) as there:
        assert there.output("id -un") == "bench"


def test_through_a_jump_host_of_the_users_own_configuration(
    farm: Farm, board: Find, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jump, target = board("one"), board("two")
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text(
        f"Host *\n  User bench\n  IdentityFile {farm.key}\n"
        f"Host inner\n  HostName {target.address}\n  ProxyJump {jump.address}\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    notes: list[str] = []
    pins = PinnedHostKeys(tmp_path / "known_hosts", notes.append)
    with connected(Login("inner"), pins) as there:
        assert there.output("hostname; echo $SSH_CLIENT").split()[:2] == ["two", jump.address]
    assert [n for n in notes if jump.fingerprint() in n]
    assert [n for n in notes if target.fingerprint() in n]
    assert len(notes) == 2


def test_a_standalone_python_is_brought_along(
    work: ProvisioningContext,
    events: Events,
    board: Find,
    login: Callable[..., Login],
    tmp_path: Path,
) -> None:
    two = board("two")
    archive = tmp_path / "python.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for source, name in (("bin/python3.11", "bin/python3"), ("lib/python3.11",) * 2):
            tar.add(two.tree / "usr" / source, f"python/{name}")

    def enough() -> None:
        raise KeyboardInterrupt

    two.inside("mv /usr/bin/python3.11 /usr/bin/hidden")
    try:
        events.faults["join"] = enough
        with pytest.raises(KeyboardInterrupt):
            add(work, "old", login(two), python_archive=archive)
        assert events.changed() == ["board", "user", "python", "agent"]
        ask = "import sys; print(sys.base_prefix)"
        said = two.inside(f"/opt/benchfarm/agent/bin/python -I -c '{ask}'")
        assert said == "/opt/benchfarm/python\n"

        (tmp_path / "no.tar.gz").write_bytes(b"no archive")
        two.inside("rm -r /opt/benchfarm/python")
        with pytest.raises(StepFailed, match="tar"):
            add(work, "old", login(two), python_archive=tmp_path / "no.tar.gz")
        playbook.retire(work, "old", login(two))
        assert two.inside("ls /opt") == ""
    finally:
        two.inside("mv /usr/bin/hidden /usr/bin/python3.11")
