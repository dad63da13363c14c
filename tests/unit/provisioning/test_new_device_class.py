"""A device class is one YAML file: a further one is dropped in, and nothing else is touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MY_BOARD = """\
name: my-board
title: A board of mine
priority: 90
recognise: {model: "my board"}
examples:
  - {machine: aarch64, model: My Board Rev 2, accelerators: nvidia_gpu pci My GPU}
runtimes: [onnxruntime]
targets: {onnxruntime: {CPU: [fp32]}}
telemetry: [thermal]
steps: [nvidia-driver]
"""
PROGRAM = """
from agent.contract.device import DeviceFacts
from orchestrator.domain.device_class import recognise
from orchestrator.provisioning.boards import board_class
from orchestrator.provisioning.fleet_file import load
from orchestrator.store.device_class_files import device_class, device_classes
from playbooks.class_steps import chosen
from playbooks.playbook import registration
from pathlib import Path
import sys

facts = DeviceFacts("host", "aarch64", "Linux", "3.12", model="My Board Rev 2")
print(recognise(device_classes(), facts), device_class("my-board").title)
print(load(Path(sys.argv[1])).boards[0].device_class)
for step in registration(chosen({c.name: board_class(c) for c in device_classes()}, "my-board")):
    print(step.name)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A copy of the inventory with one file more, found before the shipped one."""
    copied = tmp_path / "inventory"
    shutil.copytree(ROOT / "inventory", copied, ignore=shutil.ignore_patterns("__pycache__"))
    (copied / "classes" / "my-board.yaml").write_text(MY_BOARD, encoding="utf-8")
    return {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}


def test_a_class_is_recognised_listed_and_installed(
    environment: dict[str, str], tmp_path: Path
) -> None:
    fleet = tmp_path / "farm.yaml"
    fleet.write_text("devices:\n  one: {ssh: host, class: my-board}\n", encoding="utf-8")
    command = [sys.executable, "-P", "-c", PROGRAM, str(fleet)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    recognised, listed, *steps = ended.stdout.splitlines()
    assert recognised == "my-board A board of mine"
    assert listed == "my-board"
    assert {"driver", "runtime onnxruntime"} <= {*steps}


def test_the_checks_of_every_class_hold_without_another_file(environment: dict[str, str]) -> None:
    files = ("domain/test_domain_device_class.py", "provisioning/test_fleet_file.py")
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider"]
    ended = subprocess.run(
        [*command, "-c", "pyproject.toml", *(f"tests/unit/{file}" for file in files)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ended.returncode == 0, ended.stdout
    assert "test_what_a_class_names_exists[my-board]" in ended.stdout


def test_every_class_has_a_row_in_the_documentation() -> None:
    rows = (ROOT / "docs" / "classes.md").read_text(encoding="utf-8").splitlines()
    first_words = {row.removeprefix("| ").split(" ")[0] for row in rows if row.startswith("| ")}
    shipped = {file.stem for file in (ROOT / "inventory" / "classes").glob("*.yaml")}
    assert shipped <= first_words
