"""``farm.yaml``: the boards of a farm and the state that each is to be brought to."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo

from agent.contract import device_name
from orchestrator.domain import tags
from orchestrator.domain.yaml_file import ParsedYaml, StrictModel, YamlFile, near
from orchestrator.domain.yaml_source import KeyPath, MarkedYaml, YamlMistake

URL = r"^https?://[^/\s@?#]+/?$"
FINGERPRINT = r"^SHA256:[A-Za-z0-9+/]{43}$"
SSH_FORM = "[USER@]HOST[:PORT] (IPv6: [ADDRESS]:PORT), or an alias of ~/.ssh/config"
SSH_PORT = 22
SHELL = frozenset(" '`\"$;&<>|(){}")
"""Characters that OpenSSH refuses, too: ``Match exec`` and ``ProxyCommand`` of ~/.ssh/config may
pass user and host to a shell. A user may be ``DOMAIN\\USER``."""


@dataclass(frozen=True)
class AcceptedNames:
    """The names that a farm file may use. ``runtime`` returns what is wrong with one; empty:
    nothing."""

    classes: Collection[str]
    runtime: Callable[[str], str]


def _device_class(value: str, info: ValidationInfo[AcceptedNames]) -> str:
    known = info.context
    if value and value not in known.classes:
        raise ValueError(
            f"there is no device class {value!r}{near(value, known.classes)}; there are: "
            f"{', '.join(sorted(known.classes))}"
        )
    return value


def _runtime(value: str, info: ValidationInfo[AcceptedNames]) -> str:
    known = info.context
    if why := known.runtime(value):
        raise ValueError(why)
    return value


def _tags(value: dict[str, str]) -> dict[str, str]:
    for key, text in value.items():
        if why := tags.mistake(key, text):
            raise ValueError(why)
        if not text:
            raise ValueError(f"tag {key} has no value")
    return value


def _ssh(value: str) -> str:
    host, port = _host_and_port(value)
    user, at, _ = value.rpartition("@")
    incomplete = (at and not user) or not host or value.startswith("-") or host.startswith("-")
    if incomplete or not value.isprintable() or SHELL & {*value} or "\\" in host:
        raise ValueError(f"expected {SSH_FORM}")
    if port is None:
        raise ValueError(f"expected {SSH_FORM}, with a port of 1 to 65535")
    return value


Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=4096)]


class Defaults(StrictModel):
    """Values for devices that do not give their own. ``None``: not changed on the device."""

    device_class: Annotated[str, AfterValidator(_device_class)] = Field(default="", alias="class")
    identity: Line = ""
    python_archive: Line = ""
    tags: Annotated[dict[str, str], AfterValidator(_tags)] | None = None
    runtimes: list[Annotated[str, AfterValidator(_runtime)]] = Field(default=[])
    enabled: bool | None = None


class DeviceEntry(Defaults):
    """One board. ``host_key``: the fingerprint of the SSH host key to pin."""

    ssh: Annotated[Line, AfterValidator(_ssh)]
    host_key: Annotated[str, StringConstraints(pattern=FINGERPRINT)] | None = None


class FarmFile(StrictModel):
    controller_url: Annotated[str, StringConstraints(pattern=URL)] | None = None
    defaults: Defaults = Defaults()
    devices: Annotated[dict[str, DeviceEntry], Field(min_length=1)]

    def merged(self) -> dict[str, DeviceEntry]:
        """All devices with the defaults filled in; tags are merged key by key."""
        return {
            name: _with_defaults(self.defaults, device) for name, device in self.devices.items()
        }


def _with_defaults(defaults: Defaults, device: DeviceEntry) -> DeviceEntry:
    given = {name: getattr(device, name) for name in device.model_fields_set}
    inherited = {name: getattr(defaults, name) for name in defaults.model_fields_set}
    if defaults.tags is not None and device.tags is not None:
        given["tags"] = {**defaults.tags, **device.tags}
    return device.model_copy(update={**inherited, **given})


def _is_tag(path: KeyPath, _value: str) -> bool:
    """Whether the path is a tag's value, which is text: ``builder: yes`` is no boolean."""
    return len(path) >= 3 and path[-2] == "tags"


def _devices(marked: MarkedYaml) -> Mapping[str, Any]:
    found = marked.data.get("devices")
    return found if isinstance(found, dict) else {}


def _bad_names(marked: MarkedYaml) -> Iterable[YamlMistake]:
    for name in _devices(marked):
        why = device_name.mistake(name)
        if why:
            yield YamlMistake(marked.line(("devices", name)), why)


def _same_addresses(marked: MarkedYaml) -> Iterable[YamlMistake]:
    first: dict[tuple[str, int | None], str] = {}
    for name, device in _devices(marked).items():
        ssh = device.get("ssh") if isinstance(device, dict) else None
        if not isinstance(ssh, str):
            continue
        other = first.setdefault(_host_and_port(ssh), name)
        if other != name:
            path = ("devices", name, "ssh")
            yield YamlMistake(
                marked.line(path),
                f"devices.{name}.ssh: {ssh} is the address of {other!r} already (line "
                f"{marked.line(('devices', other, 'ssh'))}): two names for one board",
            )


def _host_and_port(ssh: str) -> tuple[str, int | None]:
    """The host in lower case, and the port (``None`` if it is invalid). A text with more than one
    colon is an IPv6 address without a port, unless it is in brackets."""
    host = ssh.removeprefix("ssh://").rstrip("/").rpartition("@")[2].lower()
    bracketed = re.fullmatch(r"\[([^\[\]]*)\](?::(.*))?", host)
    if bracketed is not None:
        host, port = bracketed[1], bracketed[2]
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
    else:
        port = None
    if port is None:
        return host, SSH_PORT
    return host, int(port) if re.fullmatch(r"\d{1,5}", port) and 0 < int(port) < 65536 else None


def _checks(marked: MarkedYaml) -> Iterable[YamlMistake]:
    yield from _bad_names(marked)
    yield from _same_addresses(marked)


_FILE = YamlFile(
    FarmFile,
    expected={
        "controller_url": "http://HOST:PORT",
        "devices": "at least one device: NAME: {ssh: USER@HOST}",
        "ssh": SSH_FORM,
        "host_key": "SHA256: and 43 letters, as `ssh-keygen -l` prints it",
        "identity": "one line of text",
        "python_archive": "one line of text",
    },
    is_text=_is_tag,
    checks=_checks,
)


def parse(text: str, source: str, known: AcceptedNames) -> ParsedYaml[FarmFile]:
    """Check a farm file. ``source`` names it in messages.

    Raises:
        UserError: one line for every mistake in it: ``FILE:LINE: what, and what is accepted``.
    """
    return _FILE.parse(text, source, context=known)
