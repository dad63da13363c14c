"""Wheelhouses: what fits a board, what its own markers ask for, and the agent's own wheel."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import agent
from playbooks import wheels
from playbooks.errors import WheelsMissing
from playbooks.wheels import Platform, Wheelhouse, agent_requirements, agent_wheel, fetch_wheelhouse

PI = Platform("aarch64", "3.11.2", (2, 36))


def make_wheel(
    folder: Path, name: str, version: str = "1.0", requires: tuple[str, ...] = ()
) -> None:
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {text}\n" for text in requires)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


def test_pip_is_told_the_boards_platform() -> None:
    flags = PI.flags
    assert "manylinux_2_36_aarch64" in flags
    assert "manylinux_2_17_aarch64" in flags
    assert "manylinux_2_37_aarch64" not in flags
    assert flags[flags.index("--python-version") + 1] == "3.11"
    assert "cp311" in flags


def test_markers_are_read_for_the_board_and_not_for_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip reads them for its own interpreter, and would leave out what only the board needs."""
    index, cache = tmp_path / "index", tmp_path / "cache"
    index.mkdir()
    make_wheel(
        *(index, "top", "1.0"),
        (
            'only-there>=1; python_full_version == "3.11.2" and platform_machine == "aarch64"',
            'never; sys_platform == "win32"',
            'optional; extra == "more"',
        ),
    )
    make_wheel(index, "only_there")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    found = fetch_wheelhouse(cache, Platform("aarch64", "3.11.2", (2, 36)), ["top"])
    assert [w.name for w in found.wheels] == [
        "only_there-1.0-py3-none-any.whl",
        "top-1.0-py3-none-any.whl",
    ]
    make_wheel(index, "top", "2.0")
    assert fetch_wheelhouse(cache, PI, ["top"]) == found  # kept: boards of a kind get the same
    assert len(fetch_wheelhouse(cache, Platform("x86_64", "3.11.2", (2, 36)), ["top"]).wheels) == 1


def test_pins_hold_what_is_fetched_and_bring_nothing_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, cache = tmp_path / "index", tmp_path / "cache"
    index.mkdir()
    make_wheel(index, "top", "1.0", ("needed", 'late; platform_machine == "aarch64"'))
    for name in ("needed", "late", "unasked"):
        make_wheel(index, name, "1.0")
        make_wheel(index, name, "2.0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    newest = fetch_wheelhouse(cache, PI, ["top"])
    held = fetch_wheelhouse(cache, PI, ["top"], ("needed==1.0", "late==1.0", "unasked==1.0"))
    assert [w.name.split("-")[:2] for w in newest.wheels] == [
        *(["late", "2.0"], ["needed", "2.0"], ["top", "1.0"]),
    ]
    assert [w.name.split("-")[:2] for w in held.wheels] == [
        *(["late", "1.0"], ["needed", "1.0"], ["top", "1.0"]),
    ]


def test_what_the_index_has_not_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(WheelsMissing, match=r"Python 3.11 on aarch64 \(glibc 2.36\).*nothing-such"):
        fetch_wheelhouse(tmp_path, PI, ["nothing-such"])
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]


def test_the_agents_own_wheel_holds_the_agent_alone(tmp_path: Path) -> None:
    wheel = agent_wheel(tmp_path)
    assert agent_wheel(tmp_path) == wheel
    target = tmp_path / "installed"
    command = [sys.executable, "-I", "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*command, "--target", str(target), str(wheel)], check=True)
    source = Path(agent.__file__).parent
    assert {p.name for p in target.iterdir()} == {
        *("agent", "bin", f"benchfarm-{agent.__version__}.dist-info"),
    }
    for path in source.rglob("*.py"):
        assert (target / "agent" / path.relative_to(source)).read_bytes() == path.read_bytes()
    locks = {path.relative_to(source) for path in source.rglob("*.lock")}
    assert {path.relative_to(target / "agent") for path in target.rglob("*.lock")} == locks != set()


def test_the_agent_needs_no_numpy_and_nothing_of_the_controllers() -> None:
    needed = " ".join(agent_requirements(PI))
    assert "celery" in needed
    assert "packaging" in needed  # kombu's Redis transport imports it
    for other in ("numpy", "sqlalchemy", "fabric", "onnxruntime"):
        assert other not in needed


def test_a_wheelhouses_key_is_its_content(tmp_path: Path) -> None:
    make_wheel(tmp_path, "one")
    house = Wheelhouse(tmp_path, ("one",))
    before = house.key
    make_wheel(tmp_path, "two")
    assert house.key != before
    assert wheels.Wheelhouse(tmp_path, ("other",)).key != house.key


def test_boards_of_a_kind_have_their_wheels_fetched_and_built_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they ask at the same time: one replaced while it is sent would arrive broken."""
    together = threading.Barrier(8, timeout=60)
    fetched: list[Path] = []
    written: list[Path] = []
    write = wheels._write_wheel

    def fetch(folder: Path, platform: Platform, requirements: object, constraints: object) -> None:
        fetched.append(folder)
        time.sleep(0.2)  # long enough for every other board to have asked
        make_wheel(folder, "needed")

    def counted(path: Path, files: dict[str, bytes], info: str) -> None:
        written.append(path)
        time.sleep(0.2)
        write(path, files, info)

    monkeypatch.setattr(wheels, "_fetch", fetch)
    monkeypatch.setattr(wheels, "_write_wheel", counted)

    def ask(_: int) -> tuple[str, bytes]:
        together.wait()
        return fetch_wheelhouse(tmp_path, PI, ["needed"]).key, agent_wheel(tmp_path).read_bytes()

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1
    assert (len(fetched), len(written)) == (1, 1)
