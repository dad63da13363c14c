"""The Edge TPU as far as it goes without one: files of the kernel, the compiler's output, a library
that is absent, refuses, hangs or crashes, and the vendor's calls against a played interpreter."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agent.contract.failures import (
    BadModel,
    BadOption,
    ConversionFailed,
    RuntimeMissing,
    UnsupportedFormat,
    UnsupportedOperator,
    UnsupportedPrecision,
    UnsupportedShape,
    UnsupportedTarget,
)
from agent.contract.trial import RuntimeRef, TensorSpec
from agent.runtimes.converter import Calibration
from agent.runtimes.edgetpu import backend
from agent.runtimes.edgetpu.converters import edgetpu_compile
from agent.runtimes.edgetpu.devices import LAYOUTS, EdgeTpu, devices, installed_build, require_build

FIXTURES = Path(__file__).parents[2] / "fixtures"
TFLITE = FIXTURES / "tflite"
NCHW = TensorSpec("x", "float32", (1, 3, 6, 6), "NCHW")


def usb(root: Path, name: str, vendor: str, product: str, speed: str = "") -> None:
    folder = root / "sys/bus/usb/devices" / name
    folder.mkdir(parents=True)
    (folder / "idVendor").write_text(vendor + "\n")
    (folder / "idProduct").write_text(product + "\n")
    if speed:
        (folder / "speed").write_text(speed + "\n")


# --- what the kernel says ---


def test_devices_are_listed_with_how_they_are_attached(tmp_path: Path) -> None:
    assert devices(tmp_path) == []
    for n in (10, 2):
        (tmp_path / f"sys/class/apex/apex_{n}").mkdir(parents=True)
    usb(tmp_path, "2-1", "18d1", "9302", "5000")
    usb(tmp_path, "1-1", "1A6E", "089A", "480")
    usb(tmp_path, "1-2", "046d", "c52b", "12")
    usb(tmp_path, "3-1", "18d1", "9302")
    (tmp_path / "sys/bus/usb/devices/usb1").mkdir()
    assert devices(tmp_path) == [
        EdgeTpu("pci:0", "PCIe, apex_2"),
        EdgeTpu("pci:1", "PCIe, apex_10"),
        EdgeTpu("usb:0", "USB 2, 480 Mbit/s"),
        EdgeTpu("usb:1", "USB 3, 5000 Mbit/s"),
        EdgeTpu("usb:2", "USB, speed unknown"),
    ]


@pytest.mark.parametrize(
    ("packages", "build"),
    [
        ([], "unknown"),
        (["libedgetpu1-std:arm64"], "std"),
        (["libedgetpu1-max"], "max"),
        (["libedgetpu1-std", "libedgetpu1-max"], "unknown"),
    ],
)
def test_the_clock_is_that_of_the_installed_package(
    tmp_path: Path, packages: list[str], build: str
) -> None:
    info = tmp_path / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    for name in packages:
        (info / f"{name}.list").write_text("")
    assert installed_build(tmp_path) == build


def test_another_clock_than_the_installed_one_is_refused() -> None:
    require_build("installed", "unknown")
    require_build("max", "max")
    with pytest.raises(BadOption, match="install libedgetpu1-max"):
        require_build("max", "std")


# --- the library, in a process of its own ---


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """An interpreter's module whose ``load_delegate`` does what is said."""

    def play(body: str) -> None:
        (tmp_path / "played.py").write_text(f"def load_delegate(library, options):\n    {body}\n")
        (tmp_path / "python").write_text(
            f'#!/bin/sh\nshift\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n'
        )
        (tmp_path / "python").chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))

    return play


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise OSError(library + ': cannot open shared object file')", "libedgetpu1-std"),
        ("raise ValueError('Failed to load delegate')", "Failed to load delegate"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed played with SIGSEGV"),
        ("import time; time.sleep(60)", "did not end in 1 s"),
        ("import os; os.write(2, b'no licence'); os._exit(3)", "failed: no licence"),
    ],
    ids=["absent", "refused", "crash", "hang", "exit"],
)
def test_a_library_that_does_not_load_is_missing(
    played: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, body: str, says: str
) -> None:
    played(body)
    monkeypatch.setattr(backend, "PROBE_S", 1.0)
    with pytest.raises(RuntimeMissing, match=says):
        backend._try_library("played", ["usb:0"])


def test_a_library_that_loads_on_each_device_is_there(played: Callable[[str], None]) -> None:
    played("assert options['device'] in ('usb:0', 'pci:0'); print('noise')")
    backend._try_library("played", ["pci:0", "usb:0"])


def test_a_library_that_only_lacks_a_device_is_there(played: Callable[[str], None]) -> None:
    played("raise ValueError('Failed to load delegate from libedgetpu.so.1')")
    backend._try_library("played", [])


