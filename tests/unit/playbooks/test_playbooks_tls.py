"""Whom a board trusts: its authority is that of the controller, and is replaced with it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from orchestrator import certificates
from playbooks.connection import CommandResult
from playbooks.steps import join_step
from playbooks.target import BoardTarget

URL = "https://farm.lan:8470"
OK = CommandResult(0, "", "")


@dataclass
class Joined:
    """A board that joined, as far as the join step looks at it."""

    ca_file: str = ""
    trusts: str = ""
    token_check: str = ""
    authority: str = ""
    written: dict[str, str] = field(default_factory=dict)
    ran: list[tuple[str, ...]] = field(default_factory=list)
    device: str = "pi"
    device_class: str = "arm64-generic"
    url: str = URL
    joined: bool = True

    @property
    def target(self) -> BoardTarget:
        return cast(BoardTarget, self)

    @property
    def host(self) -> Joined:
        return self

    @property
    def controller(self) -> Joined:
        return self

    @property
    def python(self) -> Joined:
        return self

    path = "/usr/bin/python3"

    def output(self, command: str, *, root: bool = False) -> str:
        assert root, "the agent's files are its own"
        if command == f"cat {shlex.quote(self.ca_file)}":
            return self.trusts
        assert "agent.json" in command
        return f"pi {URL} {self.ca_file}".strip()

    def known(self, _: str) -> Joined:
        return self

    def as_agent(self, *words: str, secret: str = "") -> CommandResult:
        if "check_token" in words[-1]:
            return CommandResult(0, self.token_check, "")
        assert secret == "one-time\n"
        self.ran.append(words)
        return OK

    def join_token(self, _: str, __: str) -> str:
        return "one-time"

    def script(self, _: str) -> None:
        pass

    def write(self, path: str, text: str) -> None:
        self.written[path] = text


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("ca")
    pairs = [certificates.init(Path(folder, name)) for name in ("old", "new")]
    old, new = (pair.certificate.read_text() for pair in pairs)
    return old, new


def test_a_board_that_trusts_the_authority_is_left_alone(authorities: tuple[str, str]) -> None:
    old, new = authorities
    check = join_step().check
    assert check(Joined().target) == ""
    assert check(Joined("/etc/benchfarm/my ca.pem", old, authority=old).target) == ""
    both = f"# two\n{new}\n{old}"
    assert check(Joined("/ca.pem", both, authority=old).target) == "", "it may trust more"
    assert check(Joined("/ca.pem", old, authority="").target) == ""


def test_another_authority_and_a_refused_token_are_noticed(authorities: tuple[str, str]) -> None:
    old, new = authorities
    check = join_step().check
    words = "it does not trust the controller's certificate authority"
    assert check(Joined("/ca.pem", old, authority=new).target) == words
    assert check(Joined("/ca.pem", "", authority=new).target) == words
    assert check(Joined("", authority=new).target) == words
    assert check(Joined("/ca.pem", old, authority=old + new).target) == words
    refused = "its token is refused, as after `device rotate`"
    assert check(Joined(token_check=f"{refused}\n").target) == refused


def test_it_joins_with_the_authority_in_a_file_of_its_own(authorities: tuple[str, str]) -> None:
    board = Joined(authority=authorities[1])
    join_step().apply(board.target)
    assert board.written == {"/var/lib/benchfarm/ca.pem": authorities[1]}
    assert board.ran[0][1:] == (
        *("join", URL, "-", "--name", "pi", "--ca-file", "/var/lib/benchfarm/ca.pem"),
    )
    plain = Joined()
    join_step().apply(plain.target)
    assert (plain.written, "--ca-file" in plain.ran[0]) == ({}, False)
