"""``benchfarm-agent`` as a board runs it: a real process, a real Redis, real children."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
import zstandard

from agent import broker
from agent.bell import Bell
from agent.contract import (
    SCHEMA,
    Limits,
    ModelRef,
    ReferenceRef,
    RuntimeRef,
    Scenario,
    TensorSpec,
    Tolerance,
    TrialRequest,
)
from agent.jobs import ReferenceJob
from agent.worker import processes, settings
from agent.worker.isolate import MARK
from agent.worker.service import LOOK_S, Agent, mark_of
from support import onnx_files
from support.controllers import JOIN_TOKEN, Controller, serving
from support.need import need
from support.references import reference
from support.servers import free_port, redis_program

DEVICE = "board-1"
QUICK = Scenario(min_duration_s=0.05, max_duration_s=0.3, warm_up_s=0.05, min_samples=20)
LONG = Scenario(min_duration_s=500, max_duration_s=500, warm_up_s=0.05)


@dataclass
class Board:
    """One device: its state folder, its controller, and the process of its agent, if it runs."""

    home: Path
    controller: Controller
    request: TrialRequest
    process: subprocess.Popen[bytes] | None = None

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "agent.cli", *words, "--state-dir", str(self.home)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def start(self) -> None:
        with (self.home / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "agent.cli", "run", "--state-dir", str(self.home)],
                stdout=log,
                stderr=log,
            )
        self.controller.wait_for(lambda: self.controller.beats)

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(timeout=30)
        self.process = None
        return code

    def ring(self, attempt_id: str) -> None:
        broker.ring(broker.make_app(self.controller.broker_url, "test"), DEVICE, attempt_id)

    def attempt(self, attempt_id: str, scenario: Scenario = QUICK, **changes: Any) -> None:
        """Make an attempt known to the controller, and ring."""
        self.controller.requests[attempt_id] = replace(
            self.request, attempt_id=attempt_id, scenario=scenario, **changes
        )
        self.ring(attempt_id)

    def measuring(self, attempt_id: str) -> None:
        """Wait until the child of an attempt is in its timed loop."""
        stage = self.home / "attempts" / attempt_id / "trial" / "stage"
        self.controller.wait_for(lambda: stage.exists() and stage.read_text() == "measure")

    def children(self) -> list[int]:
        """Processes that carry this agent's mark."""
        mark = f"{MARK}={mark_of(self.home)}:".encode()
        return [pid for pid in processes._pids() if processes._has_mark(pid, mark)]

    @property
    def log(self) -> str:
        return (self.home / "agent.log").read_text()


def make_request(controller: Controller, tmp_path: Path) -> TrialRequest:
    """An attempt on a real model, its blobs with the controller."""
    content = onnx_files.dense_bytes()
    tmp_path.mkdir(exist_ok=True)
    source = tmp_path / "dense.onnx"
    source.write_bytes(content)
    model = ModelRef(
        name="dense",
        format="onnx",
        sha256=controller.put(content),
        size_bytes=len(content),
        inputs=(TensorSpec("x", "float32", (1, onnx_files.FEATURES)),),
        outputs=(TensorSpec("y", "float32", (1, onnx_files.CLASSES)),),
    )
    made = reference(ReferenceJob(model, str(source), str(tmp_path)))
    assert made.failure is None
    outputs = Path(made.path).read_bytes()
    return TrialRequest(
        schema=SCHEMA,
        attempt_id="",
        trial_id="t1",
        model=model,
        runtime=RuntimeRef("onnxruntime", threads=1),
        scenario=QUICK,
        reference=ReferenceRef(controller.put(outputs), len(outputs), 4, made.origin),
        tolerance=Tolerance(0.999, 0.01),
        limits=Limits(convert_s=60, trial_s=600, memory_mib=4096),
    )


