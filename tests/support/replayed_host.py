"""A board that is not here: it answers from a transcript, and keeps what playbooks change on it.

Strict: a command that neither the transcript nor any Linux of this kind is known to answer is a
failure of the test, never an empty answer.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from playbooks import board_probe
from playbooks.connection import COMMAND_S, CommandResult, Host
from playbooks.coral import UDEV_RULES
from playbooks.errors import StepFailed
from playbooks.power_rights import SUDOERS
from playbooks.target import (
    AGENT,
    AGENT_PYTHON,
    OPT,
    OWNERSHIP_FILE,
    STANDALONE,
    STARTED,
    STATE,
    UNIT,
    HealthCheckOutcome,
    KnownDevice,
)

TRANSCRIPTS = Path(__file__).parents[1] / "transcripts"
PRELUDE = "set -e; umask 022; export PYTHONDONTWRITEBYTECODE=1; cd /\n"
AS_AGENT = f"cd {STATE} && umask 077 && HOME={STATE} BENCHFARM_AGENT_HOME={STATE} "
HOME = "/home/user"
TOKEN = "join-token-that-nobody-may-see"


class NotInTranscript(AssertionError):
    """The playbook sent what the transcript has no answer to."""


@dataclass(frozen=True)
class Sent:
    """A command, and who ran it with what on its stdin."""

    command: str
    root: bool
    user: str
    secret: str


@dataclass
class ReplayedHost(Host):
    """``changes`` are the commands that wrote something."""

    transcript: dict[str, Any]
    log: list[Sent] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    paths: set[str] = field(default_factory=set)
    links: dict[str, str] = field(default_factory=dict)
    arrived: dict[str, dict[str, str]] = field(default_factory=dict)
    member_of: list[str] | None = None
    enabled: bool = False
    started_at: datetime | None = None
    joined: str = ""

    @classmethod
    def of(cls, name: str) -> ReplayedHost:
        """The board of ``transcripts/NAME.yaml``, as it was before anything was installed."""
        transcript = yaml.safe_load((TRANSCRIPTS / f"{name}.yaml").read_text("utf-8"))
        return cls(transcript, files=dict(transcript.get("files", {})))

    @property
    def name(self) -> str:
        return "user@board"

    @property
    def environments(self) -> list[dict[str, Any]]:
        """The runtimes in the form in which the agent there lists them."""
        listed: list[dict[str, Any]] = json.loads(
            self.files.get(f"{STATE}/environments.json", "[]")
        )
        return listed

    def run(
        self,
        command: str,
        *,
        root: bool = False,
        user: str = "",
        secret: str = "",
        limit_s: float = COMMAND_S,
        check: bool = True,
    ) -> CommandResult:
        self.log.append(Sent(command, root, user, secret))
        said = self._answer(command, root, secret)
        if check and said.exit_code != 0:
            raise StepFailed(f"{self.name}: {said.tail}")
        return said

    def send(self, source: Path, target: str) -> None:
        folder, _, name = target.rpartition("/")
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        self.arrived.setdefault(folder, {})[name] = digest

    def _answer(self, command: str, root: bool, secret: str) -> CommandResult:
        if command == board_probe._SCRIPT:
            return CommandResult(0, self._examined(), "")
        for given in self.transcript.get("answers", ()):
            if given["command"] == command:
                return CommandResult(
                    given.get("exit", 0), given.get("out", ""), given.get("err", "")
                )
        bare = command.removeprefix(PRELUDE).removeprefix(AS_AGENT)
        for pattern, answer in _ANSWERS:
            found = re.fullmatch(pattern, bare, re.DOTALL)
            if found:
                return answer(self, found, secret)
        raise NotInTranscript(f"{'root: ' if root else ''}{command}")

    def _examined(self) -> str:
        text: str = self.transcript["examine"]
        if STANDALONE in self.paths:
            version = self.transcript["standalone"]
            text = text.replace("file=", f"python={version} {STANDALONE}/bin/python3\nfile=", 1)
        return text

    def changed(self, what: str) -> CommandResult:
        self.changes.append(what)
        return _YES


_YES, _NO = CommandResult(0, "", ""), CommandResult(1, "", "")
_Answer = Callable[[ReplayedHost, "re.Match[str]", str], CommandResult]


def _whether(true: bool) -> CommandResult:
    return _YES if true else _NO


def _cat(host: ReplayedHost, found: re.Match[str], _: str) -> CommandResult:
    text = host.files.get(found[1])
    return (
        CommandResult(0, text, "")
        if text is not None
        else CommandResult(1, "", f"cat: {found[1]}: No such file")
    )


def _write(host: ReplayedHost, found: re.Match[str], secret: str) -> CommandResult:
    host.files[found["path"]] = secret
    return host.changed(found["path"])


def _mark(host: ReplayedHost, found: re.Match[str], secret: str) -> CommandResult:
    host.files.setdefault(OWNERSHIP_FILE, secret)
    return host.changed("mark")


def _make_user(host: ReplayedHost, found: re.Match[str], _: str) -> CommandResult:
    into = re.findall(r"usermod -a -G (\S+) benchfarm\n", found[0])
    host.member_of = ["benchfarm", *into]
    return host.changed("user")


def _groups(host: ReplayedHost, found: re.Match[str], _: str) -> CommandResult:
    return CommandResult(0, "\n".join(host.transcript["groups"]), "")


def _members(host: ReplayedHost, found: re.Match[str], _: str) -> CommandResult:
    return CommandResult(0, " ".join(host.member_of or ()), "")


def _sums(host: ReplayedHost, found: re.Match[str], _: str) -> CommandResult:
    there = host.arrived.get(shlex.split(found[1])[0], {})
    return CommandResult(0, "".join(f"{digest}  {name}\n" for name, digest in there.items()), "")


def _take_in(host: ReplayedHost, found: re.Match[str], _: str) -> CommandResult:
    host.paths.add(f"{OPT}/wheels")
    return host.changed("wheels")


def _unpack(host: ReplayedHost, found: re.Match[str], _: str) -> CommandResult:
    host.paths.add(found[1])
    return host.changed(found[1])


def _install_agent(host: ReplayedHost, found: re.Match[str], _: str) -> CommandResult:
    host.links[f"{OPT}/agent"] = f"agents/{found['name']}"
    host.paths.add(f"{OPT}/agents/{found['name']}/.whole")
    host.paths.discard(STARTED)
    return host.changed(f"agent under {found['python']}")


def _link(host: ReplayedHost, found: re.Match[str], _: str) -> CommandResult:
    target = host.links.get(found[1], "")
    return CommandResult(0 if target else 1, target, "")


def _there(host: ReplayedHost, found: re.Match[str], _: str) -> CommandResult:
    return _whether(any(f"{p}/".startswith(f"{found[1]}/") for p in (*host.paths, *host.files)))


def _left(host: ReplayedHost, found: re.Match[str], _: str) -> CommandResult:
    return _whether(f"{OPT}/wheels" in host.paths or bool(host.arrived))


def _joined_as(host: ReplayedHost, found: re.Match[str], _: str) -> CommandResult:
    return CommandResult(0, host.joined, "")


def _join(host: ReplayedHost, found: re.Match[str], secret: str) -> CommandResult:
    assert secret == f"{TOKEN}\n"
    host.joined = f"{found['device']} {found['url']}"
    return host.changed("join")


def _build(host: ReplayedHost, found: re.Match[str], _: str) -> CommandResult:
    backend, version = re.fullmatch(r"([a-z]+)(?:@[a-z-]+)?==(\S+)", found[1]).groups()  # type: ignore[union-attr]
    python = f"{STATE}/runtimes/{backend}-{version}-0/env/bin/python"
    return _enlist(host, backend, version, python)


def _name(host: ReplayedHost, found: re.Match[str], _: str) -> CommandResult:
    """The board's own probe decides: the transcript says under which interpreter what answers."""
    backend, python = found["name"], found["python"]
    for given in host.transcript.get("named", ()):
        if given["name"] == backend and re.fullmatch(given["python"], python):
            if "error" in given:
                return CommandResult(1, "", given["error"])
            return _enlist(host, backend, given["version"], python)
    raise NotInTranscript(f"runtimes add {backend} --python {python}")


