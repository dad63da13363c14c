"""A Redis as a lab first meets it: fresh, protected, with another password, not there yet."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import broker
from orchestrator import wiring
from orchestrator.broker import embedded
from orchestrator.broker.embedded import Broker
from orchestrator.broker.redis_acl import RedisAcl
from orchestrator.cli.up import except_for_whom
from orchestrator.controller import Controller
from orchestrator.settings import Settings
from support.cli import BENCHFARM, shell_in
from support.farms import FarmKit
from support.need import need
from support.servers import free_port, redis_program, redis_server

PROTECTED = ["--protected-mode", "yes"]


@pytest.fixture(scope="module")
def program() -> str:
    found = redis_program()
    need("redis", found is not None, "no redis-server on the path")
    assert found is not None
    return found


@pytest.fixture(scope="module")
def address() -> str:
    """An address of this machine that is not its loopback: what Redis takes for a remote client."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address besides its loopback")
        found: str = probe.getsockname()[0]
    return found


def first_file(folder: Path, place: str) -> tuple[Path, str]:
    """The ACL file for a first start, and the controller's address of the broker."""
    made = shell_in(folder)("broker", "acl", "--broker", place, "--out", folder / "users.acl")
    assert made.returncode == 0, made.stderr
    url = re.search(r"BENCHFARM_BROKER_URL=(\S+)", made.stderr)
    assert url is not None
    return folder / "users.acl", url[1]


def test_the_file_is_made_before_there_is_a_controller(program: str, tmp_path: Path) -> None:
    port = free_port()
    file, url = first_file(tmp_path, f"redis://127.0.0.1:{port}/0")
    assert url.startswith("redis://benchfarm:")
    assert url.endswith(f"@127.0.0.1:{port}/0")
    assert file.stat().st_mode & 0o777 == 0o600
    off, own = file.read_text().splitlines()
    assert off == "user default off"
    assert own.startswith("user benchfarm on #")
    with redis_server(program, port=port, more=["--aclfile", str(file)]) as open_url:
        assert broker.no_answer(broker.make_app(url, "test", "")) == ""
        why = broker.no_answer(broker.make_app(open_url, "test", ""))
        assert "Redis wants user and password" in why
        wrong = url.replace("benchfarm:", "benchfarm:x")
        why = broker.no_answer(broker.make_app(wrong, "test", ""))
        assert "refuses user or password" in why
        assert "benchfarm:x" not in why, "no secret in a message"


def test_a_password_that_is_given_is_kept(tmp_path: Path) -> None:
    shell = shell_in(tmp_path, BENCHFARM_BROKER_URL="rediss://farm:its%2Fown@[fd00::1]:6379/0")
    first, second = (shell.fine("broker", "acl") for _ in range(2))
    assert first == second
    assert "user farm on #" in first


@pytest.mark.parametrize("place", ["memory://", "10.0.0.2:6379", "http://10.0.0.2"])
def test_what_is_no_redis_is_refused(tmp_path: Path, place: str) -> None:
    refusal = shell_in(tmp_path).refused("broker", "acl", "--broker", place)
    assert "expected redis://HOST:PORT/0" in refusal


@contextlib.contextmanager
def starting(home: Path, url: str) -> Iterator[Path]:
    """``benchfarm up`` with that broker; its output, while it runs."""
    log = home / "up.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [BENCHFARM, "up", "--port", "0"],
            env=shell_in(home, BENCHFARM_BROKER_URL=url, PYTHONUNBUFFERED="1").environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        yield log
    finally:
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(timeout=60) == 0, log.read_text()
        finally:
            process.kill()


def wait_for(log: Path, text: str) -> None:
    deadline = time.monotonic() + 60
    while text not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def test_up_is_ready_when_boards_can_use_its_redis(
    program: str, address: str, tmp_path: Path
) -> None:
    port = free_port()
    file, url = first_file(tmp_path, f"redis://{address}:{port}/0")
    with contextlib.ExitStack() as fresh:
        fresh.enter_context(redis_server(program, address, port, PROTECTED))
        with starting(tmp_path, url) as log:
            wait_for(log, "protected mode")
            fresh.close()
            wait_for(log, "nothing listens there")
            assert "\nready" not in log.read_text()
            closed = [*PROTECTED, "--aclfile", str(file)]
            with redis_server(program, address, port, closed):
                wait_for(log, "ready; Ctrl-C stops it")
    said = log.read_text()
    for once in ("protected mode", "nothing listens", "the broker can be used now", "\nready"):
        assert said.count(once) == 1, said
    assert "DENIED" not in said


def test_a_redis_of_this_machine_alone_serves_its_own_boards(program: str) -> None:
    with (
        redis_server(program, more=PROTECTED) as url,
        contextlib.closing(RedisAcl(url, "")) as users,
    ):
        assert wiring.broker_fault(Settings(broker_url=url), users) == ""
        by_name = Settings(broker_url=url.replace("127.0.0.1", f"{socket.gethostname()}"))
        with contextlib.suppress(OSError):  # Debian's /etc/hosts: 127.0.1.1 is the host's own name
            if socket.gethostbyname(socket.gethostname()).startswith("127."):
                assert "protected mode" in wiring.broker_fault(by_name, users)


def test_boards_elsewhere_are_named_where_they_cannot_hear_it(sqlite_farm: FarmKit) -> None:
    kit = sqlite_farm

    def said(host: str, broker_url: str, **more: str) -> str:
        settings = kit.farm.settings.model_copy(update={"host": host, **more})
        kit.farm = kit.farm.__class__(**{**vars(kit.farm), "settings": settings})
        return except_for_whom(Controller(kit.farm, "", "", Broker(broker_url, ""), lambda: ""))

    here = "redis+socket:///x/redis.sock?virtual_host=0"
    assert said("127.0.0.1", here) == ""
    kit.enrol("far-1")
    assert "except for far-1: it listens on 127.0.0.1 alone" in said("127.0.0.1", here)
    assert "its broker answers on this machine alone" in said("0.0.0.0", here)
    assert said("0.0.0.0", "redis://10.0.0.2:6379") == ""
    assert said("127.0.0.1", "redis://10.0.0.2:6379", controller_url="https://farm") == ""


@pytest.mark.parametrize("variable", ["VIRTUAL_ENV", "CONDA_PREFIX"])
def test_the_systems_redis_goes_before_an_environments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    paths = {name: tmp_path / name / "bin" for name in ("environment", "system")}
    for folder in paths.values():
        folder.mkdir(parents=True)
        program = folder / "redis-server"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    monkeypatch.setenv(variable, str(tmp_path / "environment"))
    monkeypatch.setenv("PATH", f"{paths['environment']}:{paths['system']}")
    assert embedded.system_server() == str(paths["system"] / "redis-server")
    (paths["system"] / "redis-server").unlink()
    assert embedded.system_server() == str(paths["environment"] / "redis-server")
