"""``farm.yaml``: what boards there are and how each shall be; errors that name line and remedy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
)

from agent.contract import device_name
from orchestrator.domain import tags, yaml_source
from orchestrator.domain.errors import UserError
from orchestrator.domain.yaml_source import MarkedYaml, Path, YamlMistake, YamlMistakes

URL = r"^https?://[^/\s@?#]+/?$"
FINGERPRINT = r"^SHA256:[A-Za-z0-9+/]{43}$"
SSH_FORM = "[USER@]HOST[:PORT], or an alias of ~/.ssh/config"
SSH_PORT = 22
SHELL = frozenset(" '`\"$;&<>|(){}")
"""As in OpenSSH's own check: a ``Match exec`` or ``ProxyCommand`` of ~/.ssh/config may hand user
and host to a shell. A user may be ``DOMAIN\\USER``."""


@dataclass(frozen=True)
class AcceptedNames:
    """What a farm file may name. ``runtime`` says what is wrong with one (empty: nothing)."""

    classes: Collection[str]
    runtime: Callable[[str], str]


def _device_class(value: str, info: ValidationInfo[AcceptedNames]) -> str:
    known = info.context
    if value and value not in known.classes:
        raise ValueError(
            f"there is no device class {value!r}{_near(value, known.classes)}; there are: "
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
    bare = (at and not user) or not host or value.startswith("-") or host.startswith("-")
    if bare or not value.isprintable() or SHELL & {*value} or "\\" in host:
        raise ValueError(f"expected {SSH_FORM}")
    if port is None:
        raise ValueError(f"expected {SSH_FORM}, with a port of 1 to 65535")
    return value


Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=4096)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Defaults(_Strict):
    """What holds for every device that does not say otherwise. ``None``: left as it is."""

    device_class: Annotated[str, AfterValidator(_device_class)] = Field(default="", alias="class")
    identity: Line = ""
    python_archive: Line = ""
    tags: Annotated[dict[str, str], AfterValidator(_tags)] | None = None
    runtimes: list[Annotated[str, AfterValidator(_runtime)]] = []
    enabled: bool | None = None


class DeviceEntry(Defaults):
    """One board. ``host_key``: the fingerprint that it shall show."""

    ssh: Annotated[Line, AfterValidator(_ssh)]
    host_key: Annotated[str, StringConstraints(pattern=FINGERPRINT)] | None = None


class FarmFile(_Strict):
    controller_url: Annotated[str, StringConstraints(pattern=URL)] | None = None
    defaults: Defaults = Defaults()
    devices: Annotated[dict[str, DeviceEntry], Field(min_length=1)]

    def merged(self) -> dict[str, DeviceEntry]:
        """Every device with the defaults where it says nothing; tags are merged key by key."""
        return {name: _over(self.defaults, device) for name, device in self.devices.items()}


def _over(defaults: Defaults, device: DeviceEntry) -> DeviceEntry:
    said = {name: getattr(device, name) for name in device.model_fields_set}
    assumed = {name: getattr(defaults, name) for name in defaults.model_fields_set}
    if defaults.tags is not None and device.tags is not None:
        said["tags"] = {**defaults.tags, **device.tags}
    return device.model_copy(update={**assumed, **said})


@dataclass(frozen=True)
class ParsedFarmFile:
    """A farm file that is valid; ``where(path)`` is ``FILE:LINE`` of what stands there."""

    file: FarmFile
    source: str
    marked: MarkedYaml

    def where(self, *path: str) -> str:
        return f"{self.source}:{self.marked.line(path)}"


def parse(text: str, source: str, known: AcceptedNames) -> ParsedFarmFile:
    """Check a farm file. ``source`` names it in messages.

    Raises:
        UserError: one line for every mistake in it: ``FILE:LINE: what, and what is accepted``.
    """
    try:
        marked = yaml_source.load(text, _is_tag)
    except YamlMistakes as error:
        raise _refusal(source, error.found) from None
    if not isinstance(marked.data, dict):
        top = ", ".join(FarmFile.model_fields)
        raise _refusal(source, [YamlMistake(1, f"expected a mapping at the top, with {top}")])
    mistakes = [*_bad_names(marked), *_same_addresses(marked)]
    try:
        found = FarmFile.model_validate(marked.data, context=known)
    except ValidationError as error:
        mistakes += [_mistake(marked, e) for e in error.errors()]
    if mistakes:
        raise _refusal(source, mistakes)
    return ParsedFarmFile(found, source, marked)


def _refusal(source: str, mistakes: Iterable[YamlMistake]) -> UserError:
    return UserError("\n".join(f"{source}:{m.line}: {m.text}" for m in sorted(set(mistakes))))


def _is_tag(path: Path) -> bool:
    """A tag's value is what is written: ``builder: yes`` is no truth value."""
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
    """Host in small letters, and the port; ``None`` where it is none. More than one colon: an IPv6
    address, which takes none."""
    host = ssh.rpartition("@")[2].lower()
    if host.count(":") != 1:
        return host, SSH_PORT
    host, _, port = host.partition(":")
    return host, int(port) if re.fullmatch(r"\d{1,5}", port) and 0 < int(port) < 65536 else None


def _mistake(marked: MarkedYaml, error: Any) -> YamlMistake:
    path: Path = tuple(part for part in error["loc"] if part != "[key]")
    line, where = marked.line(path), ".".join(map(str, path))
    match error["type"]:
        case "extra_forbidden":
            key, accepted = str(path[-1]), _keys_at(path[:-1])
            text = f"unknown key {where!r}{_near(key, accepted)}; accepted here: "
            return YamlMistake(line, text + ", ".join(accepted))
        case "missing":
            what = f": {SSH_FORM}" if path[-1] == "ssh" else ""
            return YamlMistake(line, f"key {where!r} is missing{what}")
        case "string_pattern_mismatch":
            form = _FORMS.get(str(path[-1]), "one line of text")
            return YamlMistake(line, f"{where}: expected {form} (found {_short(error['input'])})")
        case "value_error":
            said = error["msg"].removeprefix("Value error, ")
            return YamlMistake(line, f"{where}: {said} (found {_short(error['input'])})")
        case kind:
            expected = _KINDS.get(kind, error["msg"])
            return YamlMistake(line, f"{where}: {expected} (found {_short(error['input'])})")


_FORMS = {
    "controller_url": "http://HOST:PORT",
    "host_key": "SHA256: and 43 letters, as `ssh-keygen -l` prints it",
}
_KINDS = {
    "string_type": "expected text; quote it",
    "bool_type": "expected true or false",
    "list_type": "expected a list: [onnxruntime, openvino]",
    "dict_type": "expected a mapping: KEY: VALUE",
    "model_type": "expected a mapping: KEY: VALUE",
    "too_short": "expected at least one device: NAME: {ssh: USER@HOST}",
}


def _keys_at(path: Path) -> list[str]:
    model: type[BaseModel] = FarmFile
    if path:
        model = DeviceEntry if path[0] == "devices" else Defaults
    return [field.alias or name for name, field in model.model_fields.items()]


def _near(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
