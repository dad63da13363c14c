"""The report as CSV (one line per cell) and JSON, units in the column names."""

from __future__ import annotations

import csv
import io

from orchestrator.report import columns
from orchestrator.report.schema import CellRow, SweepReport

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def to_json(report: SweepReport) -> str:
    """The whole report, indented; ``SweepReport.model_validate_json`` reads it back unchanged."""
    return report.model_dump_json(indent=2)


def to_csv(report: SweepReport) -> str:
    """One line per cell; an estimate takes four columns (``p50_ms``, ``p50_low_ms``, …).

    Empty: unknown. A text that a spreadsheet would run as a formula gets a leading apostrophe.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header())
    writer.writerows(values(row) for row in report.rows)
    return out.getvalue()


def header() -> list[str]:
    """The CSV's column names."""
    return [name for column in columns.COLUMNS if column.csv for name in column.csv_names()]


def values(row: CellRow) -> list[object]:
    """A row's values under ``header``; ``None`` where unknown."""
    return [
        _no_formula(value)
        for column in columns.COLUMNS
        if column.csv
        for value in column.csv_values(row)
    ]


def _no_formula(value: object) -> object:
    if isinstance(value, str) and value.startswith(FORMULA_STARTS):
        return "'" + value
    return value
