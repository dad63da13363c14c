"""The agent's configuration: ``agent.json``, readable by its owner alone."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path

from agent.contract import device_name
from agent.system.durable import sync_folder
from agent.worker.errors import BadInput, ConfigExposed, NotJoined

HOME_VARIABLE = "BENCHFARM_AGENT_HOME"
CONFIG_NAME = "agent.json"


@dataclass(frozen=True)
class AgentConfig:
    """What ``join`` was told by the controller.

    ``ca_file``: a certificate authority to trust, for controller and broker. ``state_dir`` is not
    part of the file: it is the folder of the file.
    """

    controller_url: str
    device: str
    token: str
    broker_url: str
    state_dir: Path
    heartbeat_s: float = 5.0
    ca_file: str = ""
    blobs_max_mib: int = 20_000
    engines_max_mib: int = 20_000


def default_state_dir() -> Path:
    """``$BENCHFARM_AGENT_HOME``, else the platform's folder for a user's application data."""
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        return Path(chosen)
    import platformdirs

    return Path(platformdirs.user_data_dir("benchfarm-agent", appauthor=False))


def check_device_name(name: str) -> str:
    """Return ``name`` if it is a valid device name. Raises ``BadInput``."""
    why = device_name.mistake(name)
    if why:
        raise BadInput(why)
    return name


def save(config: AgentConfig) -> Path:
    """Write ``agent.json`` atomically with mode 0600; the folder is made with mode 0700."""
    config.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = config.state_dir / CONFIG_NAME
    plain = {f.name: getattr(config, f.name) for f in fields(config) if f.name != "state_dir"}
    write_atomically(path, json.dumps(plain, indent=2) + "\n", mode=0o600)
    return path


def load(state_dir: Path) -> AgentConfig:
    """Read ``agent.json``. Raises ``NotJoined``, ``ConfigExposed`` or ``BadInput``."""
    path = state_dir / CONFIG_NAME
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise NotJoined(
            f"{path} does not exist: join a controller first with `benchfarm-agent join URL TOKEN`"
        ) from None
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None
    if mode & 0o077:
        raise ConfigExposed(
            f"{path} has mode {mode:04o}, but it holds this device's token: run `chmod 600 {path}`"
        )
    return _parse(path, text, state_dir)


def _parse(path: Path, text: str, state_dir: Path) -> AgentConfig:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise BadInput(f"{path}: not JSON: {error}") from None
    if not isinstance(data, dict):
        raise BadInput(f"{path}: expected an object, found {type(data).__name__}")
    types: dict[str, type] = {
        "controller_url": str,
        "device": str,
        "token": str,
        "broker_url": str,
        "heartbeat_s": float,
        "ca_file": str,
        "blobs_max_mib": int,
        "engines_max_mib": int,
    }
    for key, value in data.items():
        if key not in types:
            raise BadInput(f"{path}: unknown key {key!r}; known are {', '.join(types)}")
        if types[key] is float and type(value) is int:
            data[key] = value = float(value)
        if type(value) is not types[key]:
            raise BadInput(f"{path}: {key}: expected {types[key].__name__}, found {value!r}")
    missing = {"controller_url", "device", "token", "broker_url"} - set(data)
    if missing:
        raise BadInput(f"{path}: key {min(missing)!r} is missing; join again")
    return AgentConfig(state_dir=state_dir, **data)


def write_atomically(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Replace ``path`` atomically and durably: after a power cut it has the old or the new text."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)