@contextlib.contextmanager
def joined(tmp_path: Path, broker_url: str) -> Iterator[Board]:
    has_runtime = importlib.util.find_spec("onnxruntime") is not None
    need("onnxruntime", has_runtime, "it is what the agent's child measures")
    home = tmp_path / "agent"
    with serving(broker_url) as controller:
        board = Board(home, controller, make_request(controller, tmp_path))
        done = board.command("join", controller.url, JOIN_TOKEN, "--name", DEVICE)
        assert done.returncode == 0, done.stderr
        try:
            yield board
        finally:
            if board.process is not None:
                board.stop(signal.SIGKILL)
            processes.kill_marked(MARK, f"{mark_of(home)}:")


@pytest.fixture
def board(tmp_path: Path, redis_url: str) -> Iterator[Board]:
    redis.Redis.from_url(redis_url).flushall()
    with joined(tmp_path, redis_url) as made:
        yield made


def test_an_attempt_from_the_doorbell_to_the_result(board: Board) -> None:
    board.start()
    board.attempt("a1")
    result = board.controller.result_of("a1")
    assert (result.status, result.failure) == ("ok", None)
    assert result.fidelity is not None
    assert result.fidelity.passed
    assert result.samples is not None
    packed = board.controller.blobs[result.samples.sha256]
    raw = zstandard.ZstdDecompressor().decompress(packed)
    samples = np.frombuffer(raw, "<i8").reshape(len(result.samples.series), -1)
    assert samples.shape[1] == result.samples.count >= QUICK.min_samples
    assert (samples > 0).all()
    phases = result.phases
    assert phases.process_s is not None
    assert phases.total_s is not None
    assert phases.measure_s is not None
    assert phases.measure_s < phases.process_s < phases.total_s
    assert phases.fetch_s is not None

    fp16 = RuntimeRef("onnxruntime", precision="fp16")
    for number, cached in (("a2", False), ("a3", True)):
        board.attempt(number, runtime=fp16)
        again = board.controller.result_of(number)
        assert (again.status, again.convert_cached) == ("ok", cached), again.failure
        assert (again.phases.convert_s == 0.0) is cached
    assert any(beat.attempt_id == "a1" for beat in board.controller.beats)
    facts = board.controller.facts
    assert facts is not None
    assert "onnxruntime" in {r.backend for r in facts.runtimes if not r.missing}
    assert list((board.home / "attempts").iterdir()) == []
    board.controller.wait_for(lambda: not list((board.home / "samples").iterdir()))
    assert board.stop() == 0


def test_a_doubled_doorbell_starts_nothing(board: Board) -> None:
    board.start()
    board.attempt("a1", LONG)
    board.measuring("a1")
    board.ring("a1")
    board.controller.cancelled.add("a1")
    board.controller.result_of("a1")
    board.ring("a1")
    board.attempt("a2")
    board.controller.result_of("a2")
    assert board.controller.started == ["a1", "a2"]
    assert board.controller.deliveries == ["a1", "a2"]


def test_attempts_that_are_not_ours_or_superseded_are_dropped(board: Board) -> None:
    board.start()
    board.controller.superseded.add("old")
    board.ring("unknown")
    board.ring("old")
    board.attempt("a1")
    board.controller.result_of("a1")
    assert board.controller.started == ["unknown", "old", "a1"]
    assert board.controller.deliveries == ["a1"]


@pytest.mark.parametrize(
    ("what", "kind", "transient"),
    [
        ("cancelled", "cancelled", False),
        ("lost", "lease_lost", True),
        ("silent", "lease_lost", True),
    ],
)
def test_a_running_child_is_ended(board: Board, what: str, kind: str, transient: bool) -> None:
    if what == "silent":
        board.controller.lease_s = 2.0
    board.start()
    board.attempt("a1", LONG)
    board.measuring("a1")
    assert board.children()
    affected: set[str] = getattr(board.controller, what)
    affected.add("beat" if what == "silent" else "a1")
    result = board.controller.result_of("a1", within_s=20)
    assert result.status == "cancelled"
    assert result.failure is not None
    assert (result.failure.stage, result.failure.kind) == ("measure", kind)
    assert result.failure.transient is transient
    assert board.children() == []


