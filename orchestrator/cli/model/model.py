"""``benchfarm model``: registered models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from orchestrator.cli.context import client
from orchestrator.cli.model import network
from orchestrator.cli.model.convert import convert
from orchestrator.cli.model.formats import formats
from orchestrator.cli.model.shape_option import shape_of
from orchestrator.cli.output import OUTPUT_OPTION, OutputFormat, confirm, show, size
from orchestrator.cli.waiting import waiting

if TYPE_CHECKING:
    from orchestrator.service.views import ArtifactView, ModelView

app = typer.Typer(help="Models of the farm.", no_args_is_help=True)
app.command("formats")(formats)
app.command("convert")(convert)


@app.command("add")
def add(
    context: typer.Context,
    file: Path,
    name: str = typer.Option("", help="Empty: the file's name without its suffix."),
    file_format: str = typer.Option(
        "", "--format", help="Where the suffix does not tell: optimised_pb (.pb: frozen_pb)."
    ),
    shape: list[str] = typer.Option(
        [], help="INPUT=1,3,224,224 for an input whose shape is free; repeatable."
    ),
    dataset: Path | None = typer.Option(
        None, help=".npz with inputs, labels (held out) and calibration."
    ),
    drawn: list[str] = typer.Option(
        [],
        "--input",
        help="What an input is drawn from: ids:range=0,30521 or shape:values=2,3; repeatable.",
    ),
    feeds: Path | None = typer.Option(
        None, "--inputs", help=".npz with inputs by name, to compute the reference outputs on."
    ),
    task: str = typer.Option(
        "",
        help="How outputs are scored against the labels: multiclass, binary, multilabel, labels, "
        "none. Empty: it is recognised.",
    ),
    score_output: str = typer.Option("", help="The output that is scored. Empty: it is found."),
    threshold: float | None = typer.Option(
        None, help="Scores above it are class 1 (binary, multilabel). Empty: 0.5 or 0, found."
    ),
) -> None:
    """Register a model, or one more format of a model that is there.

    FILE is .onnx, .pt2, .tflite, .keras, .h5, .pb, a SavedModel's folder or an archive of one
    (.zip). What joins a model must give the same outputs.
    """
    from orchestrator.client import ADD_MODEL_S
    from orchestrator.domain import input_values
    from orchestrator.domain.errors import UserError

    input_values.declared(drawn)  # refused before anything is sent
    for path in (file, dataset, feeds):
        if path is not None and not path.is_file() and not (path is file and path.is_dir()):
            found = "this is no file" if path.exists() else "there is no such file"
            raise UserError(f"{path}: {found}")
    with client(context) as farm:
        what = f"the reference outputs of {file.name}, computed twice"
        with waiting(what, ADD_MODEL_S):
            added = farm.add_model(
                file,
                name,
                dict(shape_of(s) for s in shape),
                dataset,
                file_format,
                drawn,
                feeds,
                task,
                score_output,
                threshold,
            )
    inputs = "; ".join(_tensor(i) for i in added.inputs)
    formats = ", ".join(_named(added, a) for a in added.artifacts)
    typer.echo(f"model {added.name}: {inputs}; formats {formats}; reference: {added.reference}")
    for artifact in added.artifacts:
        if artifact.checked.startswith("not checked"):
            typer.echo(f"{artifact.format}: {artifact.checked}")
    for words in _doubts(added).values():
        typer.echo(words)
    if "task" in added.details:
        typer.echo(f"task: {added.details['task']}")
    if added.reference_top1 is not None:
        typer.echo(f"top-1 on {added.dataset}: {added.reference_top1:.4f}")
    for remark in added.details.get("remarks", ()):
        typer.echo(f"note: {remark}")


def _doubts(model: ModelView) -> dict[str, str]:
    """Outputs that are no function of the inputs, and what follows."""
    follows = {
        "unrepeatable": "it is not comparable: no cell is ranked by it",
        "stateful": "it keeps state: it is compared where the runtime can reset that",
    }
    return {
        f"output {name} is": f"output {name} is no function of the inputs: {words}; {then}"
        for kind, then in follows.items()
        for name, words in model.details.get(kind, {}).items()
    }


def _named(model: ModelView, file: ArtifactView) -> str:
    """A file's format, with its precision where that is not fp32: ``onnx int8 (QDQ: …)``."""
    stored = _stored(model, file)
    if file.precision in ("", "fp32") and not stored:
        return file.format
    return f"{file.format} {file.precision}" + (f" ({stored})" if stored else "")


def _tensor(spec: dict[str, Any]) -> str:
    return f"{spec['name']} {_typed(spec)}"


def _typed(spec: dict[str, Any]) -> str:
    return f"{spec['dtype']} {spec['shape']} {spec['layout']}".rstrip()


