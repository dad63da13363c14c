"""The parts of ``benchfarm model show`` that concern the network: FLOPs, drawing, Netron."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from orchestrator.cli.output import require_writable, write

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.service.views import ModelView

ELSEWHERE = (
    *("work", "task", "dataset", "remarks", "values", "given", "precision", "stored"),
    *("unrepeatable", "stateful"),
)
"""Details that ``model show`` has in other rows: the precision stands with each file."""

SUFFIXES = {"edgetpu_tflite": ".tflite"}
"""File name suffixes of formats that are not called like their suffix."""


def drawing_path(name: str, out: Path | None, graph: bool) -> Path | None:
    """The file to draw to, ``None`` without ``--graph``; checked before any request to the
    controller. Raises ``UserError``."""
    from orchestrator.domain.errors import UserError

    if not graph:
        if out is not None:
            raise UserError(f"{out}: a file is written by --graph: model show {name} --graph {out}")
        return None
    path = out or Path(f"{name}.svg")
    require_writable(path)
    return path


def require_purpose(form: str, used: bool) -> None:
    """Raises ``UserError`` where ``--format`` is given for nothing."""
    from orchestrator.domain.errors import UserError

    if form and not used:
        raise UserError(f"--format {form}: only --graph and --netron take one artifact")


def draw(farm: Client, name: str, form: str, path: Path) -> None:
    """Write the drawing; replaces an existing file, as ``report --html`` does."""
    write(path, farm.network_svg(name, form))
    typer.echo(f"wrote {path}", err=True)


def netron_program() -> str:
    """The ``netron`` program beside this interpreter, or on the path. Raises ``UserError``."""
    from orchestrator.domain.errors import UserError

    found = shutil.which("netron", path=str(Path(sys.executable).parent)) or shutil.which("netron")
    if found is None:
        raise UserError(
            "--netron: Netron is not installed here (pip install netron); "
            "--graph draws the network without it"
        )
    return found


def open_netron(farm: Client, model: ModelView, form: str, program: str) -> None:
    """Fetch an artifact and show it in Netron until Netron ends.

    Raises ``UserError`` where the model has no such format, ``FarmError`` where Netron fails.
    """
    from orchestrator.domain.errors import FarmError, UserError

    sha256_of = {artifact.format: artifact.sha256 for artifact in model.artifacts}
    if form and form not in sha256_of:
        raise UserError(f"model {model.name!r} has no {form}; it has {', '.join(sha256_of)}")
    preferred = [f for f in ("onnx", "tflite") if f in sha256_of]
    chosen = form or [*preferred, *sha256_of][0]
    with tempfile.TemporaryDirectory(prefix="benchfarm-netron-") as folder:
        path = Path(folder) / f"{model.name}{SUFFIXES.get(chosen, f'.{chosen}')}"
        farm.fetch(sha256_of[chosen], path)
        typer.echo(f"Netron shows {path.name}; Ctrl-C ends it", err=True)
        try:
            process = subprocess.run([program, "--browse", str(path)])
        except KeyboardInterrupt:
            return
    if process.returncode != 0:
        raise FarmError(f"{program} ended with {process.returncode}")


def facts(details: Mapping[str, Any]) -> dict[str, object]:
    """The model's registered details as rows of a table, FLOPs last."""
    plain = {key: value for key, value in details.items() if key not in ELSEWHERE}
    rows = {k: _counts(v) if isinstance(v, dict) else v for k, v in plain.items()}
    if isinstance(rows.get("parameters"), int):
        rows["parameters"] = f"{rows['parameters']:,}"
    return {**rows, **_work(details.get("work", {}))}


def _counts(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in found.items()) or "none"


def _work(work: Mapping[str, Any]) -> dict[str, object]:
    """FLOPs in total and by operator, and the operators that are not counted or unknown."""
    unknown = "; ".join(f"{operator}: {why}" for operator, why in work.get("unknown", {}).items())
    if work.get("flops") is None:
        return {"FLOPs": f"unknown: {unknown}"}
    least = "at least " if unknown else ""
    by_operator = {op: f"{count:,}" for op, count in work["flops_by_operator"].items()}
    return {
        "FLOPs": f"{least}{work['flops']:,} (2 × {work['macs']:,} MACs)",
        "FLOPs by operator": _counts(by_operator),
        "FLOPs do not count": _counts(work["not_counted"]),
        **({"FLOPs unknown": unknown} if unknown else {}),
    }
