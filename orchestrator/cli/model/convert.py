"""``benchfarm model convert``: from one format to another, with this machine's environments."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from orchestrator.cli.context import CliContext, client
from orchestrator.cli.output import require_writable, size

if TYPE_CHECKING:
    from agent.contract.trial import Option


def convert(
    context: typer.Context,
    source: str = typer.Argument(help="A file or a SavedModel's folder, or a registered model."),
    to: str = typer.Option(..., help="The format to make: onnx, savedmodel, tflite, …"),
    precision: str = typer.Option("fp32", help="fp32, fp16, bf16, int8."),
    via: list[str] = typer.Option([], help="A converter that must be on the way; repeatable."),
    output: Path | None = typer.Option(None, help="Empty: the source's name with another ending."),
    explain: bool = typer.Option(False, "--explain", help="Only say how it would be done."),
    file_format: str = typer.Option(
        "",
        "--format",
        help="Of the source, where its ending does not tell, or of the model's files.",
    ),
    shape: list[str] = typer.Option([], help="INPUT=1,3,224,224 for a free shape; repeatable."),
    option: list[str] = typer.Option([], help="KEY=VALUE for a converter; repeatable."),
    dataset: Path | None = typer.Option(
        None, help=".npz with calibration data; a registered model has its own."
    ),
    calibration: str = typer.Option("", help="'random': int8 on random inputs, said aloud."),
) -> None:
    """Convert a model, hold every step against the source's outputs, and say what was done."""
    from orchestrator.cli.model.shape_option import shape_of
    from orchestrator.domain.errors import UserError
    from orchestrator.inspection.client import ConfinedInspector
    from orchestrator.local.conversion import ConversionRequest, LocalConverter
    from orchestrator.service.models.inspection import check_format

    options: CliContext = context.obj
    if calibration not in ("", "random"):
        raise UserError(f"--calibration {calibration}: accepted is random, or give --dataset")
    settings = options.settings()
    inspect = ConfinedInspector(None, settings.inspect_s, settings.inspect_mib)
    converter = LocalConverter(settings.home / "agent", inspect)
    shapes = dict(shape_of(text) for text in shape)

    def chosen(starts: Sequence[tuple[str, str]]) -> str:
        return converter.nearest(starts, (to, precision), via)[0]

    with _source(context, source, file_format, chosen) as given:
        path, stem = given.path, given.stem
        found = check_format(inspect, path, source, given.format)
        data = dataset.resolve() if dataset else given.dataset
        request = ConversionRequest(
            source=path,
            format=found.format,
            precision=found.precision,
            goal=(to, precision),
            via=tuple(via),
            shapes={**given.shapes, **shapes},
            options=dict(_option(text) for text in option),
            calibration=calibration or ("dataset" if data else ""),
            dataset=data,
        )
        if explain:
            typer.echo("\n".join(converter.explain(request)))
            return
        target = output or Path(_default(stem, to))
        require_writable(target)
        if target.exists():
            raise UserError(f"{target} is there already; choose another --output")
        before = path.stat().st_size
        converted = converter.make(request, target, typer.echo)
    for step in converted.steps:
        typer.echo(f"  {step}")
    typer.echo(f"wrote {converted.path}: {size(converted.size_bytes)}, from {size(before)}")


@dataclass(frozen=True)
class _Given:
    """What is converted. ``stem``: its name without a suffix. ``shapes``, ``dataset``: those of a
    registered model."""

    path: Path
    format: str
    stem: str
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    dataset: Path | None = None


@contextmanager
def _source(
    context: typer.Context,
    source: str,
    file_format: str,
    chosen: Callable[[Sequence[tuple[str, str]]], str],
) -> Iterator[_Given]:
    """The source's file. ``chosen``: from a model's (format, precision) files the format to take,
    where ``file_format`` names none."""
    from orchestrator.domain.errors import UserError
    from orchestrator.savedmodel_archive import packed_savedmodel
    from orchestrator.service.models.file_formats import format_of

    path = Path(source).resolve()
    if path.is_dir():
        with packed_savedmodel(path) as archive:
            yield _Given(archive, "savedmodel", path.stem)
    elif path.is_file():
        yield _Given(path, format_of(path.name, file_format), path.stem)
    elif "." in source or "/" in source:
        raise UserError(f"{source}: there is no such file")
    else:
        with tempfile.TemporaryDirectory(prefix="benchfarm-") as folder, client(context) as farm:
            found = farm.model(source)
            by_format = {a.format: a for a in found.artifacts}
            if file_format and file_format not in by_format:
                raise UserError(
                    f"{source} has no {file_format} file; it has {', '.join(by_format)}"
                )
            starts = [(a.format, a.precision or "fp32") for a in found.artifacts]
            artifact = by_format[file_format or chosen(starts)]
            file = Path(folder) / f"{source}.{artifact.format}"
            farm.fetch(artifact.sha256, file)
            data = None
            if found.dataset_sha256:
                data = Path(folder) / "dataset.npz"
                farm.fetch(found.dataset_sha256, data)
            inputs = artifact.inputs or found.inputs
            shapes = {i["name"]: [int(size) for size in i["shape"]] for i in inputs}
            fixed = {name: shape for name, shape in shapes.items() if -1 not in shape}
            yield _Given(file, artifact.format, source, fixed, data)


def _default(stem: str, to: str) -> str:
    from agent.runtimes.formats import FORMATS

    known = FORMATS.get(to)
    one_file = known is not None and known.registered and to != "savedmodel"
    return stem + (known.suffix if known and one_file else f".{to}")


def _option(text: str) -> tuple[str, Option]:
    from orchestrator.domain.errors import UserError

    key, separator, value = text.partition("=")
    if not separator or not key:
        raise UserError(f"--option {text}: expected KEY=VALUE")
    return key, value