def test_a_second_doorbell_of_a_running_attempt_has_the_controller_asked_at_once(
    board: Board,
) -> None:
    """Cancelling does not wait for the next heartbeat, however far away that is."""
    board.controller.heartbeat_s = 3600.0
    board.controller.lease_s = 7200.0
    board.start()
    board.controller.wait_for(lambda: board.controller.facts)
    for number in range(3):  # one of another attempt is not in the way, and not answered either
        board.attempt(f"a{number}", LONG)
        board.measuring(f"a{number}")
        board.controller.cancelled.add(f"a{number}")
        board.ring(f"a{number}")
        assert board.controller.result_of(f"a{number}").status == "cancelled"
        assert board.children() == []
    assert board.controller.started == ["a0", "a1", "a2"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_the_child_and_reports_it_at_once(board: Board, number: int) -> None:
    board.start()
    board.attempt("a1", LONG)
    board.measuring("a1")
    assert board.stop(number) == 0
    result = board.controller.results["a1"]
    assert result.status == "cancelled"
    assert result.failure is not None
    assert (result.failure.kind, result.failure.transient) == ("shutdown", True)
    assert board.children() == []


def test_a_stop_right_after_the_start(board: Board) -> None:
    board.start()
    assert board.stop() == 0
    assert board.children() == []


def test_kill_9_leaves_no_child_and_is_reported_by_the_next_agent(board: Board) -> None:
    board.start()
    board.attempt("a1", LONG)
    board.measuring("a1")
    board.stop(signal.SIGKILL)
    assert board.children()
    board.start()
    result = board.controller.result_of("a1")
    assert result.failure is not None
    assert (result.status, result.failure.kind) == ("failed", "agent_died")
    assert (result.failure.stage, result.failure.transient) == ("measure", True)
    board.attempt("a2")
    assert board.controller.result_of("a2").status == "ok"
    assert board.children() == []
    assert board.controller.started == ["a1", "a2"]


def test_a_result_outlives_the_agent_that_made_it(board: Board) -> None:
    board.start()
    board.controller.silent.add("result")
    board.attempt("a1")
    board.controller.wait_for(lambda: "not delivered" in board.log)
    board.stop(signal.SIGKILL)
    board.controller.silent.clear()
    board.start()
    assert board.controller.result_of("a1").status == "ok"
    assert board.controller.deliveries == ["a1"]


def test_a_request_of_a_newer_contract_is_answered_with_a_failure(board: Board) -> None:
    board.start()
    board.attempt("a1", schema=SCHEMA + 1)
    result = board.controller.result_of("a1")
    assert result.failure is not None
    assert (result.status, result.failure.kind) == ("failed", "schema")


def test_two_agents_do_not_share_a_board(board: Board) -> None:
    board.start()
    board.controller.wait_for(lambda: (board.home / "agent.lock").exists())
    second = board.command("run")
    assert second.returncode == 2
    assert "another agent runs" in second.stderr
    assert "Traceback" not in second.stderr


# --- the broker


def body(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def envelope(
    content: object, headers: object = None, content_type: str = "application/json"
) -> str:
    """A message as kombu frames it, with whatever is wrong inside."""
    return json.dumps(
        {
            "body": content,
            "content-encoding": "utf-8",
            "content-type": content_type,
            "headers": {"task": broker.TASK, "id": "x"} if headers is None else headers,
            "properties": {
                "delivery_tag": "t",
                "delivery_info": {"exchange": "", "routing_key": broker.queue_name(DEVICE)},
                "body_encoding": "base64",
            },
        }
    )


POISON: list[str | bytes] = [
    "1",
    "[]",
    "null",
    "{}",
    '"x"',
    "nonsense",
    b"\xff\xfe",
    json.dumps({"body": body("1")}),
    envelope("!!! not base64"),
    envelope(None),
    envelope(body("1")),
    envelope(body("[]")),
    envelope(body("null")),
    envelope(body("{")),
    envelope(body("[1, 2, 3]")),
    envelope(body("[[], {}, {}]")),
    envelope(body('[["a"], {}, {}]')),
    envelope(body('[[], {"attempt_id": "../../etc"}, {}]')),
    envelope(body('[[], {"attempt_id": 7}, null]')),
    envelope(body("[[], {}, {}]"), headers={}),
    envelope(body("[[], {}, {}]"), headers=[]),
    envelope(body("[[], {}, {}]"), headers={"task": "os.system", "id": "x"}),
    envelope(body("[[], {}, {}]"), headers={"task": None, "id": None}),
    envelope(
        body("[[], {}, {}]"), headers={"task": broker.TASK, "id": {}, "eta": "x", "retries": "z"}
    ),
    envelope(body("x"), content_type="application/x-python-serialize"),
]


def test_a_device_that_hears_nothing_has_few_doorbells_waiting(redis_url: str) -> None:
    app = broker.make_app(redis_url, "test")
    ring, queue = Bell(app), broker.queue_name("deaf")
    with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
        client.delete(queue)
        for number in range(3 * broker.LONGEST_QUEUE):
            ring("deaf", f"a{number}")
        assert client.llen(queue) == broker.LONGEST_QUEUE
        newest = json.loads(client.lindex(queue, 0) or b"{}")
        assert b"a23" in base64.b64decode(newest["body"])
        client.delete(queue)
    app.close()


def test_while_a_trial_runs_the_broker_knows_nothing_of_it(board: Board, redis_url: str) -> None:
    """So no visibility timeout brings it back, however many hours it takes."""
    board.start()
    board.attempt("a1", LONG)
    board.measuring("a1")
    with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
        assert client.keys() == []
    end_attempt(board, "a1")
    assert board.controller.started == ["a1"]


def test_poison_does_not_end_the_agent(board: Board, redis_url: str) -> None:
    board.start()
    client = redis.Redis.from_url(redis_url)
    queue = broker.queue_name(DEVICE)
    for message in POISON:
        client.lpush(queue, message)
    board.attempt("a1")
    assert board.controller.result_of("a1", within_s=180).status == "ok"
    assert board.controller.started == ["a1"]
    assert client.llen(queue) == 0
    assert board.process is not None
    assert board.process.poll() is None
    client.close()


def test_poison_beside_a_measurement_does_not_disturb_its_result(
    board: Board, redis_url: str
) -> None:
    board.start()
    scenario = replace(QUICK, min_duration_s=3.0, max_duration_s=3.0)
    board.attempt("a1", scenario)
    board.measuring("a1")
    with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
        for message in POISON[:4]:
            client.lpush(broker.queue_name(DEVICE), message)
    assert board.controller.result_of("a1").status == "ok"
    board.attempt("a2")
    assert board.controller.result_of("a2").status == "ok"


def test_a_device_needs_its_own_key_and_four_commands(tmp_path: Path, redis_url: str) -> None:
    """What a farm's Redis may hold each device to."""
    with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
        client.acl_setuser(
            DEVICE,
            enabled=True,
            passwords=["+secret"],
            keys=[broker.queue_name(DEVICE)],
            commands=["-@all", "+brpop", "+lpush", "+ping", "+hello"],
            reset=True,
        )
        device_url = redis_url.replace("://", f"://{DEVICE}:secret@")
        try:
            with joined(tmp_path, device_url) as board:
                board.start()
                for attempt_id in ("a1", "a2"):
                    board.attempt(attempt_id)
                    assert board.controller.result_of(attempt_id).status == "ok"
                with pytest.raises(broker.BrokerDown, match="no permissions"):
                    broker.ring(broker.make_app(device_url, "test"), "other", "a1")
                assert board.stop() == 0
                assert "NOPERM" not in board.log
        finally:
            client.acl_deluser(DEVICE)


def test_a_broker_that_comes_late_or_comes_back(tmp_path: Path) -> None:
    program = redis_program()
    need("redis", program is not None, "no redis-server on the path")
    assert program is not None
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]

    def redis_process() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        with contextlib.closing(redis.Redis(port=port)) as client:
            for _ in range(200):
                with contextlib.suppress(redis.ConnectionError):
                    client.ping()
                    break
                time.sleep(0.05)
        return process

    with joined(tmp_path, f"redis://127.0.0.1:{port}/0") as board:
        board.start()
        board.controller.wait_for(lambda: "broker not reachable" in board.log)
        for attempt_id in ("a1", "a2"):
            server = redis_process()
            try:
                board.attempt(attempt_id)
                assert board.controller.result_of(attempt_id, within_s=120).status == "ok"
            finally:
                server.kill()
                server.wait()
        assert board.stop() == 0


# --- in a thread of another process


@pytest.mark.parametrize("transport", ["memory", "redis"])
def test_an_agent_in_a_thread(
    tmp_path: Path, transport: str, request: pytest.FixtureRequest
) -> None:
    url = "memory://" if transport == "memory" else request.getfixturevalue("redis_url")
    with joined(tmp_path, url) as board:
        for attempt_id in ("a1", "a2"):  # started twice: nothing of the first may be left
            agent = Agent(settings.load(board.home))
            agent.start()
            assert agent.wait_ready(60)
            board.attempt(f"{transport}-{attempt_id}")
            assert board.controller.result_of(f"{transport}-{attempt_id}").status == "ok"
            assert agent.stop()
        agent = Agent(settings.load(board.home))
        agent.start()
        assert agent.wait_ready(60)
        board.attempt(f"{transport}-long", LONG)
        board.measuring(f"{transport}-long")
        assert agent.stop()
        failure = board.controller.results[f"{transport}-long"].failure
        assert failure is not None
        assert failure.kind == "shutdown"


def test_two_agents_in_one_process(tmp_path: Path, redis_url: str) -> None:
    with (
        joined(tmp_path / "one", redis_url) as one,
        joined(tmp_path / "two", redis_url) as two,
    ):
        two_config = replace(settings.load(two.home), device="board-2")
        agents = [Agent(settings.load(one.home)), Agent(two_config)]
        for agent in agents:
            agent.start()
        for agent in agents:
            assert agent.wait_ready(60)
        one.controller.requests["a1"] = replace(one.request, attempt_id="a1")
        two.controller.requests["a2"] = replace(two.request, attempt_id="a2")
        app = broker.make_app(redis_url, "test")
        broker.ring(app, DEVICE, "a1")
        broker.ring(app, "board-2", "a2")
        assert one.controller.result_of("a1").status == "ok"
        assert two.controller.result_of("a2").status == "ok"
        assert agents[0].stop()
        two.controller.requests["a3"] = replace(two.request, attempt_id="a3")
        broker.ring(app, "board-2", "a3")
        assert two.controller.result_of("a3").status == "ok"
        assert agents[1].stop()


# --- the commands


def test_the_doctor(board: Board) -> None:
    done = board.command("doctor", "-o", "json")
    findings = {f["check"]: f for f in json.loads(done.stdout)}
    assert done.returncode == 0, done.stdout
    assert set(findings) == {
        "joined", "controller", "clock", "token", "broker", "disk", "runtimes"
    }  # fmt: skip
    config = settings.load(board.home)
    settings.save(replace(config, token="wrong", broker_url="redis://127.0.0.1:1/0"))
    done = board.command("doctor", "-o", "json")
    failed = {f["check"] for f in json.loads(done.stdout) if not f["ok"]}
    assert (done.returncode, failed) == (1, {"token", "broker"})


def test_the_commands_refuse_wrong_input_in_one_line(board: Board, tmp_path: Path) -> None:
    other = replace(board, home=tmp_path / "other")
    for words, code, says in (
        (["run"], 2, "benchfarm-agent join"),
        (["join", "farm", JOIN_TOKEN], 2, "http://HOST:PORT"),
        (["join", board.controller.url, JOIN_TOKEN, "--name", "a b"], 2, "device name"),
        (["join", board.controller.url, "wrong", "--name", "b"], 2, "spent"),
        (["join", "http://127.0.0.1:1", JOIN_TOKEN], 1, "no answer from the controller"),
        (["runtimes", "add", "onnxruntime", "--python", "/nowhere"], 2, "/nowhere"),
        (["runtimes", "remove", "x"], 2, "no environment 'x'"),
    ):
        done = other.command(*words)
        assert (done.returncode, done.stdout) == (code, ""), words
        assert says in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_an_environment_of_its_own(board: Board, tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "venv",
            "--without-pip",
            "--system-site-packages",
            tmp_path / "venv",
        ],
        check=True,
    )
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    (site / "outer.pth").write_text("\n".join(p for p in sys.path if p.endswith("site-packages")))
    done = board.command("runtimes", "add", "onnxruntime", "--python", str(python))
    assert done.returncode == 0, done.stderr
    name = done.stdout.split(":")[0]
    board.start()
    board.attempt("a1")
    assert board.controller.result_of("a1").environment == name
    listed = json.loads(board.command("runtimes", "list", "-o", "json").stdout)
    found = [r["facts"] for r in listed if r["facts"]["backend"] == "onnxruntime"]
    assert [f["environment"] for f in found] == [name]
    assert board.command("runtimes", "remove", name).returncode == 0


