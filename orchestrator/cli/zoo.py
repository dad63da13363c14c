"""``benchfarm zoo``: architectures that ship with benchfarm."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from orchestrator.cli.context import client
from orchestrator.cli.output import FORM, Form

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.service.views import ModelView

app = typer.Typer(help="Architectures that ship with benchfarm.", no_args_is_help=True)


@app.command("list")
def list_(output: Form = FORM) -> None:
    """The architectures, and whether they are trained."""
    from orchestrator.cli.output import show
    from orchestrator.service.views import ZooView
    from orchestrator.zoo import catalogue

    found = []
    for name in catalogue.names():
        info = catalogue.info(name)
        found.append(
            ZooView(
                name=name,
                description=info.description,
                parameters=info.parameters,
                input_shape=list(info.input_shape),
                weights=f"trained on {info.dataset}" if info.trained else "seeded",
            )
        )
    rows = [{**z.model_dump(), "parameters": f"{z.parameters:,}"} for z in found]
    show(found, rows, output)


@app.command("build")
def build(
    context: typer.Context,
    names: list[str],
    output: Path | None = typer.Option(
        None, "--output", help="Write the files into this folder instead of registering them."
    ),
    seed: int = typer.Option(0, help="Seed of the weights of an untrained architecture."),
    batch: int = typer.Option(1, min=1, help="Fixed batch size of the artifact."),
    pt2: bool = typer.Option(False, "--pt2", help="Also as a PyTorch exported program."),
    python: str = typer.Option(
        "", envvar="BENCHFARM_PYTORCH_PYTHON", help="Interpreter that has torch, for --pt2."
    ),
) -> None:
    """Emit architectures as ONNX (and .pt2) and register them with their data sets."""
    with tempfile.TemporaryDirectory(prefix="benchfarm-zoo-") as temporary:
        folder = output or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            files = emit(name, folder, seed, batch)
            files += [emit_pt2(name, folder, seed, batch, python)] if pt2 else []
            for file in files:
                if output is not None:
                    typer.echo(str(file))
                    continue
                with client(context) as farm:
                    added = register(farm, name, file)
                typer.echo(f"model {added.name}: {', '.join(a.format for a in added.artifacts)}")


def emit(name: str, folder: Path, seed: int = 0, batch: int = 1) -> list[Path]:
    """Write ``name`` as ONNX into ``folder``. Raises ``UnknownArchitecture``."""
    from orchestrator.zoo import catalogue
    from orchestrator.zoo.emit_onnx import write

    path = folder / f"{name}.onnx"
    write(catalogue.load(name, seed), path, batch)
    return [path]


def register(farm: Client, name: str, file: Path) -> ModelView:
    """Register an emitted file with the data set that the architecture was trained on, if any."""
    from orchestrator.zoo import catalogue

    dataset = catalogue.info(name).dataset if file.suffix == ".onnx" else None
    return farm.add_model(
        file, name=name, dataset=catalogue.dataset_path(dataset) if dataset else None
    )


def emit_pt2(name: str, folder: Path, seed: int, batch: int, python: str) -> Path:
    """Write ``name`` as an exported program, under an interpreter that has torch.

    Raises:
        UserError: no such interpreter, or torch cannot export there.
    """
    from orchestrator.domain.errors import UserError

    interpreter = shutil.which(python) if python else None
    if interpreter is None:
        raise UserError(
            f"--pt2 needs an interpreter that has torch; {python or 'none'} was given: "
            "--python PATH or BENCHFARM_PYTORCH_PYTHON (`make pytorch` builds one)"
        )
    path = folder / f"{name}.pt2"
    command = [interpreter, "-m", "orchestrator.zoo.emit_torch", name, str(path)]
    command += ["--batch", str(batch), "--seed", str(seed)]
    ended = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    if ended.returncode != 0:
        last = ended.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise UserError(f"{name}: export under {interpreter} failed: {last[0]}")
    return path
