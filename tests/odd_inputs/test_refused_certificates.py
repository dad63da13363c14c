"""Certificates that are refused: a person's client, an agent's and the broker's say the same, and
what to do; by address, IPv6 too."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from agent import broker, tls
from agent.worker.errors import AgentError
from agent.worker.uplink.http_client import Uplink
from orchestrator import addresses, certificates
from orchestrator.certificates import CertificateFiles
from orchestrator.client import Client, NoController
from orchestrator.domain.errors import FarmError, UserError
from orchestrator.settings import Settings

ANSWER = b"HTTP/1.1 503 no\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    return certificates.init(tmp_path / "ca").certificate


@contextlib.contextmanager
def serving(
    pair: CertificateFiles | None, host: str = "127.0.0.1", wants: Path | None = None
) -> Iterator[int]:
    """A server that answers 503; its port. Without ``pair`` without TLS; ``wants``: it asks clients
    for certificates of that authority."""
    context = None
    if pair is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        if wants is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cafile=wants)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if family == socket.AF_INET6 and not Path("/proc/sys/net/ipv6").exists():
        pytest.skip("this machine has no IPv6")
    with socket.create_server((host, 0), family=family) as listener:
        thread = threading.Thread(target=_answer, args=(listener, context), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def _answer(listener: socket.socket, context: ssl.SSLContext | None) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            if context is None:
                connection.recv(1000)
                connection.sendall(ANSWER)
                continue
            with context.wrap_socket(connection, server_side=True) as safe:
                safe.recv(1000)
                safe.sendall(ANSWER)


def person(place: str, ca_file: str) -> str:
    with Client(f"https://{place}", "token", ca_file) as client:
        try:
            client.devices()
        except NoController as error:
            return str(error)
        except FarmError as error:  # it got its 503: the certificate was accepted
            return f"accepted: {error}"
    raise AssertionError


def agent(place: str, ca_file: str) -> str:
    with Uplink(f"https://{place}", "token", ca_file=ca_file) as uplink:
        try:
            uplink.check_token("board")
        except AgentError as error:
            return f"accepted: {error}" if "503" in str(error) else str(error)
    raise AssertionError


def doorbell(place: str, ca_file: str) -> str:
    said = broker.no_answer(broker.make_app(f"rediss://benchfarm:secret@{place}/0", "x", ca_file))
    assert "secret" not in said
    assert "Traceback" not in said
    return f"accepted: {said}" if "closes the connection" in said else said


CLIENTS = pytest.mark.parametrize("client", [person, agent, doorbell])
Ask = Callable[[str, str], str]


@CLIENTS
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_a_good_one_is_accepted_by_name_and_by_address(ca: Path, client: Ask, host: str) -> None:
    pair, _ = certificates.issue(ca.parent, "good")
    with serving(pair, "::1" if host == "[::1]" else "127.0.0.1") as port:
        assert client(f"{host}:{port}", str(ca)).startswith("accepted: ")


@CLIENTS
def test_an_unknown_authority(ca: Path, tmp_path: Path, client: Ask) -> None:
    pair, _ = certificates.issue(ca.parent, "good")
    other = certificates.init(tmp_path / "other").certificate
    with serving(pair) as port:
        for ca_file in ("", str(other)):
            said = client(f"127.0.0.1:{port}", ca_file)
            assert "signed by an authority that is not trusted here" in said
            assert "BENCHFARM_CA_FILE" in said or "--ca-file" in said


@CLIENTS
def test_an_expired_one(ca: Path, client: Ask) -> None:
    pair, _ = certificates.issue(ca.parent, "old", days=0)
    with serving(pair) as port:
        said = client(f"127.0.0.1:{port}", str(ca))
    assert "it has expired (this machine's clock says 20" in said
    assert "--ca-file" not in said, "another authority would not help"


@CLIENTS
def test_one_of_tomorrow_names_the_clock(
    ca: Path, monkeypatch: pytest.MonkeyPatch, client: Ask
) -> None:
    monkeypatch.setattr(certificates, "BACKDATED", timedelta(days=-1))
    pair, _ = certificates.issue(ca.parent, "early")
    with serving(pair) as port:
        assert "not valid yet: this machine's clock says" in client(f"127.0.0.1:{port}", str(ca))


@CLIENTS
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_one_for_another_name(
    ca: Path, monkeypatch: pytest.MonkeyPatch, client: Ask, host: str
) -> None:
    monkeypatch.setattr(certificates, "LOCAL_NAMES", ())
    pair, _ = certificates.issue(ca.parent, "elsewhere", ["farm.lan", "10.0.0.1"])
    bare = host.strip("[]")
    with serving(pair, bare if ":" in bare else "127.0.0.1") as port:
        said = client(f"{host}:{port}", str(ca))
    assert f"it is not for {bare}: " in said
    assert f"--san {bare}" in said


@CLIENTS
def test_no_tls_at_all(ca: Path, client: Ask) -> None:
    with serving(None) as port:
        assert "does not speak TLS there" in client(f"127.0.0.1:{port}", str(ca))


@CLIENTS
def test_a_server_that_asks_for_a_clients_certificate(ca: Path, client: Ask) -> None:
    pair, _ = certificates.issue(ca.parent, "mutual")
    with serving(pair, wants=ca) as port:
        said = client(f"127.0.0.1:{port}", str(ca))
    assert re.search("asks? for a client's certificate", said), said


def test_http_where_https_is_served(ca: Path) -> None:
    pair, _ = certificates.issue(ca.parent, "good")
    with serving(pair) as port, Client(f"http://127.0.0.1:{port}", "token") as client:
        with pytest.raises(NoController, match="serves https:// there"):
            client.devices()
        with pytest.raises(AgentError, match="serves https:// there"):
            Uplink(f"http://127.0.0.1:{port}").check_token("board")


@pytest.mark.parametrize("content", [None, "", "hello", "folder", "key"])
def test_a_file_that_is_no_authority_is_named(
    ca: Path, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "given.pem"
    if content == "folder":
        file.mkdir()
    elif content is not None:
        file.write_text((ca.parent / "ca.key").read_text() if content == "key" else content)
    for use in (
        lambda: Client("https://127.0.0.1:1", "token", str(file)),
        lambda: Uplink("https://127.0.0.1:1", ca_file=str(file)),
        lambda: tls.require_authority(str(file)),
    ):
        with pytest.raises((UserError, AgentError, tls.BadAuthority), match=str(file)):
            use()


NAMES = ["farm.lan", "*.lab.lan", "fd00::2", "10.0.0.1"]


@pytest.mark.parametrize(
    ("host", "fits"),
    [
        *(("farm.lan", True), ("FARM.lan.", True), ("a.lab.lan", True), ("fd00::2", True)),
        *(("lab.lan", False), ("a.b.lab.lan", False), ("10.0.0.2", False), ("", False)),
    ],
)
def test_which_names_a_certificate_is_for(host: str, fits: bool) -> None:
    assert certificates.is_for(NAMES, host) is fits


def test_the_controller_names_itself_as_its_certificate_does(
    ca: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def named(
        host: str, *names: str, local: bool = False, controller_url: str = ""
    ) -> tuple[str, str]:
        monkeypatch.setattr(certificates, "LOCAL_NAMES", ("localhost",) if local else ())
        monkeypatch.setattr("socket.gethostname", lambda: "made-elsewhere")
        pair, _ = certificates.issue(ca.parent, "controller", names)
        monkeypatch.setattr("socket.gethostname", lambda: "ctl1")
        settings = Settings(
            host=host,
            port=8470,
            tls_certificate=pair.certificate,
            tls_key=pair.key,
            controller_url=controller_url,
        )
        settings, url = addresses.certified(settings)
        return settings.public_url, url

    assert named("0.0.0.0", "ctl1", local=True) == ("https://ctl1:8470", "https://localhost:8470")
    # not by the host name, but by a name that leads here
    monkeypatch.setattr(addresses, "_is_loopback", lambda name: False)
    assert named("127.0.0.1", "localhost")[0] == "https://localhost:8470"
    assert caplog.text == ""
    assert named("0.0.0.0", "10.255.255.1")[0] == "https://ctl1:8470"
    assert "is for made-elsewhere, 10.255.255.1, not for ctl1" in caplog.text
    assert "BENCHFARM_CONTROLLER_URL=https://NAME:8470" in caplog.text
    given = named("0.0.0.0", "farm.lan", controller_url="https://farm.lan:8470/")
    assert given == ("https://farm.lan:8470", "https://farm.lan:8470")
    proxied = named("127.0.0.1", "localhost", controller_url="https://farm.example")
    assert proxied == ("https://farm.example", "https://localhost:8470")
