"""What a reader that was taken over cannot do: processes, files, secrets, descriptors."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.domain.file_inspection import NO_LANDLOCK, NO_SECCOMP, Question
from orchestrator.inspection.client import ConfinedInspector
from support.confined_readers import MIB, ROOT, child_of, is_confined, json_answer, landlock_works
from support.need import need


def test_of_the_environment_no_secret_comes_along(
    evil: Callable[..., ConfinedInspector], question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCHFARM_DATABASE_URL", "postgresql://farm:secret@db/farm")
    monkeypatch.setenv("BENCHFARM_BROKER_URL", "redis://:secret@broker/0")
    monkeypatch.setenv("SOME_TOKEN", "secret")
    found = json_answer(
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
    need("sandbox", landlock_works(), "this kernel has no seccomp filter or no Landlock")
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
    found = json_answer(evil(source), question)
    assert found.pop("thread") == "can't start new thread"
    assert set(found.values()) == {"EPERM"}, found


def test_no_file_but_its_own_is_read_and_none_is_written(
    evil: Callable[..., ConfinedInspector], question: Question, home: Path, tmp_path: Path
) -> None:
    need("sandbox", landlock_works(), "this kernel has no seccomp filter or no Landlock")
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
    found = json_answer(evil(source), question)
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
    hard, found = json_answer(reader, question)
    assert json_answer(reader, question) == [hard, found]
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
    assert json_answer(evil(source), question) == 1


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
        assert json_answer(evil(source), question) == [0, 1, 2, 3]  # 3: where the answer goes
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_killed_controller_leaves_no_child(tmp_path: Path, question: Question) -> None:
    need("sandbox", landlock_works(), "this kernel has no seccomp filter or no Landlock")
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
        child = child_of(parent.pid)
        while not is_confined(child):
            time.sleep(0.05)
        parent.kill()
    child.wait(20)
    assert not child.is_running()