def _enlist(host: ReplayedHost, backend: str, version: str, python: str) -> CommandResult:
    entry = {"name": f"{backend}-{version}", "backend": backend, "version": version}
    listed = [*host.environments, {**entry, "python": python, "preferred": True}]
    host.files[f"{STATE}/environments.json"] = json.dumps(listed)
    return host.changed(f"runtime {backend}")


def _forget(host: ReplayedHost, found: re.Match[str], _: str) -> CommandResult:
    for path in found[1].split():
        host.paths.discard(path)
    return _YES


def _enable(host: ReplayedHost, found: re.Match[str], _: str) -> CommandResult:
    host.enabled = True
    return host.changed("enable")


def _restart(host: ReplayedHost, found: re.Match[str], _: str) -> CommandResult:
    before = host.started_at or datetime(2026, 1, 1, tzinfo=UTC)
    host.started_at = before + timedelta(minutes=1)
    return host.changed("start")


def _touch(host: ReplayedHost, found: re.Match[str], _: str) -> CommandResult:
    host.paths.add(found[1])
    return _YES


def _clear_incoming(host: ReplayedHost, found: re.Match[str], _: str) -> CommandResult:
    host.arrived.clear()
    return _YES


def _clear(host: ReplayedHost, found: re.Match[str], _: str) -> CommandResult:
    host.paths = {p for p in host.paths if not p.startswith(f"{OPT}/wheels")}
    return host.changed("clean")