def _artifact(found: ArtifactView, stored: str) -> dict[str, str]:
    """A file's facts: size, precision, whether its outputs were checked, and its own tensors.

    ``stored``: what it holds, in words; empty where its precision says it.
    """
    precision = f"{found.precision} ({stored})" if stored else found.precision or "not read"
    facts = {
        f"{found.format} file": f"{size(found.size_bytes)} sha256 {found.sha256}",
        f"{found.format} precision": precision,
        f"{found.format} outputs": found.checked,
    }
    if found.inputs:
        takes, gives = ("; ".join(map(_tensor, specs)) for specs in (found.inputs, found.outputs))
        facts[f"{found.format} tensors"] = f"{takes} → {gives}"
    return facts


def _stored(model: ModelView, file: ArtifactView) -> str:
    words = str(model.details.get("stored", {}).get(file.format, ""))
    return "" if words == file.precision else words


def _accuracy(found: ModelView) -> dict[str, str]:
    """The task, the accuracy, and what makes it or the reference doubtful."""
    details = found.details
    facts = {"data set values": details.get("dataset", ""), "task": details.get("task", "")}
    if found.reference_top1 is not None:
        facts["top-1"] = f"{found.reference_top1:.4f}"
    notes = {f"note {n}": text for n, text in enumerate(details.get("remarks", ()), start=1)}
    return {fact: words for fact, words in {**facts, **notes}.items() if words}


@app.command("list")
def list_(context: typer.Context, output: OutputFormat = OUTPUT_OPTION) -> None:
    """All models."""
    with client(context) as farm:
        found = farm.models()
    rows = [
        {
            "name": m.name,
            "input": "; ".join(str(i["shape"]) for i in m.inputs),
            "parameters": f"{m.details['parameters']:,}" if "parameters" in m.details else "-",
            "formats": ", ".join(f"{a.format} ({size(a.size_bytes)})" for a in m.artifacts),
            "data set": m.dataset or "-",
            "top-1": "-" if m.reference_top1 is None else f"{m.reference_top1:.4f}",
        }
        for m in found
    ]
    show(found, rows, output)


@app.command("show")
def show_(
    context: typer.Context,
    name: str,
    out: Path | None = typer.Argument(None, help="Where --graph writes; else NAME.svg here."),
    graph: bool = typer.Option(False, "--graph", help="Draw the network as SVG."),
    netron: bool = typer.Option(False, "--netron", help="Open the file in Netron."),
    file_format: str = typer.Option("", "--format", help="The artifact for --graph or --netron."),
    output: OutputFormat = OUTPUT_OPTION,
) -> None:
    """One model: inputs, outputs, opset, operators, parameters, FLOPs, size; formats
    and whether each was checked; and drawn."""
    network.require_purpose(file_format, graph or netron)
    drawing = network.drawing_path(name, out, graph)
    program = network.netron_program() if netron else ""
    with client(context) as farm:
        found = farm.model(name)
        if drawing is not None:
            network.draw(farm, name, file_format, drawing)
    facts: dict[str, object] = {
        **{f"input {i['name']}": _typed(i) for i in found.inputs},
        **{f"values of {i}": how for i, how in found.details.get("values", {}).items()},
        **{f"output {o['name']}": _typed(o) for o in found.outputs},
        "batch size": "free" if found.free_batch else "as exported",
        **{
            fact: words
            for a in found.artifacts
            for fact, words in _artifact(a, _stored(found, a)).items()
        },
        "data set": found.dataset or "-",
        **_accuracy(found),
        "reference": found.reference,
        **{key: words.removeprefix(f"{key} ") for key, words in _doubts(found).items()},
        **network.facts(found.details),
    }
    show([found], [{"fact": k, "value": v} for k, v in facts.items()], output, title=name)
    if program:
        with client(context) as farm:
            network.open_netron(farm, found, file_format, program)


@app.command("remove")
def remove(
    context: typer.Context,
    name: str,
    file_format: str = typer.Option("", "--format", help="Only the file in this format."),
    yes: bool = typer.Option(False, "--yes", help="Do not ask."),
) -> None:
    """Forget a model that no sweep uses, with its files, reference and data set."""
    with client(context) as farm:
        found = farm.model(name)
        if not yes:
            what = f"the {file_format} file of {name}" if file_format else name
            files = ", ".join(a.format for a in found.artifacts)
            confirm(f"remove {what}" + ("?" if file_format else f" ({files})?"))
        removed = farm.remove_model(name, file_format)
    typer.echo(
        f"{name}: {', '.join(removed.formats)} removed, {removed.freed_blobs} blobs freed "
        f"({size(removed.freed_bytes)})"
    )
