"""``client.json``: how the command line on this machine reaches the controller of ``home``."""

from __future__ import annotations

import json
from pathlib import Path

from orchestrator.domain.errors import UserError

CLIENT_FILE = "client.json"


def read_client_file(path: Path) -> dict[str, str]:
    """``url``, ``token`` and ``ca_file``; empty where there is no file.

    Raises:
        UserError: the file is damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        needed = {"url": str(found["url"]), "token": str(found["token"])}
        return {**needed, "ca_file": str(found.get("ca_file", ""))}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{path} cannot be read; start `benchfarm up` anew: it rewrites it"
        ) from None


def write_client_file(path: Path, url: str, token: str, ca_file: str) -> None:
    """Write the file atomically, with mode 0600."""
    from agent.worker.config import write_atomically

    found = {"url": url, "token": token, "ca_file": ca_file}
    write_atomically(path, json.dumps(found), mode=0o600)
