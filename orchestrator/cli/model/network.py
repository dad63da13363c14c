"""What ``benchfarm model show`` adds for the network itself: its work, its drawing, Netron."""

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

SUFFIXES = {"edgetpu_tflite": ".tflite"}
"""Of formats whose files are not named after them."""


def drawing_path(name: str, out: Path | None, graph: bool) -> Path | None:
    """Where the drawing goes, before anything is asked of the controller. Raises ``UserError``."""
    from orchestrator.domain.errors import UserError

    if not graph:
        if out is not None:
            raise UserError(f"{out}: a file is written by --graph: model show {name} --graph {out}")
        return None
    path = out or Path(f"{name}.svg")
    require_writable(path)
    return path


def draw(farm: Client, name: str, form: str, path: Path) -> None:
    """Write the drawing; a file that is there is replaced, as by ``report --html``."""
    write(path, farm.network_svg(name, form))
    typer.echo(f"wrote {path}", err=True)


def netron_program() -> str:
    """Netron's command: beside this interpreter, or on the path. Raises ``UserError``."""
    from orchestrator.domain.errors import UserError

    found = shutil.which("netron", path=str(Path(sys.executable).parent)) or shutil.which("netron")
    if found is None:
        raise UserError(
            "--netron: Netron is not installed here (pip install netron); "
            "--graph draws the network without it"
        )
    return found


def open_netron(farm: Client, model: ModelView, form: str, program: str) -> None:
    """Fetch an artifact and show it in Netron, until that ends. Raises ``FarmError``."""
    from orchestrator.domain.errors import FarmError, UserError

    there = {artifact.format: artifact.sha256 for artifact in model.artifacts}
    if form and form not in there:
        raise UserError(f"model {model.name!r} has no {form}; it has {', '.join(there)}")
    chosen = form or next((f for f in ("onnx", "tflite") if f in there), next(iter(there)))
    with tempfile.TemporaryDirectory(prefix="benchfarm-netron-") as folder:
        path = Path(folder) / f"{model.name}{SUFFIXES.get(chosen, f'.{chosen}')}"
        farm.fetch(there[chosen], path)
        typer.echo(f"Netron shows {path.name}; Ctrl-C ends it", err=True)
        try:
            ended = subprocess.run([program, "--browse", str(path)])
        except KeyboardInterrupt:
            return
    if ended.returncode != 0:
        raise FarmError(f"{program} ended with {ended.returncode}")


def facts(details: Mapping[str, Any]) -> dict[str, object]:
    """What the file says of itself, as rows of a table: counts in words, FLOPs at the end."""
    told = {key: value for key, value in details.items() if key != "work"}
    rows = {k: _counts(v) if isinstance(v, dict) else v for k, v in told.items()}
    if isinstance(rows.get("parameters"), int):
        rows["parameters"] = f"{rows['parameters']:,}"
    return {**rows, **_work(details.get("work", {}))}


def _counts(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in found.items()) or "none"


def _work(work: Mapping[str, Any]) -> dict[str, object]:
    """FLOPs, what they are of, and what they leave out."""
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
