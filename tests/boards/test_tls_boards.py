"""Boards of a farm whose controller and Redis have certificates of its own authority."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from farm.board import Board
from farm.cache import keep_wheels
from farm.farm import Farm
from support import cli
from support.board_files import OLDER
from support.cli import Shell
from support.need import need
from support.servers import free_port, redis_program, redis_server

Find = Callable[[str], Board]
Ssh = Callable[[Board], tuple[str, ...]]

CLASS = ("--class", "x86-64-generic")  # fits any processor of this machine


@pytest.fixture(scope="module")
def ca(farm: Farm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and certificates for the address that boards reach, as a user makes them."""
    home = tmp_path_factory.mktemp("authority")
    shell = cli.shell_in(home)
    shell.fine("ca", "init", "--folder", "ca")
    for name in ("controller", "redis"):
        shell.fine("ca", "issue", name, "--folder", "ca", "--san", farm.network.gateway)
    return home / "ca"


@pytest.fixture(scope="module")
def tls_shell(farm: Farm, ca: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """``benchfarm`` with HTTPS, and Redis with TLS alone and its default user closed."""
    program = redis_program()
    need("redis", program is not None, "no redis-server on the path")
    assert program is not None
    home, host, port = tmp_path_factory.mktemp("tls") / "home", farm.network.gateway, free_port()
    keep_wheels(home)
    place = f"rediss://{host}:{port}/0"
    made = cli.shell_in(home)("broker", "acl", "--broker", place, "--output", home / "users.acl")
    url = re.search(r"BENCHFARM_BROKER_URL=(\S+)", made.stderr)
    assert url is not None, made.stderr
    options = ["--tls-port", str(port), "--port", "0", "--tls-auth-clients", "no"]
    options += ["--tls-cert-file", f"{ca}/redis.pem", "--tls-key-file", f"{ca}/redis.key"]
    options += ["--tls-ca-cert-file", f"{ca}/ca.pem", "--aclfile", f"{home}/users.acl"]
    with (
        redis_server(program, host, port, options),
        cli.running(
            home,
            ("--host", host),
            BENCHFARM_BROKER_URL=url[1],
            BENCHFARM_TLS_CERTIFICATE=f"{ca}/controller.pem",
            BENCHFARM_TLS_KEY=f"{ca}/controller.key",
            BENCHFARM_CA_FILE=f"{ca}/ca.pem",
        ) as found,
    ):
        yield found


@pytest.fixture(scope="module")
def secure(tls_shell: Shell, farm: Farm) -> Iterator[Board]:
    """The board ``two``, registered as ``secure``; its health check runs a trial, for which the
    doorbell comes over ``rediss://``."""
    two = farm.boards["two"]
    two.on()
    two.wait_ssh()
    ssh = ("--ssh", f"bench@{two.address}", "--identity", str(farm.key))
    said = tls_shell.fine("device", "add", "secure", *ssh, *CLASS)
    assert re.search(r"broker +ok", said)
    assert "secure's health: good" in said
    yield two
    tls_shell.fine("device", "retire", "secure")
    assert two.inside("ls /opt; getent passwd benchfarm || true") == ""


def test_a_name_that_the_certificate_lacks_is_refused_before_anything_is_installed(
    tls_shell: Shell, farm: Farm, board: Find, ssh: Ssh
) -> None:
    one = board("one")
    one.inside(f"echo '{farm.network.gateway} other.lan' >> /etc/hosts")
    port = json.loads((tls_shell.home / "client.json").read_text())["url"].rpartition(":")[2]
    url = f"https://other.lan:{port}"
    ended = tls_shell("device", "add", "named", *ssh(one), *CLASS, "--controller-url", url)
    one.inside("sed -i '/other.lan/d' /etc/hosts || sed '/other.lan/d' /etc/hosts > /etc/hosts")
    assert ended.returncode == 1
    assert "it is not for other.lan" in ended.stderr
    assert "--san other.lan" in ended.stderr
    assert one.inside("ls /opt") == ""


def test_a_fleet_file_brings_up_the_same_board(
    tls_shell: Shell, farm: Farm, secure: Board, tmp_path: Path
) -> None:
    board = {"ssh": f"bench@{secure.address}", "identity": str(farm.key)}
    devices = {"secure": {**board, "class": "x86-64-generic"}}
    file = tmp_path / "farm.yaml"
    file.write_text(yaml.safe_dump({"devices": devices}))
    assert "changed=0" in tls_shell.fine("inventory", "apply", file)
    # from its join on, every step by the fleet file
    secure.inside("systemctl stop benchfarm-agent; rm /var/lib/benchfarm/agent.json")
    said = tls_shell.fine("inventory", "apply", file)
    assert re.search(r"secure: \d+ steps, changed=[2-5]\b", said), said
    assert "no drift" in tls_shell.fine("inventory", "diff", file)


def test_its_doctor_finds_nothing_wrong(tls_shell: Shell, secure: Board) -> None:
    found = json.loads(tls_shell.fine("device", "doctor", "secure", "-o", "json"))
    assert [f for f in found if not f["ok"]] == []
    assert any(f["check"] == "broker" and "rediss://" in f["text"] for f in found)


def test_the_printed_line_joins_a_board(tls_shell: Shell, secure: Board, ca: Path) -> None:
    said = tls_shell.fine("device", "join-token", "by-hand")
    assert f"first copy {ca}/ca.pem to /etc/benchfarm/ca.pem" in said
    (line,) = re.findall(r"^ +(benchfarm-agent join .*)$", said, re.MULTILINE)
    assert line.endswith("--ca-file /etc/benchfarm/ca.pem")
    (secure.root / "etc/benchfarm").mkdir()
    (secure.root / "etc/benchfarm/ca.pem").write_text((ca / "ca.pem").read_text())
    program = f"/opt/benchfarm/agent/bin/{line} --state-dir /root/by-hand"
    assert "joined as by-hand" in secure.inside(program)
    tried = secure.inside("/opt/benchfarm/agent/bin/benchfarm-agent doctor "
                          "--state-dir /root/by-hand -o json || true")  # fmt: skip
    assert {f["check"]: f["ok"] for f in json.loads(tried)}["broker"]
    tls_shell.fine("device", "retire", "by-hand", "--forget")


def test_rotated_and_upgraded_it_comes_back(tls_shell: Shell, secure: Board) -> None:
    said = tls_shell.fine("device", "rotate", "secure")
    assert "--ca-file /etc/benchfarm/ca.pem" in said
    said = tls_shell.fine("device", "add", "secure")
    assert re.search(r"join +changed", said)
    secure.inside(OLDER)
    said = tls_shell.fine("device", "upgrade", "secure")
    assert "upgraded from" in said
    assert tls_shell.fine("device", "doctor", "secure")
