"""``benchfarm samples``: the raw samples of one cell as a file."""

from __future__ import annotations

import importlib.util
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from orchestrator.cli.context import client
from orchestrator.cli.output import require_writable

if TYPE_CHECKING:
    from numpy.typing import NDArray


class SampleFile(StrEnum):
    """Formats, by the file's suffix."""

    PARQUET = ".parquet"
    NPY = ".npy"
    CSV = ".csv"
    JSON = ".json"


def samples(
    context: typer.Context,
    cell: str = typer.Argument(help="Number of the cell, from the report's column “cell”."),
    out: Path = typer.Option(
        ..., "-o", "--out", help="File to write: F.parquet, F.npy, F.csv or F.json."
    ),
) -> None:
    """Every latency sample of a cell, with its trial and attempt, in nanoseconds."""
    from orchestrator.domain.errors import FarmError
    from orchestrator.report import sample_table

    form = _format(out)
    number = _number(cell)
    require_writable(out)
    with client(context) as farm:
        data = farm.cell_samples(number)
    try:
        table = sample_table.from_npy(data)
    except ValueError as error:
        raise FarmError(f"the controller's samples of cell {number}: {error}") from None
    _write(table, data, form, out)
    trials = len(set(table["trial_id"].tolist()))
    noun = "trial" if trials == 1 else "trials"
    typer.echo(f"wrote {out}: {len(table):,} samples of {trials} {noun} of cell {number}")


def _format(out: Path) -> SampleFile:
    from orchestrator.domain.errors import UserError

    accepted = ", ".join(SampleFile)
    if out.suffix.lower() not in set(SampleFile):
        raise UserError(f"--out {out}: the suffix says the format; accepted: {accepted}")
    form = SampleFile(out.suffix.lower())
    if form is SampleFile.PARQUET and importlib.util.find_spec("pyarrow") is None:
        raise UserError(
            f"--out {out}: Parquet needs PyArrow, which is not installed here: "
            "`pip install 'benchfarm[parquet]'`, or choose .npy, .csv or .json"
        )
    return form


def _number(cell: str) -> int:
    from orchestrator.domain.errors import UserError

    if not (cell.isascii() and cell.isdigit() and len(cell) <= 9):
        raise UserError(
            f"cell {cell!r}: a cell is a number, which the column “cell” of "
            "`benchfarm report SWEEP` shows"
        )
    return int(cell)


def _write(table: NDArray[Any], data: bytes, form: SampleFile, out: Path) -> None:
    """Write beside the file and put it in place at the end, so that none is ever half there."""
    from orchestrator.domain.errors import UserError
    from orchestrator.report import sample_table

    half = out.with_name(f".{out.name}.half")
    try:
        match form:
            case SampleFile.PARQUET:
                sample_table.write_parquet(table, half)
            case SampleFile.NPY:
                half.write_bytes(data)
            case SampleFile.CSV:
                half.write_text(sample_table.to_csv(table), encoding="utf-8")
            case SampleFile.JSON:
                half.write_text(sample_table.to_json(table), encoding="utf-8")
        half.replace(out)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror or error}") from None
    finally:
        half.unlink(missing_ok=True)
