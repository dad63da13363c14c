"""``benchfarm zoo``: architectures that ship with benchfarm."""

from __future__ import annotations

import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from orchestrator.cli.context import CliContext, client
from orchestrator.cli.output import OUTPUT_OPTION, OutputFormat
from orchestrator.cli.waiting import waiting

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.service.views import ModelView

app = typer.Typer(help="Architectures that ship with benchfarm.", no_args_is_help=True)


class ZooFormat(StrEnum):
    """The formats of architectures besides ONNX."""

    PT2 = "pt2"
    KERAS = "keras"
    H5 = "h5"


@app.command("list")
def list_(output: OutputFormat = OUTPUT_OPTION) -> None:
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
    formats: list[ZooFormat] = typer.Option(
        [], "--format", help="Also in this format, beside ONNX; repeatable."
    ),
    pt2: bool = typer.Option(False, "--pt2", help="The same as --format pt2."),
    python: str = typer.Option(
        "",
        help="Interpreter that has what --format needs: torch for pt2, TensorFlow for keras and "
        "h5. Without it, the local agent's environment of that runtime.",
    ),
) -> None:
    """Emit architectures as ONNX, and other formats, and register them with their data sets."""
    from orchestrator.client import ADD_MODEL_S
    from orchestrator.local import zoo_interpreters

    options: CliContext = context.obj
    state_dir = options.settings().home / "agent"
    wanted = dict.fromkeys(
        [*(file_format.value for file_format in formats), *(["pt2"] if pt2 else [])]
    )
    # Looked up before anything is written or registered.
    pythons = {
        file_format: zoo_interpreters.find_interpreter(file_format, python, state_dir)
        for file_format in wanted
    }
    with tempfile.TemporaryDirectory(prefix="benchfarm-zoo-") as temporary:
        folder = output or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            files = emit(name, folder, seed, batch)
            for file_format, interpreter in pythons.items():
                files.append(folder / f"{name}.{file_format}")
                with waiting(f"{name}.{file_format} to be written"):
                    zoo_interpreters.emit(file_format, interpreter, name, files[-1], seed, batch)
            for file in files:
                if output is not None:
                    typer.echo(str(file))
                    continue
                what = f"the reference outputs of {file.name}, computed twice"
                with client(context) as farm, waiting(what, ADD_MODEL_S):
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