# --- runtime environments that come and go


def another_python(folder: Path) -> str:
    """An interpreter by another path, as an environment has."""
    path = folder / "another-python"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    path.chmod(0o755)
    return str(path)


def told(board: Board) -> set[str]:
    """The environments of onnxruntime that the controller has heard of."""
    facts = board.controller.facts
    runtimes = facts.runtimes if facts else ()
    return {r.environment for r in runtimes if r.backend == "onnxruntime" and not r.missing}


def listening(board: Board) -> None:
    board.start()
    board.controller.wait_for(lambda: told(board) == {"default"}, 120)


def add_another(board: Board) -> str:
    done = board.command("runtimes", "add", "onnxruntime", "--python", another_python(board.home))
    assert done.returncode == 0, done.stderr
    return done.stdout.split(":")[0]


def end_attempt(board: Board, attempt_id: str) -> None:
    board.controller.cancelled.add(attempt_id)
    assert board.controller.result_of(attempt_id).status == "cancelled"


def test_environments_are_told_of_without_a_restart(board: Board) -> None:
    listening(board)
    name = add_another(board)
    board.controller.wait_for(lambda: told(board) == {name}, 120)
    board.attempt("a1")
    assert board.controller.result_of("a1").environment == name
    assert board.command("runtimes", "remove", name).returncode == 0
    board.controller.wait_for(lambda: told(board) == {"default"}, 120)
    board.attempt("a2")
    assert board.controller.result_of("a2").environment == "default"
    (board.home / "environments.json").write_text("{")
    board.controller.wait_for(lambda: "expected a list of objects" in board.log)
    assert board.stop() == 0


