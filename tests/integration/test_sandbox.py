"""Files that people send, read by real confined children: what they may not do, whatever they do,
and that what is left of it is one error."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from orchestrator.domain.errors import Busy, FarmError, UserError
from orchestrator.domain.file_inspection import (
    NO_LANDLOCK,
    NO_SECCOMP,
    CheckedFile,
    CountedWork,
    DatasetArrays,
    Drawing,
    OnnxFacts,
    OnnxLayouts,
    Question,
)
from orchestrator.inspection import client
from orchestrator.inspection.client import ConfinedInspector
from orchestrator.service.models import registration
from orchestrator.service.models.registration import NewModel
from support import malicious, onnx_files
from support.farms import FarmKit
from support.inspectors import inspect
from support.need import need
from support.serving import serving

ROOT = Path(__file__).parents[2]
TFLITE = ROOT / "tests" / "fixtures" / "tflite" / "nhwc.tflite"
MIB = 512


def _landlock() -> bool:
    """Asked of a process of its own, which the answer confines."""
    source = (
        f"import sys; sys.path.append({str(ROOT)!r})\n"
        "from agent.privileges import give_up_privileges; give_up_privileges()\n"
        "from orchestrator.inspection.child import landlock, seccomp\n"
        "sys.exit(0 if landlock.read_only([]) and seccomp.refuse_calls() else 1)"
    )
    return subprocess.run([sys.executable, "-c", source], check=False).returncode == 0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def evil(tmp_path: Path, home: Path) -> Callable[..., ConfinedInspector]:
    """A sandbox whose reader is what a taken-over one could be: it runs the given Python, with
    ``question`` at hand, where it would open the file. ``prelude`` runs before the walls."""

    def build(
        source: str, wall_s: float = 60.0, mib: int = MIB, prelude: str = ""
    ) -> ConfinedInspector:
        program = tmp_path / "reader.py"
        body = "\n".join("    " + line for line in source.strip().splitlines())
        program.write_text(
            f"import os, sys\nsys.path.append({str(ROOT)!r})\n"
            "from orchestrator.domain.file_inspection import CheckedFile\n"
            "from orchestrator.inspection.child import commands\n"
            "from orchestrator.inspection.child.__main__ import main\n"
            f"{prelude}\n"
            f"def read(question):\n{body}\n"
            "commands.COMMANDS['CheckedFile'] = read\n"
            "main()\n"
        )
        return ConfinedInspector(home, wall_s, mib, program)

    return build


@pytest.fixture
def question(tmp_path: Path) -> Question:
    path = tmp_path / "blob"
    path.write_bytes(onnx_files.dense_bytes())
    return Question(str(path), "mine.tflite", "tflite")


def told(reader: ConfinedInspector, question: Question) -> Any:
    """What the reader printed as its answer's format: JSON."""
    return json.loads(reader(question, CheckedFile).format)


def refused(reader: ConfinedInspector, question: Question, answer: type[Any] = CheckedFile) -> str:
    """The one error; no child and no folder of it may be left."""
    home = reader._home
    assert home is not None
    with pytest.raises(UserError) as caught:
        reader(question, answer)
    assert list(home.iterdir()) == []
    assert _at_work(home) == []
    message = str(caught.value)
    assert message.startswith(question.name)
    assert "\n" not in message
    return message


# --- what it answers


@pytest.mark.parametrize("answer", [OnnxFacts, OnnxLayouts, CountedWork, Drawing])
def test_an_onnx_file_is_read_as_in_this_process(
    home: Path, question: Question, answer: type[Any]
) -> None:
    asked = replace(question, form="onnx")
    assert ConfinedInspector(home, 60, MIB)(asked, answer) == inspect(asked, answer)
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("answer", [CheckedFile, CountedWork, Drawing])
def test_a_tflite_file_is_read_as_in_this_process(home: Path, answer: type[Any]) -> None:
    asked = Question(str(TFLITE), "net.tflite", "tflite", {"x": (1, 6, 6, 3)})
    assert ConfinedInspector(home, 60, MIB)(asked, answer) == inspect(asked, answer)