def _disable(host: ReplayedHost, found: re.Match[str], _: str) -> CommandResult:
    host.enabled = False
    del host.files[found[1]]
    return host.changed("disable")


def _remove(host: ReplayedHost, found: re.Match[str], _: str) -> CommandResult:
    """Files and folders that are named by their whole path."""
    for gone in re.findall(r"/[A-Za-z0-9._/-]+", found[1]):
        host.files = {p: t for p, t in host.files.items() if not f"{p}/".startswith(f"{gone}/")}
        host.paths = {p for p in host.paths if not f"{p}/".startswith(f"{gone}/")}
    return host.changed("remove")


def _remove_user(host: ReplayedHost, found: re.Match[str], _: str) -> CommandResult:
    host.member_of = None
    return host.changed("no user")


def _group(host: ReplayedHost, found: re.Match[str], _: str) -> CommandResult:
    return _whether(found[1] in host.transcript["groups"])


def _add_group(host: ReplayedHost, found: re.Match[str], _: str) -> CommandResult:
    if found[1] not in host.transcript["groups"]:
        host.transcript["groups"].append(found[1])
    return _YES


def _udev_names(host: ReplayedHost, found: re.Match[str], _: str) -> CommandResult:
    rules = (text for path, text in host.files.items() if "/udev/rules.d/" in path)
    return _whether(any(re.search(found[1], text) for text in rules))


def _apex_node(host: ReplayedHost, found: re.Match[str], _: str) -> CommandResult:
    ruled = 'SUBSYSTEM=="apex"' in host.files.get(UDEV_RULES, "")
    return CommandResult(0, "apex 660" if ruled else "root 600", "")


def _says(exit_code: int, out: str = "") -> _Answer:
    return lambda host, found, secret: CommandResult(exit_code, out, "")


