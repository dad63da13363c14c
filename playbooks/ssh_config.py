"""The way to a host, as ~/.ssh/config says it: each hop's address, user, keys and host key's name.

OpenSSH itself is asked (``ssh -G``), because it alone knows all of its configuration: ``Include``,
``Match``, canonical names, tokens, the system's own file. Without an ssh program paramiko's reader
is used, and what it would leave out is refused by file and line.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import pwd
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from paramiko import ConfigParseError, SSHConfig

from playbooks.errors import InvalidRequest
from playbooks.ssh_target import SshTarget, parse

ANSWER_LIMIT_S = 20.0
MOST_HOPS = 8
SSH_PORT = 22

_Settings = Mapping[str, Sequence[str]]
"""Keyword in small letters → its values, in their order."""

_REFUSED = {
    "pkcs11provider": "keys of a PKCS#11 token: add them to ssh-agent (`ssh-add -s`)",
    "knownhostscommand": "a command for host keys: pin the key by --host-key",
}
"""Keywords that would change who answers or who logs in, and that are not followed here."""
_UNREAD = re.compile(r"\s*(?P<word>include|match|canonicalizehostname)\b", re.IGNORECASE)
"""Keywords that paramiko's reader leaves out, or reads otherwise than OpenSSH."""


@dataclass(frozen=True)
class Hop:
    """One login on the way. ``key_name``: the name under which its host key is known;
    ``identities``: private key files that exist; ``agent``: the socket of ssh-agent, empty: none;
    ``proxy_command``: what connects to it, instead of TCP or the hop before."""

    name: str
    host: str
    port: int
    user: str
    key_name: str = ""
    identities: tuple[Path, ...] = ()
    identities_only: bool = False
    agent: str = ""
    proxy_command: str = ""
    family: socket.AddressFamily = socket.AF_UNSPEC
    connect_s: int = 0
    known_hosts: tuple[Path, ...] = ()

    @property
    def where(self) -> str:
        """``user@host:port``, for messages."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}:{self.port}"

    @property
    def pinned_as(self) -> str:
        """The entry in known_hosts."""
        if self.key_name or self.port == SSH_PORT:
            return self.key_name or self.host
        return f"[{self.host}]:{self.port}"


def route(text: str, on_message: Callable[[str], None]) -> tuple[Hop, ...]:
    """The hops to a target, jump hosts first.

    Raises:
        InvalidRequest: the target or ~/.ssh/config is not valid, or cannot be followed.
    """
    return _route(parse(text), on_message, ())


def _route(
    target: SshTarget, on_message: Callable[[str], None], on_the_way: tuple[str, ...]
) -> tuple[Hop, ...]:
    if target.host in on_the_way or len(on_the_way) >= MOST_HOPS:
        way = " → ".join((*on_the_way, target.host))
        raise InvalidRequest(f"~/.ssh/config: ProxyJump goes in a circle, or too far: {way}")
    settings = _lookup(target, on_message)
    hop = _hop(target, settings)
    jumps = [j for j in _one(settings, "proxyjump").split(",") if j and j.lower() != "none"]
    if hop.proxy_command or not jumps:
        return (hop,)
    try:
        first, *others = [parse(jump.strip()) for jump in jumps]
    except InvalidRequest as error:
        raise InvalidRequest(f"{_where('proxyjump')} on the way to {hop.name}: {error}") from None
    # as `ssh -J`: the first jump host may have one of its own, the others are reached by it
    before = _route(first, on_message, (*on_the_way, target.host))
    between = [replace(_hop(t, _lookup(t, on_message)), proxy_command="") for t in others]
    return (*before, *between, hop)


def _hop(target: SshTarget, settings: _Settings) -> Hop:
    for word, instead in _REFUSED.items():
        if _one(settings, word).lower() not in ("", "none"):
            raise InvalidRequest(f"{_where(word)}: benchfarm does not follow it: {instead}")
    host = _one(settings, "hostname") or target.host
    user = target.user or _one(settings, "user") or getpass.getuser()
    port = target.port or _port(_one(settings, "port"))
    alias = _one(settings, "hostkeyalias")
    tokens = _tokens(target.host, host, port, user, alias, _one(settings, "proxyjump"))
    command = _one(settings, "proxycommand")
    command = "" if command.lower() == "none" else _expand(command, tokens)
    if command and _one(settings, "proxyusefdpass") == "yes":
        raise InvalidRequest(
            f"{_where('proxyusefdpass')}: benchfarm does not follow it: name a ProxyCommand that "
            "passes data on"
        )
    connect_s = _one(settings, "connecttimeout")
    families = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}
    return Hop(
        name=target.host,
        host=host,
        port=port,
        user=user,
        key_name=_expand(alias, tokens),
        identities=tuple(_paths(settings.get("identityfile", ()), tokens)),
        identities_only=_one(settings, "identitiesonly").lower() == "yes",
        agent=_agent(_one(settings, "identityagent"), tokens),
        proxy_command=command,
        family=families.get(_one(settings, "addressfamily"), socket.AF_UNSPEC),
        connect_s=int(connect_s) if connect_s.isdigit() else 0,
        known_hosts=tuple(_known_hosts(settings, tokens)),
    )


def _lookup(target: SshTarget, on_message: Callable[[str], None]) -> _Settings:
    program = shutil.which("ssh")
    if program is not None:
        return _asked(program, target)
    config = _user_config()
    if config.exists():
        on_message(f"no ssh program here: {config} is read without one, Include and Match refused")
    return _read(target)


def _asked(program: str, target: SshTarget) -> _Settings:
    """What ``ssh -G`` says. Raises ``InvalidRequest``."""
    words = [program, "-T", "-G"]
    if Path.home() != Path(pwd.getpwuid(os.getuid()).pw_dir):  # OpenSSH does not go by $HOME
        words += ["-F", str(_user_config() if _user_config().exists() else os.devnull)]
    words += ["-l", target.user] if target.user else []
    words += ["-p", str(target.port)] if target.port else []
    try:
        ended = subprocess.run(
            [*words, "--", target.host],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=ANSWER_LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        raise InvalidRequest(
            f"`ssh -G {target.host}` was not done within {ANSWER_LIMIT_S:.0f} s: does a `Match "
            "exec` of ~/.ssh/config hang?"
        ) from None
    except OSError as error:
        raise InvalidRequest(f"{program}: {error.strerror}") from None
    if ended.returncode != 0:
        said = "; ".join(line.strip() for line in ended.stderr.splitlines() if line.strip())
        raise InvalidRequest(f"OpenSSH refuses {target.host!r}: {said or ended.returncode}")
    found: dict[str, list[str]] = {}
    for line in ended.stdout.splitlines():
        word, _, value = line.partition(" ")
        found.setdefault(word.lower(), []).append(value)
    return found


def _read(target: SshTarget) -> _Settings:
    """What paramiko's reader says of the user's file. Raises ``InvalidRequest``."""
    path = _user_config()
    if not path.exists():
        return {}
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path}: cannot be read: {error}") from None
    for number, line in enumerate(text.splitlines(), 1):
        found = _UNREAD.match(line)
        if found:
            raise InvalidRequest(
                f"{path}:{number}: {found['word']} is followed only where an ssh program is: "
                "install OpenSSH's client"
            )
    try:
        # a comment after a value, which OpenSSH leaves out
        bare = re.sub(r"[ \t]#[^\"\n]*$", "", text, flags=re.MULTILINE)
        looked_up = SSHConfig.from_text(bare).lookup(target.host)
    except ConfigParseError as error:
        raise InvalidRequest(f"{path}: {error}") from None
    return {
        word.lower(): value if isinstance(value, list) else [str(value)]
        for word, value in looked_up.items()
    }


def _user_config() -> Path:
    return Path.home() / ".ssh" / "config"


def _where(word: str) -> str:
    """``FILE:LINE`` of a keyword in the user's file, else its name in OpenSSH's configuration."""
    path = _user_config()
    lines = path.read_text("utf-8", "replace").splitlines() if path.is_file() else []
    for number, line in enumerate(lines, 1):
        if re.match(rf"\s*{word}\b", line, re.IGNORECASE):
            return f"{path}:{number}"
    return f"OpenSSH's configuration ({word})"


def _one(settings: _Settings, word: str) -> str:
    values = settings.get(word, ())
    return values[0].strip() if values else ""


def _port(text: str) -> int:
    return int(text) if text.isdigit() and 0 < int(text) < 65536 else SSH_PORT


def _tokens(
    given: str, host: str, port: int, user: str, alias: str, jump: str
) -> Mapping[str, str]:
    me = pwd.getpwuid(os.getuid())
    here = socket.gethostname()
    return {
        "%": "%",
        "d": str(Path.home()),
        "h": host,
        "i": str(me.pw_uid),
        "j": jump,
        "k": alias or host,
        "L": here.partition(".")[0],
        "l": here,
        "n": given,
        "p": str(port),
        "r": user,
        "u": me.pw_name,
        "C": hashlib.sha1(f"{here}{host}{port}{user}{jump}".encode()).hexdigest(),
    }


def _expand(text: str, tokens: Mapping[str, str]) -> str:
    return re.sub(r"%(.)", lambda found: tokens.get(found[1], found[0]), text)


def _path(text: str, tokens: Mapping[str, str]) -> Path:
    variables = re.sub(r"\$\{(\w+)\}", lambda found: os.environ.get(found[1], ""), text.strip('"'))
    return Path(_expand(variables, tokens)).expanduser()


def _paths(values: Sequence[str], tokens: Mapping[str, str]) -> list[Path]:
    paths = (_path(value, tokens) for value in values if value.lower() != "none")
    return [path for path in dict.fromkeys(paths) if path.is_file()]


def _agent(value: str, tokens: Mapping[str, str]) -> str:
    if value.lower() == "none":
        return ""
    if value in ("", "SSH_AUTH_SOCK"):
        return os.environ.get("SSH_AUTH_SOCK", "")
    if value.startswith("$") and not value.startswith("${"):
        return os.environ.get(value[1:], "")
    return str(_path(value, tokens))


def _known_hosts(settings: _Settings, tokens: Mapping[str, str]) -> list[Path]:
    values = [
        name
        for word in ("userknownhostsfile", "globalknownhostsfile")
        for value in settings.get(word, ())
        for name in value.split()
    ]
    usual = [str(Path.home() / ".ssh" / "known_hosts")]
    return _paths(values or usual, tokens)
