"""Boards that are not here: each playbook run against what such a board answers."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from orchestrator.domain.device_class import recognise
from orchestrator.provisioning.boards import board_class
from orchestrator.store.device_class_files import device_classes
from playbooks import playbook, wheels
from playbooks.connection import Login
from playbooks.coral import UDEV_RULES
from playbooks.errors import StepFailed, Unfit
from playbooks.playbook import ProvisioningContext
from playbooks.power_rights import SUDOERS
from playbooks.step_runner import RunOutcome, StepEvent
from playbooks.target import STANDALONE, STATE, UNIT_PATH
from playbooks.wheels import Platform
from support.need import need
from support.replayed_host import (
    TOKEN,
    TRANSCRIPTS,
    NotInTranscript,
    ReplayedController,
    ReplayedHost,
)

COMMON = ["user", "python", "agent", "join", "class", "broker"]
ENDING = ["unit", "start", "heartbeat", "clean", "health"]
JETSON = ["tensorrt", "power rights"]
TFLITE = f"{STATE}/runtimes/tflite-2.3.0-0/env/bin/python"
ORT = f"{STATE}/runtimes/onnxruntime-1.31.1-0/env/bin/python"
SYSTEM = "/usr/bin/python3"
STANDALONE_PYTHON = f"{STANDALONE}/bin/python3"


@dataclass(frozen=True)
class Expected:
    """What becomes of a board. ``environments``: backend, version, interpreter."""

    device_class: str
    steps: list[str]
    environments: list[tuple[str, str, str]]
    agent_python: str
    glibc: tuple[int, int]
    groups: list[str]


BOARDS = {
    "jetson-nano-jetpack-4.6": Expected(
        "jetson-nano",
        ["board", *JETSON, *COMMON, "runtime tflite", "runtime tensorrt", *ENDING],
        [("tflite", "2.3.0", TFLITE), ("tensorrt", "8.2.1", TFLITE)],
        *(STANDALONE_PYTHON, (2, 27), ["video"]),
    ),
    "jetson-xavier-nx-jetpack-5": Expected(
        "jetson-xavier-nx",
        ["board", *JETSON, *COMMON, "runtime tflite", "runtime tensorrt", *ENDING],
        [("tflite", "2.3.0", TFLITE), ("tensorrt", "8.5.2.2", SYSTEM)],
        *(STANDALONE_PYTHON, (2, 31), ["video", "render"]),
    ),
    "jetson-orin-nano-jetpack-6": Expected(
        "jetson-orin-nano",
        ["board", *JETSON, *COMMON, "runtime onnxruntime", "runtime tensorrt", *ENDING],
        [("onnxruntime", "1.31.1", ORT), ("tensorrt", "10.3.0", SYSTEM)],
        *(STANDALONE_PYTHON, (2, 35), ["video", "render"]),
    ),
    "jetson-tx2-jetpack-4.6": Expected(
        "jetson-tx2",
        ["board", *JETSON, *COMMON, "runtime tflite", "runtime tensorrt", *ENDING],
        [("tflite", "2.3.0", TFLITE), ("tensorrt", "8.2.1", TFLITE)],
        *(STANDALONE_PYTHON, (2, 27), ["video"]),
    ),
    "jetson-agx-xavier-jetpack-5": Expected(
        "jetson-agx-xavier",
        ["board", *JETSON, *COMMON, "runtime tflite", "runtime tensorrt", *ENDING],
        [("tflite", "2.3.0", TFLITE), ("tensorrt", "8.5.2.2", SYSTEM)],
        *(STANDALONE_PYTHON, (2, 31), ["video", "render"]),
    ),
    "jetson-agx-orin-jetpack-6": Expected(
        "jetson-agx-orin",
        ["board", *JETSON, *COMMON, "runtime onnxruntime", "runtime tensorrt", *ENDING],
        [("onnxruntime", "1.31.1", ORT), ("tensorrt", "10.3.0", SYSTEM)],
        *(STANDALONE_PYTHON, (2, 35), ["video", "render"]),
    ),
    "jetson-thor-jetpack-7": Expected(
        "jetson-thor",
        ["board", *JETSON, *COMMON, "runtime onnxruntime", "runtime tensorrt", *ENDING],
        [("onnxruntime", "1.31.1", ORT), ("tensorrt", "10.13.3.9", SYSTEM)],
        *(SYSTEM, (2, 39), ["video", "render"]),
    ),
    "coral-dev-board-mendel-5": Expected(
        "coral-dev-board",
        [
            *("board", "libedgetpu", "driver", "device access", *COMMON),
            *("runtime tflite", "runtime edgetpu", *ENDING),
        ],
        [("tflite", "2.3.0", TFLITE), ("edgetpu", "2.3.0", TFLITE)],
        *(STANDALONE_PYTHON, (2, 28), ["apex"]),
    ),
}


@dataclass
class Bench:
    """A replayed board, and all that ``boards.add`` needs besides."""

    host: ReplayedHost
    work: ProvisioningContext
    controller: ReplayedController
    archive: Path
    events: list[StepEvent]
    notes: list[str]
    platforms: list[Platform]

    def add(self, **options: Any) -> RunOutcome:
        self.events.clear()
        return playbook.add(self.work, "one", Login("user@board"), **options)

    def steps(self) -> list[str]:
        return [e.step for e in self.events if e.status]

    def environments(self) -> list[tuple[str, str, str]]:
        return [(e["backend"], e["version"], e["python"]) for e in self.host.environments]


def bench(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    host = ReplayedHost.of(name)
    platforms: list[Platform] = []

    @contextlib.contextmanager
    def connected(login: Login, pins: object, _waiting: object) -> Iterator[ReplayedHost]:
        yield host

    def download(
        folder: Path, platform: Platform, requirements: Sequence[str], constraints: Sequence[str]
    ) -> None:
        platforms.append(platform)
        for text in requirements:
            write_wheel(folder, Requirement(text))

    monkeypatch.setattr(playbook, "connected", connected)
    monkeypatch.setattr(wheels, "_download", download)
    controller, events, notes = ReplayedController(host), [], []  # type: ignore[var-annotated]
    work = ProvisioningContext(
        home=tmp_path / "home",
        controller=controller,
        classes={c.name: board_class(c) for c in device_classes()},
        recognise=lambda facts: recognise(device_classes(), facts),
        on_event=events.append,
        on_message=notes.append,
    )
    archive = tmp_path / "cpython-3.12.11-aarch64-unknown-linux-gnu-install_only.tar.gz"
    archive.write_bytes(b"a standalone Python")
    return Bench(host, work, controller, archive, events, notes, platforms)


def write_wheel(folder: Path, requirement: Requirement) -> None:
    version = next((s.version for s in requirement.specifier if s.operator == "=="), "1")
    stem = f"{requirement.name.replace('-', '_')}-{version}"
    metadata = f"Metadata-Version: 2.1\nName: {requirement.name}\nVersion: {version}\n"
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{stem}.dist-info/METADATA", metadata)


@pytest.fixture(params=BOARDS)
def board(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Bench, Expected]:
    return bench(request.param, tmp_path, monkeypatch), BOARDS[request.param]


def test_every_transcript_is_run_and_says_that_it_was_not_recorded() -> None:
    found = {p.stem: p.read_text("utf-8") for p in TRANSCRIPTS.glob("*.yaml")}
    assert set(found) == set(BOARDS)
    for text in found.values():
        assert text.startswith("# Composed from published outputs, not recorded on a board.\n")
        assert "Sources: " in text


def test_a_board_becomes_one_of_the_farm_and_a_second_run_changes_nothing(
    board: tuple[Bench, Expected],
) -> None:
    made, expected = board
    outcome = made.add(python_archive=made.archive)
    assert made.notes == [f"one is recognised as {expected.device_class}"]
    assert made.steps() == expected.steps
    assert made.environments() == expected.environments
    assert f"agent under {expected.agent_python}" in made.host.changes
    assert made.host.member_of == ["benchfarm", *expected.groups]
    assert {(p.machine, p.glibc) for p in made.platforms} == {("aarch64", expected.glibc)}
    assert made.controller.asked == [expected.device_class]
    assert outcome.changed > len(expected.environments)

    before = (len(made.host.changes), dict(made.host.files), set(made.host.paths))
    assert made.add(python_archive=made.archive) == RunOutcome(len(expected.steps), 0)
    assert (len(made.host.changes), made.host.files, made.host.paths) == before


def test_no_secret_is_in_a_command_line(board: tuple[Bench, Expected]) -> None:
    made, _ = board
    made.add(python_archive=made.archive)
    assert [s.command for s in made.host.log if TOKEN in s.secret]
    assert not [s.command for s in made.host.log if TOKEN in s.command]


def test_a_python_that_is_too_old_is_said_with_the_way_out_before_anything_is_changed(
    board: tuple[Bench, Expected],
) -> None:
    made, expected = board
    if expected.agent_python == SYSTEM:
        made.add()
        assert STANDALONE not in made.host.paths
        return
    found = re.search(r"python=(\S+) /usr/bin/python3", made.host.transcript["examine"])
    assert found is not None
    with pytest.raises(Unfit, match=rf"found: {found[1]}.*--python-archive FILE.*aarch64"):
        made.add()
    assert made.host.changes == []


def test_a_dry_run_changes_nothing(board: tuple[Bench, Expected]) -> None:
    made, expected = board
    made.add(python_archive=made.archive, dry_run=True)
    assert made.host.changes == []
    ended = "python" if expected.agent_python != SYSTEM else "agent"
    assert made.steps()[-1] == ended


SUDO = "benchfarm ALL=(root) NOPASSWD: "


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("jetson-nano-jetpack-4.6", [0, 1]),
        ("jetson-xavier-nx-jetpack-5", list(range(9))),
        ("jetson-orin-nano-jetpack-6", [3, 0, 1, 2]),
        ("jetson-tx2-jetpack-4.6", [0, 1, 2, 3, 4]),
        ("jetson-agx-xavier-jetpack-5", list(range(8))),
        ("jetson-agx-orin-jetpack-6", [0, 1, 2, 3]),
        ("jetson-thor-jetpack-7", [0, 1, 2, 3]),
    ],
)
def test_the_agent_may_set_this_boards_modes_and_do_nothing_else_as_root(
    name: str, numbers: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench(name, tmp_path, monkeypatch)
    made.add(python_archive=made.archive)
    kept = "/opt/benchfarm/jetson_clocks.conf"
    assert made.host.files[SUDOERS].splitlines()[1:] == [
        f"{SUDO}/usr/sbin/nvpmodel -q",
        *(f"{SUDO}/usr/sbin/nvpmodel -m {n}" for n in numbers),
        f"{SUDO}/usr/bin/jetson_clocks --show",
        f"{SUDO}/bin/rm -f {kept}",
        f"{SUDO}/usr/bin/jetson_clocks --store {kept}",
        f'{SUDO}/usr/bin/jetson_clocks ""',
        f"{SUDO}/usr/bin/jetson_clocks --restore {kept}",
    ]


def test_sudo_reads_that_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own checker, as on the board."""
    visudo = shutil.which("visudo", path="/usr/sbin:/usr/bin:/sbin")
    need("visudo", visudo is not None, "it is not installed")
    assert visudo is not None
    made = bench("jetson-xavier-nx-jetpack-5", tmp_path, monkeypatch)
    made.add(python_archive=made.archive)
    path = tmp_path / "benchfarm"
    path.write_text(made.host.files[SUDOERS])
    checked = subprocess.run([visudo, "-cf", str(path)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    path.write_text(made.host.files[SUDOERS].replace("NOPASSWD:", "NOPASSWD"))
    assert subprocess.run([visudo, "-cqf", str(path)], capture_output=True).returncode != 0


def test_a_retired_board_is_as_it_was_found(board: tuple[Bench, Expected]) -> None:
    made, _ = board
    made.add(python_archive=made.archive)
    playbook.retire(made.work, "one", Login("user@board"))
    assert made.host.files == made.host.transcript.get("files", {})
    assert (made.host.member_of, made.host.enabled, made.host.joined) == (None, False, "")
    assert made.host.paths == set()


def answer(made: Bench, part: str, **instead: Any) -> None:
    """Another answer to the one command of the transcript that has ``part`` in it."""
    (given,) = (a for a in made.host.transcript["answers"] if part in a["command"])
    given.update(instead)


def test_jetpack_4_on_a_xavier_drives_trtexec_from_an_environment_that_was_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench("jetson-xavier-nx-jetpack-5", tmp_path, monkeypatch)
    answer(made, "sys.version_info", exit=1, err="AssertionError")
    named = {"name": "tensorrt", "python": re.escape(TFLITE), "version": "8.2.1"}
    made.host.transcript["named"].append(named)
    made.add(python_archive=made.archive)
    assert ("tensorrt", "8.2.1", TFLITE) in made.environments()


@pytest.mark.parametrize(
    ("name", "part", "out", "said"),
    [
        ("jetson-nano-jetpack-4.6", "trtexec", "", "neither trtexec.*nvidia-jetpack"),
        ("coral-dev-board-mendel-5", "libedgetpu", "", "install libedgetpu1-std .or libedgetpu1-m"),
        ("coral-dev-board-mendel-5", "test -e /dev/apex_0", "", "gasket-dkms"),
    ],
)
def test_what_a_vendor_has_to_install_is_named_before_the_agent_is_installed(
    name: str, part: str, out: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench(name, tmp_path, monkeypatch)
    answer(made, part, exit=1, out=out)
    with pytest.raises(Unfit, match=said):
        made.add(python_archive=made.archive)
    assert made.host.changes == ["mark"]


@pytest.mark.parametrize(
    ("device_class", "group", "rule"),
    [("coral-usb", "plugdev", 'ATTRS{idVendor}=="18d1"'), ("coral-pcie", "apex", '"apex", MODE')],
)
def test_a_host_whose_coral_is_for_root_alone_gets_a_udev_rule_and_its_group(
    device_class: str, group: str, rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same board as another class: its Python is too old for the bindings there as well."""
    made = bench("coral-dev-board-mendel-5", tmp_path, monkeypatch)
    made.host.transcript["groups"] = ["root", "users"]
    made.host.transcript["answers"] = [
        *(a for a in made.host.transcript["answers"] if "stat" not in a["command"]),
        {"command": imports_of("numpy", "tflite_runtime"), "exit": 1},
    ]
    made.add(device_class=device_class, python_archive=made.archive)
    assert rule in made.host.files[UDEV_RULES]
    assert made.host.member_of == ["benchfarm", group]
    assert made.environments()[-1] == ("edgetpu", "2.3.0", TFLITE)
    again = made.add(device_class=device_class, python_archive=made.archive)
    assert again.changed == 0


def imports_of(*names: str) -> str:
    code = "import sys; assert sys.version_info >= (3, 8)"
    return f"cd / && {SYSTEM} -I -c '{'; import '.join([code, *names])}'"


def test_a_gpu_host_needs_a_driver_that_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench("jetson-thor-jetpack-7", tmp_path, monkeypatch)
    ask = "nvidia-smi --query-gpu=name,driver_version --format=csv,noheader"
    smi = {"command": ask, "exit": 9, "err": "couldn't communicate with the NVIDIA driver"}
    made.host.transcript["answers"].append(smi)
    with pytest.raises(Unfit, match=r"communicate with the NVIDIA driver.*install NVIDIA's"):
        made.add(device_class="grace-gpu")
    smi.update({"exit": 0, "out": "NVIDIA GH200 480GB, 570.86.15"})
    made.add(device_class="grace-gpu")
    assert [e[0] for e in made.environments()] == ["onnxruntime", "pytorch"]
    assert SUDOERS not in made.host.files


def test_a_command_that_no_such_board_is_known_to_answer_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench("jetson-nano-jetpack-4.6", tmp_path, monkeypatch)
    made.host.transcript["answers"].clear()
    with pytest.raises(NotInTranscript, match="trtexec"):
        made.add(python_archive=made.archive)


def test_a_libedgetpu_that_does_not_go_with_the_interpreter_ends_the_run_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench("coral-dev-board-mendel-5", tmp_path, monkeypatch)
    error = "error: edgetpu does not answer: libedgetpu crashed the interpreter (SIGSEGV)"
    made.host.transcript["named"][0] = {"name": "edgetpu", "python": ".*", "error": error}
    with pytest.raises(StepFailed, match="SIGSEGV"):
        made.add(python_archive=made.archive)
    assert made.environments() == [("tflite", "2.3.0", TFLITE)]
    assert UNIT_PATH not in made.host.files


def test_bindings_that_nothing_on_the_board_has_are_named_with_what_gives_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench("jetson-orin-nano-jetpack-6", tmp_path, monkeypatch)
    answer(made, "sys.version_info", exit=1, err="ModuleNotFoundError: tensorrt")
    orin = made.work.classes["jetson-orin-nano"]
    system_only = next(r for r in orin.runtimes if not isinstance(r, str))
    object.__setattr__(system_only, "python", (SYSTEM,))
    with pytest.raises(Unfit, match=r"/usr/bin/python3 runs tensorrt.*python3-libnvinfer"):
        made.add(python_archive=made.archive)