def test_a_data_set_larger_than_the_memory_is_read(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    many = np.zeros((300, 1 << 20), np.uint8)
    np.savez_compressed(path, inputs=many, labels=np.zeros(300), calibration=many[:2])
    found = ConfinedInspector(home, 60, 128)(Question(str(path), "set.npz"), DatasetArrays).shapes
    assert found == {"inputs": (300, 1 << 20), "labels": (300,), "calibration": (2, 1 << 20)}


def test_what_is_refused_says_what_the_reader_says(home: Path, question: Question) -> None:
    message = refused(ConfinedInspector(home, 60, MIB), question)
    assert "mine.tflite: not a TFLite model (truncated, or another format?)" in message
    assert "could not be read" not in message


def test_a_reader_without_its_package_is_no_fault_of_the_file(
    evil: Callable[..., ConfinedInspector], question: Question
) -> None:
    with pytest.raises(FarmError, match="No module named 'no_such'") as caught:
        evil("import no_such")(question, CheckedFile)
    assert not isinstance(caught.value, UserError)


# --- files that want too much


@pytest.mark.parametrize(
    ("name", "make", "answer"),
    [
        ("bomb.onnx", malicious.onnx_bomb, OnnxFacts),
        ("nodes.onnx", lambda: malicious.onnx_of_empty_nodes(10_000_000), OnnxFacts),
        ("bomb.tflite", malicious.tflite_bomb, CheckedFile),
    ],
)
def test_a_file_that_wants_all_the_memory(
    home: Path, tmp_path: Path, name: str, make: Callable[[], bytes], answer: type[Any]
) -> None:
    path = tmp_path / "blob"
    path.write_bytes(make())
    asked = Question(str(path), name, Path(name).suffix[1:])
    message = refused(ConfinedInspector(home, 120, MIB), asked, answer)
    assert message == (
        f"{name}: it could not be read within 120 s and 512 MiB: it wanted more memory "
        "(BENCHFARM_INSPECT_MIB sets the limit)"
    )


def test_a_data_set_that_says_it_unpacks_to_more_than_may_be(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    malicious.npz_that_says(path, 0xFFFFFFF0)
    message = refused(
        ConfinedInspector(home, 60, MIB), Question(str(path), "set.npz"), DatasetArrays
    )
    assert (
        message == f"set.npz: it unpacks to {2 * 0xFFFFFFF0} bytes, at most 4294967296 are accepted"
    )


def test_a_data_set_that_says_it_unpacks_to_less_than_it_does(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    malicious.npz_that_says(path, 256)
    message = refused(
        ConfinedInspector(home, 60, MIB), Question(str(path), "set.npz"), DatasetArrays
    )
    assert "not an .npz data set" in message


@pytest.mark.parametrize("offset", [0, 8, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_tflite_file_of_wild_offsets(home: Path, tmp_path: Path, offset: int) -> None:
    path = tmp_path / "blob"
    path.write_bytes(offset.to_bytes(4, "little") + b"TFL3" + b"\xff\xff\xff\xff" * 500)
    message = refused(
        ConfinedInspector(home, 60, MIB), Question(str(path), "wild.tflite", "tflite")
    )
    assert "not a TFLite model" in message


# --- readers that were taken over, or are broken

LOOPS = {"computes": "while True: pass", "sleeps": "import time; time.sleep(600)"}


@pytest.mark.parametrize("source", LOOPS.values(), ids=LOOPS)
def test_an_endless_reader_is_ended(
    evil: Callable[..., ConfinedInspector], question: Question, source: str
) -> None:
    message = refused(evil(source, wall_s=2), question)
    assert message == (
        "mine.tflite: it could not be read within 2 s and 512 MiB: it was not done by then "
        "(BENCHFARM_INSPECT_S sets the limit)"
    )


def test_processor_time_is_bounded_by_the_kernel_too(
    evil: Callable[..., ConfinedInspector], question: Question
) -> None:
    """As it is where the controller is not there any more to look at the clock."""
    lenient = "from orchestrator.inspection.child import confine, rlimits\n"
    lenient += "real = rlimits.limit\n"
    lenient += "confine.rlimits.limit = lambda wall_s, mib, size: real(0.5, mib, size)"
    message = refused(evil("while True: pass", prelude=lenient), question)
    assert "was not done by then" in message


MEMORY = {
    "allocates": "bytearray(50 << 30)",
    "maps": "import mmap; mmap.mmap(-1, 50 << 30)",
    "grows": "held = []\nwhile True: held.append(bytes(1 << 20))",
    "shares": "import mmap\nheld = []\nwhile True: held.append(mmap.mmap(-1, 1 << 26))",
}


@pytest.mark.parametrize("source", MEMORY.values(), ids=MEMORY)
def test_memory_is_bounded(
    evil: Callable[..., ConfinedInspector], question: Question, source: str
) -> None:
    assert "it wanted more memory" in refused(evil(source), question)


ENDS = {
    "segfault": ("import ctypes; ctypes.string_at(0)", "was ended by SIGSEGV"),
    "abort": ("os.abort()", "was ended by SIG"),
    "exit": ("os._exit(7)", "ended with exit code 7"),
    "silence": ("os._exit(0)", "exit code 0 and no answer"),
    "exception": ("raise ValueError('odd \\x1b[31m thing')", "ValueError: odd  [31m thing"),
    "recursion": ("read(question)", "RecursionError"),
    "other answer": (
        "return {'svg': '<svg/>'}",
        "answered something else: CheckedFile: unknown key",
    ),
    "wrong type": ("return CheckedFile(5, 'fp32')", "CheckedFile.format: expected str, found 5"),
    "much": ("return CheckedFile('x' * (2 << 20), 'fp32')", "letters of it, at most 1048576"),
    "endless": ("return CheckedFile('x' * (20 << 20), 'fp32')", "exit code 0 and no answer"),
    "noise": (
        "for fd in range(3, 9):\n"
        "    try: os.write(fd, b'\\x80\\x04]q\\x00.')\n"
        "    except OSError: pass\n"
        "os._exit(0)",
        "CheckedFile: not JSON",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("source", "says"), ENDS.values(), ids=ENDS)
def test_a_reader_that_ends_badly(
    evil: Callable[..., ConfinedInspector], question: Question, source: str, says: str
) -> None:
    message = refused(evil(source), question)
    assert message.startswith("mine.tflite: it could not be read within 60 s and 512 MiB: ")
    assert says in message


def test_of_the_environment_no_secret_comes_along(
    evil: Callable[..., ConfinedInspector], question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCHFARM_DATABASE_URL", "postgresql://farm:secret@db/farm")
    monkeypatch.setenv("BENCHFARM_BROKER_URL", "redis://:secret@broker/0")
    monkeypatch.setenv("SOME_TOKEN", "secret")
    found = told(
        evil("import json; return CheckedFile(json.dumps(dict(os.environ)), '')"), question
    )
    assert not [key for key, value in found.items() if "secret" in value]
    assert not [key for key in found if key.startswith("BENCHFARM_D")]


TRIES = """
import errno, json
def tried(act):
    try:
        act()
    except OSError as error:
        return errno.errorcode[error.errno]
    except RuntimeError as error:
        return str(error)
    return "done"
"""


def test_no_process_thread_program_or_socket(
    evil: Callable[..., ConfinedInspector], question: Question
) -> None:
    """A fork bomb ends with its first fork, root's too."""
    need("sandbox", _landlock(), "this kernel has no seccomp filter or no Landlock")
    source = (
        TRIES
        + """
import _thread, signal, socket, subprocess
def fork():
    while True:
        os.fork()
found = {
    "fork": tried(fork),
    "program": tried(lambda: subprocess.run(["/bin/true"])),
    "exec": tried(lambda: os.execv("/bin/true", ["true"])),
    "thread": tried(lambda: _thread.start_new_thread(print, ())),
    "socket": tried(lambda: socket.socket()),
    "pair": tried(lambda: socket.socketpair()),
    "parent": tried(lambda: os.kill(os.getppid(), signal.SIGKILL)),
    "everybody": tried(lambda: os.kill(-1, signal.SIGKILL)),
}
return CheckedFile(json.dumps(found), "")
"""
    )
    found = told(evil(source), question)
    assert found.pop("thread") == "can't start new thread"
    assert set(found.values()) == {"EPERM"}, found


def test_no_file_but_its_own_is_read_and_none_is_written(
    evil: Callable[..., ConfinedInspector], question: Question, home: Path, tmp_path: Path
) -> None:
    need("sandbox", _landlock(), "this kernel has no seccomp filter or no Landlock")
    secret = home.parent / "client.json"
    secret.write_text('{"token": "secret"}')
    (tmp_path / "mine").write_text("x")
    source = (
        TRIES
        + f"""
found = {{
    "own": tried(lambda: open(question.path, "rb").read()),
    "client.json": tried(lambda: open({str(secret)!r}).read()),
    "environment": tried(lambda: open(f"/proc/{{os.getppid()}}/environ").read()),
    "passwd": tried(lambda: open("/etc/passwd").read()),
    "folder": tried(lambda: os.listdir({str(tmp_path)!r})),
    "large": tried(lambda: open("large", "wb").write(bytes(1 << 30))),
    "tmp": tried(lambda: open("/tmp/large", "wb")),
    "append": tried(lambda: open(question.path, "ab").write(b"x")),
    "truncate": tried(lambda: os.truncate({str(secret)!r}, 0)),
    "delete": tried(lambda: os.unlink({str(secret)!r})),
    "rename": tried(lambda: os.rename({str(secret)!r}, {str(secret) + "2"!r})),
    "link": tried(lambda: os.link({str(secret)!r}, "secret")),
    "folders": tried(lambda: os.mkdir("folder")),
    "rights": tried(lambda: os.chmod({str(secret)!r}, 0o777)),
    "owner": tried(lambda: os.chown({str(secret)!r}, 65534, 65534)),
}}
return CheckedFile(json.dumps(found), "")
"""
    )
    found = told(evil(source), question)
    assert found.pop("own") == "done"
    assert set(found.values()) <= {"EACCES", "EPERM", "EXDEV"}, found
    assert secret.read_text() == '{"token": "secret"}'
    assert secret.stat().st_mode & 0o777 == (tmp_path / "mine").stat().st_mode & 0o777


def test_without_the_kernels_walls_the_limits_still_hold(
    evil: Callable[..., ConfinedInspector], question: Question, caplog: pytest.LogCaptureFixture
) -> None:
    """No byte in a file, few files, and, but for root, no process: as on an old kernel, of which
    the log warns once."""
    none = "from orchestrator.inspection.child import landlock, seccomp\n"
    none += "landlock.read_only = lambda paths: False\nseccomp.refuse_calls = lambda: False"
    source = (
        TRIES
        + """
import resource
def fork():
    if os.fork() == 0:
        os._exit(0)
def many():
    held = []
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
limits = ("DATA", "AS", "CPU", "FSIZE", "NOFILE", "NPROC", "CORE")
hard = {name: resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in limits}
found = {"write": tried(lambda: open("large", "wb", 0).write(b"x")), "files": tried(many)}
if os.getuid() == 0:
    os.setresuid(65534, 65534, 65534)
found["fork"] = tried(fork)
return CheckedFile(json.dumps([hard, found]), "")
"""
    )
    reader = evil(source, prelude=none)
    hard, found = told(reader, question)
    assert told(reader, question) == [hard, found]
    assert [record.getMessage() for record in caplog.records] == [NO_LANDLOCK, NO_SECCOMP]
    assert found == {"write": "EFBIG", "files": "EMFILE", "fork": "EAGAIN"}
    size = Path(question.path).stat().st_size
    assert hard == {
        "DATA": [MIB << 20] * 2,
        "AS": [((MIB + 1024) << 20) + size] * 2,
        "CPU": [61, 62],
        "FSIZE": [0, 0],
        "NOFILE": [64, 64],
        "NPROC": [0, 0],
        "CORE": [0, 0],
    }


def test_new_privileges_are_given_up(
    evil: Callable[..., ConfinedInspector], question: Question
) -> None:
    source = """
import ctypes
return CheckedFile(str(ctypes.CDLL(None).prctl(39, 0, 0, 0, 0)), "")
"""  # PR_GET_NO_NEW_PRIVS
    assert told(evil(source), question) == 1


def test_no_descriptor_comes_along(
    evil: Callable[..., ConfinedInspector], question: Question, tmp_path: Path
) -> None:
    with (tmp_path / "open").open("w") as held:
        os.set_inheritable(held.fileno(), True)
        before = len(os.listdir("/proc/self/fd"))
        source = """
open_ones = []
for fd in range(64):
    try:
        os.fstat(fd)
        open_ones.append(fd)
    except OSError:
        pass
return CheckedFile(str(open_ones), "")
"""
        assert told(evil(source), question) == [0, 1, 2, 3]  # 3: where the answer goes
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_killed_controller_leaves_no_child(tmp_path: Path, question: Question) -> None:
    need("sandbox", _landlock(), "this kernel has no seccomp filter or no Landlock")
    program = tmp_path / "reader.py"
    program.write_text(
        f"import sys, time\nsys.path.append({str(ROOT)!r})\n"
        "from orchestrator.inspection.child import commands\n"
        "from orchestrator.inspection.child.__main__ import main\n"
        "commands.COMMANDS['CheckedFile'] = lambda question: time.sleep(600)\n"
        "main()\n"
    )
    source = (
        f"import sys; sys.path.append({str(ROOT)!r})\n"
        "from pathlib import Path\n"
        "from orchestrator.domain.file_inspection import CheckedFile, Question\n"
        "from orchestrator.inspection.client import ConfinedInspector\n"
        f"ConfinedInspector(None, 600, 512, Path({str(program)!r}))"
        f"(Question({question.path!r}, 'x', 'tflite'), CheckedFile)\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", source], env=environment) as parent:
        child = _child_of(parent.pid)
        while not _confined(child):
            time.sleep(0.05)
        parent.kill()
    child.wait(20)
    assert not child.is_running()


def _at_work(home: Path | None) -> list[psutil.Process]:
    """Processes that work below ``home``, whoever their parent is by now."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.cwd().startswith(f"{home}/"):
                found.append(process)
    return found


def _child_of(pid: int) -> psutil.Process:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = psutil.Process(pid).children()
        if found:
            return found[0]
        time.sleep(0.05)
    raise AssertionError("the controller started no child")


def _confined(process: psutil.Process) -> bool:
    """The filter is the last wall that is put up."""
    return "Seccomp:\t2" in Path(f"/proc/{process.pid}/status").read_text()


# --- a farm that is sent such files


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
    assert _at_work(kit.farm.settings.home) == []


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
        most = max(most, len(_at_work(reader._home)))
        time.sleep(0.02)
    assert most == 1
    assert [type(error) for error in errors] == [Busy, UserError, UserError]
    assert "too many files are being read" in str(errors[0])
    assert str(errors[0]).startswith(question.name)


def test_an_answer_that_makes_no_sense_is_not_kept(home: Path) -> None:
    """Of many numbers in JSON: Python reads none of thousands of digits."""
    text = '{"format": "onnx", "precision": %s}' % ("9" * 5000)
    from agent.contract.codec import ContractError

    with pytest.raises(ContractError):
        client.decode_answer(Question("", "m"), CheckedFile, 0, text)
    with pytest.raises(ContractError):
        client.decode_answer(Question("", "m"), CheckedFile, 0, "[" * 100_000)