def test_a_probe_without_a_device_says_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backend, "interpreter_module", lambda: SimpleNamespace(__name__="played"))
    monkeypatch.setattr(backend, "devices", list)
    monkeypatch.setattr(backend, "_try_library", lambda *_: None)
    with pytest.raises(RuntimeMissing, match=r"no Edge TPU is attached.*plug it in"):
        backend.BACKEND().probe()


# --- loading, against a played interpreter that has the real ones' signatures ---


class PlayedInterpreter:
    def __init__(self, model_path: str, experimental_delegates: Any, num_threads: int | None):
        self.delegates = experimental_delegates
        self.array = np.zeros((1, 6, 6, 3), np.int8)

    def allocate_tensors(self) -> None: ...

    def invoke(self) -> None: ...

    def get_input_details(self) -> list[dict[str, Any]]:
        return [{"index": 0, "shape": np.array([1, 6, 6, 3]), "quantization": (0.05, 0)}]

    def get_output_details(self) -> list[dict[str, Any]]:
        return [{"index": 1, "shape": np.array([1, 6, 6, 3]), "quantization": (0.05, 0)}]

    def tensor(self, index: int) -> Callable[[], Any]:
        return lambda: self.array

    def get_tensor(self, index: int) -> Any:
        return self.array.copy()


@pytest.fixture
def attached(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """One accelerator; the calls of ``load_delegate`` are kept."""
    calls: list[tuple[str, Any]] = []
    module = SimpleNamespace(
        __name__="ai_edge_litert.interpreter",
        Interpreter=PlayedInterpreter,
        load_delegate=lambda library, options: calls.append((library, options)),
    )
    monkeypatch.setattr(backend, "interpreter_module", lambda: module)
    monkeypatch.setattr(backend, "version", lambda _: "2.3.0")
    monkeypatch.setattr(backend, "devices", lambda: [EdgeTpu("usb:0", "USB 2, 480 Mbit/s")])
    monkeypatch.setattr(backend, "installed_build", lambda: "std")
    return calls


def runtime(**more: Any) -> RuntimeRef:
    return RuntimeRef("edgetpu", **{"target": "edgetpu:0", "precision": "int8", **more})


def compiled(folder: Path, layout: str) -> Path:
    artifact = folder / "model_edgetpu.tflite"
    shutil.copyfile(TFLITE / "edgetpu.tflite", artifact)
    noted = {"inputs": [layout], "outputs": [layout]}
    (folder / LAYOUTS).write_text(json.dumps(noted))
    return artifact


def test_a_compiled_file_runs_with_the_layout_that_its_converter_noted(
    attached: list[tuple[str, Any]], tmp_path: Path
) -> None:
    artifact = compiled(tmp_path, "NHWC")
    session = backend.BACKEND().load(artifact, runtime(), [NCHW])
    assert attached == [("libedgetpu.so.1", {"device": "usb:0"})]
    assert session.placement.startswith(
        "edgetpu:0 (USB 2, 480 Mbit/s), libedgetpu std, ai-edge-litert 2.3.0 by delegate,"
        " no operator on the CPU"
    )
    x = np.random.RandomState(0).standard_normal((1, 3, 6, 6)).astype(np.float32)
    session.bind({"x": x})
    session.infer()
    np.testing.assert_allclose(session.read()["y"], x, atol=0.026)


def test_a_file_compiled_elsewhere_hides_its_layout(
    attached: list[tuple[str, Any]],
) -> None:
    with pytest.raises(UnsupportedShape, match=r"\(layout unknown\), asked for"):
        backend.BACKEND().load(TFLITE / "edgetpu.tflite", runtime(), [NCHW])
    own = TensorSpec("x", "float32", (1, 6, 6, 3), "NHWC")
    backend.BACKEND().load(TFLITE / "edgetpu.tflite", runtime(), [own]).close()


@pytest.mark.parametrize(
    ("file", "more", "error", "says"),
    [
        ("edgetpu", {"target": "edgetpu:1"}, UnsupportedTarget, "edgetpu:0"),
        ("edgetpu", {"target": "CPU"}, UnsupportedTarget, "edgetpu:0"),
        ("edgetpu", {"precision": "fp32"}, UnsupportedPrecision, "int8"),
        ("edgetpu", {"options": {"frequency": "max"}}, BadOption, "libedgetpu1-max"),
        ("edgetpu", {"options": {"speed": 1}}, BadOption, "frequency, interface"),
        ("int8", {}, UnsupportedFormat, "edgetpu_compiler"),
        ("nowhere", {}, BadModel, "does not exist"),
    ],
)
def test_what_it_cannot_do_is_named(
    attached: list[tuple[str, Any]], file: str, more: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        backend.BACKEND().load(TFLITE / f"{file}.tflite", runtime(**more), [NCHW])


# --- the vendor's pycoral and the other project of that name ---


def package(root: Path, files: list[str]) -> None:
    for name in files:
        path = root / "pycoral" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("raise SystemExit('it was imported')\n")


@pytest.mark.parametrize(
    ("files", "is_it"),
    [
        (["__init__.py", "utils/edgetpu.py", "pybind/_pywrap_coral.cpython-39.so"], True),
        (["__init__.py", "cli.py"], False),
        (["__init__.py", "utils/edgetpu.py"], False),
    ],
    ids=["vendor", "other", "half"],
)
def test_pycoral_is_recognised_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], is_it: bool
) -> None:
    package(tmp_path, files)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert backend.vendor_pycoral() is is_it
    if not is_it:
        with pytest.raises(RuntimeMissing, match=r"another project's.*never pip install"):
            backend._pycoral()


