"""HTTPS and rediss:// with certificates of a private authority, and with those of another."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from agent import broker
from agent.worker.config import load
from agent.worker.doctor import examine
from agent.worker.errors import ControllerUnreachable
from agent.worker.uplink.enrol import join
from orchestrator import certificates, wiring
from orchestrator.client import Client, NoController
from orchestrator.controller import Controller
from orchestrator.domain.errors import UserError
from orchestrator.local.setup import local_agent, wait_online
from orchestrator.service.devices import devices, registration
from orchestrator.settings import Settings, read_settings
from support import onnx_files
from support.farms import spec_text
from support.need import need
from support.servers import free_port, redis_program, redis_server


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority with certificates for controller and Redis."""
    folder = tmp_path_factory.mktemp("ca")
    certificates.init(folder)
    for name in ("controller", "redis"):
        certificates.issue(folder, name)
    return folder


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another authority's certificate."""
    folder = tmp_path_factory.mktemp("stranger")
    return certificates.init(folder).certificate


@pytest.fixture
def broker_url(ca: Path) -> Iterator[str]:
    program = redis_program()
    need("redis", program is not None, "no redis-server on the path")
    assert program is not None
    port = free_port()
    more = ["--tls-port", str(port), "--tls-cert-file", str(ca / "redis.pem")]
    more += ["--tls-key-file", str(ca / "redis.key"), "--tls-auth-clients", "no"]
    with redis_server(program, more=[*more, "--tls-ca-cert-file", str(ca / "ca.pem")]):
        yield f"rediss://127.0.0.1:{port}/0"


@pytest.fixture
def running(tmp_path: Path, ca: Path, broker_url: str) -> Iterator[Controller]:
    settings = Settings(
        home=tmp_path / "home",
        port=0,
        broker_url=broker_url,
        tls_certificate=ca / "controller.pem",
        tls_key=ca / "controller.key",
        ca_file=ca / "ca.pem",
        heartbeat_s=0.3,
    )
    with wiring.controller(settings) as found:
        yield found


def test_an_agent_joins_and_runs_a_trial_over_tls(
    running: Controller, ca: Path, tmp_path: Path
) -> None:
    assert running.url.startswith("https://")
    with local_agent(running, "bench"):
        assert wait_online(running, "bench")
        config = load(running.farm.settings.home / "agent")
        assert config.broker_url.startswith("rediss://device-bench:")
        assert config.ca_file == str(ca / "ca.pem")
        model = tmp_path / "dense.onnx"
        model.write_bytes(onnx_files.dense_bytes())
        # as the command line finds it: address, token and authority from the note of `up`
        with Client.from_home(running.farm.settings.model_copy(update={"ca_file": None})) as person:
            person.add_model(model)
            person.submit(spec_text(more="scenario: {max_duration_s: 2}\n"), "sweep.yaml")
            _wait_done(person)
            assert person.sweep("first").counts == {"done": 1}
    token = registration.join_token(running.farm, "other").join_token
    other = join(running.url, token, "other", tmp_path / "other", str(ca / "ca.pem"))
    app = broker.make_app(other.broker_url, "other", other.ca_file)
    assert broker.no_answer(app) == ""
    found = {f.check: f for f in examine(other.state_dir)}
    assert found["broker"].ok, found["broker"].text


def _wait_done(person: Client) -> None:
    deadline = time.monotonic() + 120
    while person.sweep("first").state != "done":
        assert time.monotonic() < deadline, person.sweep("first")
        time.sleep(0.2)


def test_another_authority_is_refused_in_words(
    running: Controller, stranger: Path, tmp_path: Path, broker_url: str
) -> None:
    for ca_file in (str(stranger), ""):
        token = registration.join_token(running.farm, "other").join_token
        with pytest.raises(ControllerUnreachable, match=r"not trusted here.*--ca-file"):
            join(running.url, token, "other", tmp_path / "other", ca_file)
        with (
            Client(running.url, running.token, ca_file) as client,
            pytest.raises(NoController, match=r"not trusted here.*BENCHFARM_CA_FILE"),
        ):
            client.devices()
        why = broker.no_answer(broker.make_app(broker_url, "other", ca_file))
        assert "not trusted here" in why
    assert devices.device(running.farm, "other").facts is None
    with httpx.Client(verify=False) as blind:
        answer = blind.get(f"{running.url}/api/v1/devices")
    assert answer.headers["strict-transport-security"].startswith("max-age=")


def test_a_name_that_the_certificate_lacks_is_refused(ca: Path) -> None:
    context = ssl.create_default_context(cafile=str(ca / "ca.pem"))
    pair, names = certificates.issue(ca, "named", ["farm.example", "10.1.2.3"])
    assert names[:3] == ("localhost", "127.0.0.1", "::1")
    assert names[-2:] == ("farm.example", "10.1.2.3")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pair.certificate, pair.key)
    for name, fine in (("farm.example", True), ("10.1.2.3", True), ("evil.example", False)):
        assert _shakes_hands(context, server, name) is fine, name


def _shakes_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> bool:
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(down, up, server_hostname=name)
    theirs = server.wrap_bio(up, down, server_side=True)
    for _ in range(5):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError:
                return False
            except ssl.SSLError:
                return False
    return ours.version() is not None


def test_the_commands_make_what_openssl_accepts(tmp_path: Path) -> None:
    def benchfarm(*words: str) -> subprocess.CompletedProcess[str]:
        program = Path(sys.executable).parent / "benchfarm"
        return subprocess.run(
            [program, "ca", *words], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )

    assert "there: `benchfarm ca init`" in benchfarm("issue", "redis").stderr
    assert benchfarm("init").returncode == 0
    again = benchfarm("init")
    assert (again.returncode, "is not replaced" in again.stderr) == (2, True)
    assert benchfarm("issue", "redis", "--san", "farm.example").returncode == 0
    for bad in (["issue", "ca"], ["issue", "../x"], ["issue", "x", "--san", "a b"]):
        refused = benchfarm(*bad)
        assert refused.returncode == 2, bad
        assert refused.stderr.startswith("error: ")
    made = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "ca").iterdir()}
    assert made == {"ca.pem": 0o644, "ca.key": 0o600, "redis.pem": 0o644, "redis.key": 0o600}
    context = ssl.create_default_context(cafile=str(tmp_path / "ca" / "ca.pem"))
    assert len(context.get_ca_certs()) == 1


def test_certificate_and_key_go_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCHFARM_TLS_CERTIFICATE", "x.pem")
    with pytest.raises(UserError, match="BENCHFARM_TLS_CERTIFICATE and BENCHFARM_TLS_KEY go"):
        read_settings(home=tmp_path)
    monkeypatch.setenv("BENCHFARM_TLS_KEY", "x.key")
    settings = read_settings(home=tmp_path, port=0)
    with (
        contextlib.ExitStack() as stack,
        pytest.raises(UserError, match=r"BENCHFARM_TLS_CERTIFICATE x\.pem .*cannot be used"),
    ):
        stack.enter_context(wiring.controller(settings))