def test_nothing_is_probed_beside_a_measurement(board: Board) -> None:
    listening(board)
    board.attempt("a1", LONG)
    board.measuring("a1")
    before = board.children()
    name = add_another(board)
    watched_until = time.monotonic() + 2.5 * LOOK_S
    while time.monotonic() < watched_until:
        assert board.children() == before  # the measured child and its like, no probe
        time.sleep(0.1)
    assert told(board) == {"default"}
    end_attempt(board, "a1")
    board.controller.wait_for(lambda: told(board) == {name}, 120)


def test_an_environment_is_removed_between_attempts_only(board: Board) -> None:
    listening(board)
    name = add_another(board)
    board.controller.wait_for(lambda: told(board) == {name}, 120)
    board.attempt("a1", LONG)
    board.measuring("a1")
    words = ["runtimes", "remove", name, "--state-dir", str(board.home)]
    removing = subprocess.Popen(
        [sys.executable, "-m", "agent.cli", *words], stderr=subprocess.PIPE, text=True
    )
    assert removing.stderr is not None
    assert "waiting for the end of the attempt" in removing.stderr.readline()
    assert name in (board.home / "environments.json").read_text()
    assert removing.poll() is None
    end_attempt(board, "a1")
    _, said = removing.communicate(timeout=60)
    assert removing.returncode == 0, said
    assert name not in (board.home / "environments.json").read_text()

    name = add_another(board)
    board.attempt("a2", LONG)
    board.measuring("a2")
    forced = board.command("runtimes", "remove", name, "--force")
    assert (forced.returncode, forced.stderr) == (0, "")
    assert name not in (board.home / "environments.json").read_text()
    end_attempt(board, "a2")
