"""``environments.json``: the list of environments. A damaged one is rewritten from what is on disk,
so that a board goes on working."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from agent.worker.config import write_atomically
from agent.worker.environments.builder import FOLDER, EnvironmentBuilder
from agent.worker.environments.recipes import is_default
from agent.worker.errors import BadInput

log = logging.getLogger(__name__)

FILE_NAME = "environments.json"
_EXPECTED = "expected a list of objects with name, backend, version, python"


@dataclass(frozen=True)
class RuntimeEnvironment:
    """An interpreter that one backend runs in.

    Attributes:
        version: the runtime's, as probed.
        preferred: false: it is chosen only where its version is asked for, or there is no other.
            Two packages may be variants of one backend, and then the higher version number is not
            the newer one.
    """

    name: str
    backend: str
    version: str
    python: str
    preferred: bool = True


def read(path: Path) -> list[RuntimeEnvironment]:
    """The entries of the file; none where there is no file.

    A damaged file is repaired: its valid entries are kept, and environments that were built here
    are listed again. A copy of it stays as ``environments.json.damaged-N``. Keys that a newer agent
    wrote are ignored.

    Raises:
        BadInput: damaged, and the repaired list cannot be written.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return []
    entries: Any = None
    try:
        entries = json.loads(text)
        if not isinstance(entries, list):
            raise TypeError(f"found {type(entries).__name__}")
        return [_environment(entry) for entry in entries]
    except (ValueError, TypeError, RecursionError) as error:
        return _repair(path, _valid(entries), str(error))


def write(path: Path, environments: list[RuntimeEnvironment]) -> None:
    """Replace the file at once. Raises ``OSError``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps([asdict(e) for e in environments], indent=2) + "\n"
    write_atomically(path, text)


def _environment(entry: Any) -> RuntimeEnvironment:
    """One entry. Raises ``TypeError``."""
    if not isinstance(entry, dict):
        raise TypeError(f"found {type(entry).__name__} in the list")
    known = {f.name: entry[f.name] for f in fields(RuntimeEnvironment) if f.name in entry}
    for name, value in known.items():
        wanted = bool if name == "preferred" else str
        if not isinstance(value, wanted):
            raise TypeError(f"{name} is {type(value).__name__}, not {wanted.__name__}")
    return RuntimeEnvironment(**known)


def _valid(entries: Any) -> list[RuntimeEnvironment]:
    found = []
    for entry in entries if isinstance(entries, list) else ():
        try:
            found.append(_environment(entry))
        except TypeError:
            continue
    return found


def _repair(path: Path, valid: list[RuntimeEnvironment], why: str) -> list[RuntimeEnvironment]:
    listed = {(e.backend, e.version) for e in valid}
    lost = [e for e in built(path.parent) if (e.backend, e.version) not in listed]
    repaired = [*valid, *lost]
    copy = _free_name(path)
    try:
        shutil.copyfile(path, copy)
        write(path, repaired)
    except OSError as error:
        raise BadInput(
            f"{path}: {_EXPECTED}: {why}; it cannot be written anew: {error.strerror}"
        ) from None
    log.error(
        "%s was damaged (%s: %s): it is kept as %s, and the list is now: %s. An interpreter "
        "that is missing there was named by hand: name it again, with "
        "`benchfarm-agent runtimes add NAME --python PATH`",
        *(path, _EXPECTED, why, copy.name, ", ".join(e.name for e in repaired) or "empty"),
    )
    return repaired


def built(state_dir: Path) -> list[RuntimeEnvironment]:
    """The environments that were built below a state folder and still have an interpreter; the
    newest one for each backend and version."""
    builder = EnvironmentBuilder(state_dir / FOLDER, _no_probe)
    found: dict[tuple[str, str], RuntimeEnvironment] = {}
    homes = [home for home in (state_dir / FOLDER).glob("*") if builder.manifest(home.name)]
    for home in sorted(homes, key=lambda home: home.stat().st_mtime_ns):
        manifest = builder.manifest(home.name)
        if manifest is None or not builder.python(home.name).exists():
            continue
        found[manifest.backend, manifest.version] = RuntimeEnvironment(
            *(manifest.name, manifest.backend, manifest.version),
            python=str(builder.python(home.name)),
            preferred=is_default(manifest.backend, manifest.variant),
        )
    return list(found.values())


def _no_probe(python: str) -> Any:
    raise BadInput(f"{python} is not probed while a list is read")


def _free_name(path: Path) -> Path:
    number = 1
    while (copy := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return copy
