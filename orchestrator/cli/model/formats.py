"""``benchfarm model formats``: measures a model in every format that a device can run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from orchestrator.cli.context import client
from orchestrator.cli.output import OUTPUT_OPTION, OutputFormat, console, show

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.domain.placement import PlacementDevice, PlacementModel
    from orchestrator.report.schema import CellRow, SweepReport


def formats(
    context: typer.Context,
    model: str,
    device: str = typer.Option("", help="Empty: the only device that there is."),
    precision: list[str] = typer.Option(
        ["fp32"], help="fp32, fp16, bf16, int8, of a file also fp8, int4; repeatable."
    ),
    backend: list[str] = typer.Option([], help="Only these runtimes; repeatable."),
    tuning_trials: int = typer.Option(
        0, min=0, help="Also tune for TVM, with so many schedules measured."
    ),
    trials: int = typer.Option(5, min=1, help="Fresh processes for each."),
    output: OutputFormat = OUTPUT_OPTION,
) -> None:
    """Size, time and accuracy of a model in each format, and the best at equal accuracy."""
    from orchestrator.cli.sweep.watch import follow
    from orchestrator.domain import format_options
    from orchestrator.domain.errors import UserError

    with client(context) as farm:
        on_device, of_model = _device(farm, device), _model(farm, model)
        options = [
            option
            for option in format_options.forms(on_device, of_model, precision, tuning_trials)
            if not backend or option.backend in backend
        ]
        if not options:
            sources = ", ".join(name for name, _ in of_model.sources)
            raise UserError(
                f"{on_device.name} has no runtime that a way leads to from {model} "
                f"({sources}) in {', '.join(precision)}"
            )
        name = _free_name(model, {s.name for s in farm.sweeps()})
        farm.submit(format_options.sweep(name, on_device.name, model, options, trials), name)
        view = follow(farm, name, console(stderr=output is not OutputFormat.TABLE))
        report = farm.report(name)
    _print(report, output)
    raise typer.Exit(0 if view.state == "done" else 1)


def _device(farm: Client, name: str) -> PlacementDevice:
    from agent.contract import codec
    from agent.contract.device import DeviceFacts
    from orchestrator.domain.errors import UserError
    from orchestrator.domain.placement import PlacementDevice

    if not name:
        names = [d.name for d in farm.devices()]
        if len(names) != 1:
            raise UserError(f"--device: choose one of {', '.join(names) or 'none yet'}")
        name = names[0]
    found = farm.device(name)
    if found.facts is None:
        raise UserError(f"{name} has not said yet what it can run; start `benchfarm-agent run`")
    facts = codec.from_plain(DeviceFacts, found.facts)
    labels = found.labels()
    return PlacementDevice(name, labels, found.enabled, facts.runtimes, facts.tools, facts.machine)


def _model(farm: Client, name: str) -> PlacementModel:
    from orchestrator.domain.placement import PlacementModel, sources_of

    found = farm.model(name)
    sources = sources_of((a.format, a.precision) for a in found.artifacts)
    return PlacementModel(name, sources, found.free_batch, bool(found.dataset))


def _free_name(model: str, taken: set[str]) -> str:
    number = 1
    while f"formats-{model}-{number}" in taken:
        number += 1
    return f"formats-{model}-{number}"


def _print(report: SweepReport, output: OutputFormat) -> None:
    from orchestrator.report import claims
    from orchestrator.report.format_comparison import as_accurate, best, ordered

    cells = ordered(report)
    show(cells, [_row(cell) for cell in cells], output)
    if output is not OutputFormat.TABLE:
        return
    found = best(report)
    if found is None:
        alone = bool(as_accurate(cells))
        typer.echo(
            "\nno best one: each has 1 trial, so no interval; run it with --trials 2 or more"
            if alone
            else "\nnone of them computes what the source does"
        )
        return
    first, tied = found
    typer.echo(f"\nbest at equal accuracy: {_description(first)}")
    if caveats := claims.row_caveats(first):
        typer.echo(f"provisional: {'; '.join(caveats)}")
    if tied:
        typer.echo(f"not shown to be slower: {'; '.join(_description(c) for c in tied)}")


def _description(cell: CellRow) -> str:
    return f"{cell.format} under {cell.backend} {cell.version} in {cell.precision}" + (
        f" by {cell.via}" if cell.via else ""
    )


def _row(cell: CellRow) -> dict[str, object]:
    from orchestrator.report.number_format import compact

    size = cell.artifact_size_mib
    return {
        "format": cell.format,
        "made by": cell.conversion or "as registered",
        "runtime": f"{cell.backend} {cell.version}",
        "precision": cell.precision,
        "size, KiB": "-" if size is None else f"{size * 1024:.1f}",
        "median, ms": compact(cell.p50_ms),
        "top-1": "-" if cell.top1 is None else f"{cell.top1:.4f}",
        "source's": "-" if cell.reference_top1 is None else f"{cell.reference_top1:.4f}",
        "note": cell.status_note or ("" if cell.status == "ok" else cell.status),
    }
