"""Reads a fleet file from disk; its classes, runtimes and paths are those of this installation."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.worker.environments import recipes
from agent.worker.errors import BadInput
from orchestrator.domain import farm_file, selectors
from orchestrator.domain.errors import UserError
from orchestrator.domain.yaml_file import ParsedYaml
from orchestrator.store.device_class_files import device_classes


@dataclass(frozen=True)
class WantedBoard:
    """One board of the file, with defaults filled in and absolute paths. ``device_class`` empty:
    the recognised one; ``tags``, ``enabled`` ``None``: not changed."""

    name: str
    ssh: str
    device_class: str = ""
    identity: str = ""
    host_key: str = ""
    python_archive: Path | None = None
    tags: Mapping[str, str] | None = None
    runtimes: tuple[str, ...] = ()
    enabled: bool | None = None

    def labels(self) -> dict[str, str]:
        """The labels that ``-l`` selects by."""
        return {**(self.tags or {}), "name": self.name, "class": self.device_class}


@dataclass(frozen=True)
class Fleet:
    """``named``: all devices of the file; ``boards``: the selected ones."""

    controller_url: str
    boards: tuple[WantedBoard, ...]
    named: frozenset[str]

    @property
    def whole(self) -> bool:
        return len(self.boards) == len(self.named)


def load(path: Path, selected: Iterable[str] = ()) -> Fleet:
    """The fleet of a farm file, or its boards that match ``KEY=VALUE`` selectors.

    Raises:
        UserError: the file cannot be read, is not valid, names files that do not exist, or no
            board is selected.
    """
    selector = selectors.parse(selected)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; a farm file is YAML") from None
    found = farm_file.parse(
        text, str(path), farm_file.AcceptedNames([c.name for c in device_classes()], _runtime)
    )
    boards = _boards(found, path.parent)
    chosen = tuple(b for b in boards if selectors.matches(selector, b.labels()))
    if not chosen:
        names = ", ".join(b.name for b in boards)
        raise UserError(f"{path}: no device matches {', '.join(selected)}; it has: {names}")
    url = found.value.controller_url or ""
    return Fleet(url, chosen, frozenset(b.name for b in boards))


def _runtime(text: str) -> str:
    try:
        recipes.parse(text)
    except BadInput as error:
        return str(error)
    return ""


def _boards(found: ParsedYaml[farm_file.FarmFile], folder: Path) -> list[WantedBoard]:
    boards, missing = [], []
    for name, device in found.value.merged().items():
        identity, archive = (
            str(folder.absolute() / os.path.expanduser(text)) if text else ""
            for text in (device.identity, device.python_archive)
        )
        for key, value in (("identity", identity), ("python_archive", archive)):
            if value and not os.path.isfile(value):
                path = ("devices", name) if key in _own_keys(found, name) else ("defaults",)
                missing.append(f"{found.where(*path, key)}: {key}: there is no file {value}")
        boards.append(
            WantedBoard(
                name=name,
                ssh=device.ssh,
                device_class=device.device_class,
                identity=identity,
                host_key=device.host_key or "",
                python_archive=Path(archive) if archive else None,
                tags=device.tags,
                runtimes=tuple(device.runtimes),
                enabled=device.enabled,
            )
        )
    if missing:
        raise UserError("\n".join(dict.fromkeys(missing)))
    return boards


def _own_keys(found: ParsedYaml[farm_file.FarmFile], name: str) -> frozenset[str]:
    """The keys in a device's own entry, without those of the defaults."""
    return frozenset(found.value.devices[name].model_fields_set)
