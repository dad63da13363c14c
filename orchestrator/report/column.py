"""What a report's column is made of, and how it appears on each output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, Literal

from orchestrator.report.schema import CellRow, Estimate
from orchestrator.report.statistics.estimates import MeasuredTrial

Place = Literal["terminal", "markdown", "html", "details"]
PLACES: Mapping[Place, str] = {
    "terminal": "terminal",
    "markdown": "Markdown",
    "html": "HTML",
    "details": "HTML details",
}
"""Where people see a column: two text tables, the page's table, each cell's details in the page."""
Estimator = Callable[[Sequence[MeasuredTrial]], Any]
"""From a cell's measured trials to a figure; also called with none."""


def always(_rows: Sequence[CellRow]) -> bool:
    return True


@dataclass(frozen=True)
class Shown:
    """How a column appears in one place.

    ``format``: from the column's value, or from the row if ``whole_row``, to text; in the details
    also to a mapping, which gives an entry per key. ``title``: heading where it differs from the
    column's own; a line feed in it breaks the line in HTML. ``when``: whether a table of these rows
    has the column. ``macro``: macro of ``page.html`` that makes the table's cell.
    """

    format: Callable[[Any], str | Mapping[str, str]] = str
    title: str = ""
    whole_row: bool = False
    when: Callable[[Sequence[CellRow]], bool] = always
    macro: str = "plain"
    min_width: int = 0


@dataclass(frozen=True)
class Column:
    """One column.

    ``name``: in CSV. ``path``: where JSON has it within a row, ``name`` unless given; nested
    fields are separated by a point. ``estimator``: computes the value from a cell's trials; a text
    says where a value comes from that is not computed from the cell's own trials. ``interval``: the
    value is an ``Estimate``, four columns in CSV. ``csv_format``: CSV's text where it is not the
    value itself. ``text``: aligned to the left. ``csv``: whether CSV has it.
    """

    name: str
    title: str
    meaning: str
    estimator: Estimator | str
    _: KW_ONLY
    unit: str = ""
    path: str = ""
    interval: bool = False
    text: bool = False
    csv: bool = True
    csv_format: Callable[[Any], Any] | None = None
    terminal: Shown | None = None
    markdown: Shown | None = None
    html: Shown | None = None
    details: Shown | None = None

    @property
    def field(self) -> str:
        """The row's field that holds the value."""
        return (self.path or self.name).partition(".")[0]

    def shown(self, place: Place) -> Shown | None:
        found: Shown | None = getattr(self, place)
        return found

    def value(self, row: CellRow) -> Any:
        """The row's value; ``None``, or an empty ``Estimate``, where the row has none."""
        found: Any = row
        for name in (self.path or self.name).split("."):
            found = getattr(found, name, None)
        return Estimate(unit=self.unit) if found is None and self.interval else found

    def text_of(self, place: Place, row: CellRow) -> str | Mapping[str, str]:
        """What the row shows in a place where this column is shown."""
        shown = self.shown(place)
        assert shown is not None, (self.name, place)
        return shown.format(row if shown.whole_row else self.value(row))

    def heading(self, place: Place) -> str:
        """The title with its unit: ``p50 ms`` in the terminal, ``p50 (ms)`` in Markdown."""
        shown = self.shown(place)
        if shown is not None and shown.title:
            return shown.title
        if not self.unit:
            return self.title
        start = {"terminal": f"{self.title} ", "html": f"{self.title}\n"}.get(place)
        return f"{start}{self.unit}" if start else f"{self.title} ({self.unit})"

    def csv_names(self) -> list[str]:
        """CSV's column names: ``p50_ms``, or ``p50_ms, p50_low_ms, p50_high_ms, p50_trials``."""
        if not self.interval:
            return [self.name]
        unit = f"_{self.unit.lower()}"
        stem = self.name.removesuffix(unit)
        unit = unit if stem != self.name else ""
        return [self.name, f"{stem}_low{unit}", f"{stem}_high{unit}", f"{stem}_trials"]

    def csv_values(self, row: CellRow) -> list[Any]:
        """One value per name of ``csv_names``; ``None``: unknown."""
        found = self.value(row)
        if self.interval:
            return [found.value, found.low, found.high, None if found.value is None else found.n]
        return [self.csv_format(found) if self.csv_format else found]


INTRODUCTION = """# The columns of a report

Made from `orchestrator/report/columns.py`; do not edit it here:
`python -m orchestrator.report.columns > docs/report-columns.md` writes it anew.

A report has a row per cell, one configuration on one device. `benchfarm report NAME -o csv` has the
columns in this order, units in the names; an empty field is unknown. JSON has them under `rows`, in
the field of the same name unless another is given. An estimate is an object there, with `value`,
`low`, `high` (95 % confidence interval), `n` (trials that it covers) and `reason` (why a value or
an interval is absent); in CSV it takes four columns, the last is `n`. A figure covers every
measured trial of its cell or is absent; `absent` says why. How the intervals are made:
[measurement](measurement.md).

"""


def documentation(columns: Sequence[Column]) -> str:
    """``docs/report-columns.md``: a table of what each column means and where it comes from."""
    lines = ["| column | unit | meaning | estimated by | shown in |", "|---|---|---|---|---|"]
    for column in columns:
        names = ", ".join(f"`{name}`" for name in column.csv_names())
        if column.path:
            names += f"; JSON `{column.path}`"
        shown = [
            f"{name} “{column.heading(place).replace(chr(10), ' ')}”"
            for place, name in PLACES.items()
            if column.shown(place)
        ]
        where = ", ".join((["CSV"] if column.csv else []) + ["JSON", *shown])
        cells = (names, column.unit, column.meaning, _origin(column.estimator), where)
        lines.append(f"| {' | '.join(cells)} |")
    return INTRODUCTION + "\n".join(lines) + "\n"


def _origin(estimator: Estimator | str) -> str:
    """The estimator's name, its arguments, and the first paragraph of its docstring."""
    if isinstance(estimator, str):
        return estimator
    function, given = estimator, ""
    if isinstance(estimator, partial):
        function = estimator.func
        given = ", ".join(f"{name}={value!r}" for name, value in estimator.keywords.items())
    about = " ".join((function.__doc__ or "").split("\n\n")[0].split())
    return f"`{function.__name__}({given})`: {about}"
