"""One file is one telemetry source: nothing else is touched to add one."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import agent
from agent.telemetry import registry
from agent.telemetry.registry import SOURCES, BadTelemetrySource

ROOT = Path(agent.__file__).parents[1]

GUIDE = ROOT / "docs/guides/add-a-telemetry-source.md"
CLASS = """
name: toaster
title: A toaster
recognise: {model: toaster}
runtimes: [onnxruntime]
telemetry: [battery, thermal]
"""
USE = """
from pathlib import Path
from agent import facts
from orchestrator.domain.errors import UserError
from orchestrator.store.device_class_files import read_classes
from test_battery import test_the_charge_is_in_per_cent

here = Path(".")
test_the_charge_is_in_per_cent(here / "board")
known = facts.collect(here, root=here / "board")
print([(s.source, s.name, s.value) for s in known.sensors])
print(read_classes([here / "toaster.yaml"])[0].telemetry)
(here / "toaster.yaml").write_text((here / "toaster.yaml").read_text().replace("batt", "butt"))
try:
    read_classes([here / "toaster.yaml"])
except UserError as error:
    print(error)
"""


def test_the_guides_file_is_a_source_once_it_is_dropped_in(tmp_path: Path) -> None:
    for package in ("agent", "orchestrator", "tests/support"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / Path(package).name, ignore=ignore)
    source, its_test = re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    (tmp_path / "agent/telemetry/battery.py").write_text(source, "utf-8")
    (tmp_path / "test_battery.py").write_text(its_test, "utf-8")
    (tmp_path / "toaster.yaml").write_text(CLASS, "utf-8")
    used = subprocess.run(
        [sys.executable, "-c", USE], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert used.returncode == 0, used.stderr
    sensors, named, mistake = used.stdout.splitlines()
    assert sensors == "[('battery', 'BAT0', 87.0)]"
    assert named == "('battery', 'thermal')"
    assert mistake.startswith("toaster.yaml:6: telemetry.0: Input should be 'apex'")
    assert "'battery'" in mistake


def test_the_names_are_those_of_the_files() -> None:
    folder = Path(registry.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "registry", "source"}
    assert list(SOURCES) == sorted(files)
    assert all(source.name == name for name, source in SOURCES.items())


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (SimpleNamespace(name="toy"), "agent/telemetry/toy.py has no function `read`"),
        (SimpleNamespace(read=print), "agent/telemetry/toy.py has no `name`"),
        (SimpleNamespace(read=print, name="toi"), "names the source 'toi': expected 'toy'"),
    ],
)
def test_a_file_that_is_no_source_is_named(module: SimpleNamespace, message: str) -> None:
    with pytest.raises(BadTelemetrySource, match=message):
        registry.check("toy", module)