_E = re.escape
_QUOTED = r"(?:'[^']*'|\S)+"
_ANSWERS: list[tuple[str, _Answer]] = [
    (r"(\S+) -I -c 'import socket, sys; .*' 10\.0\.0\.2 8080", _says(0)),
    ("true", _says(0)),
    ("cd && pwd", _says(0, HOME)),
    (r"df -Pm \S+ \| tail -1", _says(0, "/dev/mmcblk0p1 29000 9000 20000 31% /")),
    (r"cat (/[A-Za-z0-9._/-]+)(?: 2>/dev/null)?", _cat),
    (r"cat > (?P<path>\S+)\.new; mv (?P=path)\.new (?P=path)", _write),
    (
        _E(f"mkdir -p {OPT}; cat > {OWNERSHIP_FILE}.$$")
        + r".*\n"
        + _E(f"ln {OWNERSHIP_FILE}.$$ {OWNERSHIP_FILE}")
        + ".*",
        _mark,
    ),
    ("getent passwd benchfarm", lambda h, f, s: _whether(h.member_of is not None)),
    (_E("getent group | cut -d: -f1"), _groups),
    ("id -Gn benchfarm", _members),
    (
        _E(f"stat -c '%U %a' {STATE} 2>/dev/null"),
        lambda h, f, s: CommandResult(0, "benchfarm 700" if h.member_of else "", ""),
    ),
    (_E("getent passwd benchfarm >/dev/null || useradd --system ") + ".*", _make_user),
    (rf"umask 077; mkdir -p {HOME}/\S+", _says(0)),
    (rf"cd ({HOME}/\S+) && sha256sum -- \* 2>/dev/null", _sums),
    (rf"mkdir -p {OPT}/wheels; rm -rf .*chmod -R u=rwX,go=rX \S+", _take_in),
    (rf"rm -rf ({STANDALONE})\.new; mkdir \1\.new\ntar -xf .*mv \1\.new \1", _unpack),
    (r"test -[ex] (/\S+)", _there),
    (
        rf"cd {OPT}/wheels/uv-\w+; \S+ -I -m zipfile -e \S+ \.\n"
        r"mkdir bin; chmod 755 .*/uv bin",
        lambda h, f, s: _YES,
    ),
    (r"readlink (\S+)", _link),
    (
        rf"rm -f {STARTED}; mkdir -p {OPT}/agents; rm -rf {OPT}/agents/(?P<name>\S+)\n"
        r".* venv --quiet --python (?P<python>\S+) .*",
        _install_agent,
    ),
    (rf"\S+ -I -c {_QUOTED}agent\.json.*controller_url.* 2>/dev/null", _joined_as),
    (
        rf"{AGENT} join (?P<url>\S+) - --name (?P<device>\S+)",
        _join,
    ),
    (rf"{AGENT_PYTHON} -I -c '.*no_answer.*'", _says(0)),
    (rf"{AGENT_PYTHON} -I -c '.*check_token.*'", _says(0)),
    (rf"rm -f ({STARTED})", _forget),
    (
        rf"env PATH={OPT}/wheels/uv-\w+/bin:/usr/bin:/bin {AGENT} runtimes add (\S+) "
        rf"--wheelhouse {OPT}/wheels/\S+",
        _build,
    ),
    (rf"{AGENT} runtimes add (?P<name>\S+) --python (?P<python>\S+)", _name),
    (f"systemctl is-enabled {UNIT}", lambda h, f, s: CommandResult(0, "enabled" * h.enabled, "")),
    (f"systemctl daemon-reload; systemctl --quiet enable {UNIT}", _enable),
    (
        f"systemctl is-active {UNIT}",
        lambda h, f, s: CommandResult(0, "active" if h.started_at else "inactive", ""),
    ),
    (rf"systemctl reset-failed {UNIT} \|\| true; systemctl restart {UNIT}", _restart),
    (rf"touch ({STARTED})", _touch),
    (rf"t=(?P<path>{SUDOERS})\.new; cat > \$t; .*visudo -cqf \$t.*mv \$t {SUDOERS}", _write),
    (r"getent group (\S+) >/dev/null \|\| groupadd --system \1", _add_group),
    (r"getent group (\S+)", _group),
    (r"grep -lsq '(\S+)' /lib/udev/rules.d/\*.rules /etc/udev/rules.d/\*.rules", _udev_names),
    (r"stat -c '%G %a' /dev/apex_0", _apex_node),
    (
        r"udevadm control --reload-rules; udevadm trigger --subsystem-match=\w+\n"
        r"udevadm settle --timeout=10",
        lambda h, f, s: h.changed("udev"),
    ),
    (_E(f'test -e {OPT}/wheels || test -e "$HOME/.benchfarm-incoming"'), _left),
    (_E('rm -rf "$HOME/.benchfarm-incoming"'), _clear_incoming),
    (rf"rm -rf {OPT}/wheels {STATE}/\.cache/pip {STATE}/\.cache/uv", _clear),
    (
        rf"systemctl --quiet disable --now {UNIT}; rm -f (\S+); systemctl daemon-reload\n.*",
        _disable,
    ),
    (rf"rm -rf ({STATE})", _remove),
    (r"pkill -KILL -u benchfarm \|\| true\nuserdel benchfarm; .*", _remove_user),
    (_E('test -e "$HOME/.benchfarm-incoming"'), _left),
    (rf"(rm -f {SUDOERS} {SUDOERS}\.new; .*\nrm -rf {OPT})", _remove),
]


@dataclass
class ReplayedController:
    """The controller that hears what the replayed board's agent would say."""

    host: ReplayedHost
    url: str = "http://10.0.0.2:8080"
    authority: str = ""
    asked: list[str] = field(default_factory=list)
    device_class: str = ""
    health: str = "unknown"

    def known(self, device: str) -> KnownDevice:
        names = frozenset(f"{e['backend']} {e['version']}" for e in self.host.environments)
        at = self.host.started_at
        return KnownDevice(
            bool(self.host.joined), at is not None, at, names, self.device_class, self.health
        )

    def join_token(self, device: str, device_class: str) -> str:
        self.asked.append(device_class)
        self.device_class = device_class
        return TOKEN

    def check_health(self, device: str, limit_s: float) -> HealthCheckOutcome | None:
        self.health = "good"
        return HealthCheckOutcome(True)

    def classify(self, device: str, device_class: str) -> None:
        self.device_class = device_class

    def retire(self, device: str) -> None:
        self.host.joined = ""