def test_no_pycoral_at_all() -> None:
    with pytest.raises(RuntimeMissing, match="is not here"):
        backend._pycoral()


def test_pycoral_is_called_by_its_own_signature(
    attached: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = []

    def make_interpreter(model_path_or_content: str, device: str | None = None) -> Any:
        made.append((model_path_or_content, device))
        return PlayedInterpreter(model_path_or_content, [], None)

    monkeypatch.setattr(
        backend, "_pycoral", lambda: SimpleNamespace(make_interpreter=make_interpreter)
    )
    artifact = compiled(tmp_path, "NHWC")
    session = backend.BACKEND().load(artifact, runtime(options={"interface": "pycoral"}), [NCHW])
    assert made == [(str(artifact), "usb:0")]
    assert "by pycoral" in session.placement


# --- the compiler ---


def transcript(name: str) -> str:
    return (FIXTURES / "edgetpu" / f"{name}.txt").read_text()


def test_a_model_that_is_all_mapped() -> None:
    log = edgetpu_compile.parsed(transcript("all_mapped"))
    assert (log.version, log.mapped, log.total, log.subgraphs) == ("16.0.384591198", 9, 9, 1)
    assert (log.share, log.unmapped) == (1.0, ())
    assert edgetpu_compile.step(log) == (
        "edgetpu_compiler 16.0.384591198: 9 of 9 operators mapped (100 %)"
    )


def test_a_model_that_mostly_stays_on_the_cpu_says_why() -> None:
    log = edgetpu_compile.parsed(transcript("partly_mapped"))
    assert (log.mapped, log.total) == (2, 155)
    assert log.unmapped[0] == ("TRANSPOSE", 70, "Operation not supported")
    assert sum(count for _, count, _ in log.unmapped) == 153
    said = edgetpu_compile.step(log)
    assert "2 of 155 operators mapped (1 %); on the CPU: 70 TRANSPOSE (Operation not" in said
    assert said.endswith("1.22MiB of weights streamed from the host")


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("not_quantised", UnsupportedFormat, "not fully quantised"),
        ("failed", ConversionFailed, "large activation tensors"),
        ("internal_error", ConversionFailed, "Internal compiler error"),
    ],
)
def test_a_refusal_keeps_the_compilers_words(name: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        edgetpu_compile.parsed(transcript(name), 1)


def test_without_the_compiler_it_says_where_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeMissing, match=r"x86-64 Debian.*builder"):
        convert(tmp_path, "int8")


def convert(folder: Path, file: str) -> Any:
    converter = edgetpu_compile.CONVERTER()
    return converter.convert(TFLITE / f"{file}.tflite", folder, Calibration([], ""))


def test_what_the_compiler_would_only_call_invalid_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOperator, match=r"CONV_2D.*computes on floats"):
        convert(tmp_path, "nhwc")
    (tmp_path / "no.tflite").write_bytes(b"no")
    with pytest.raises(BadModel):
        edgetpu_compile.CONVERTER().convert(tmp_path / "no.tflite", tmp_path, Calibration([], ""))


def test_a_played_compiler_makes_an_artifact_with_its_layouts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools, out = tmp_path / "bin", tmp_path / "out"
    tools.mkdir()
    out.mkdir()
    script = tools / "edgetpu_compiler"
    script.write_text(
        "#!/bin/sh\n"
        'test "$1 $2" = "-s -o" || exit 9\n'
        f'/bin/cp "{TFLITE}/edgetpu.tflite" "$3/model_edgetpu.tflite"\n'
        f'/bin/cat "{FIXTURES}/edgetpu/all_mapped.txt"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    made = convert(out, "int8")
    assert made.artifact == out / "model_edgetpu.tflite"
    assert "9 of 9 operators mapped" in made.step
    assert sorted(p.name for p in out.iterdir()) == [LAYOUTS, "model_edgetpu.tflite"]
    assert json.loads((out / LAYOUTS).read_text()) == {"inputs": ["NHWC"], "outputs": [""]}
