"""Which cell a cell's speed-up is relative to (docs/decisions/0022). Pure.

The plan asks before anything runs, the report asks again with the same rule: a baseline is found by
what cells are, never by what they measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from agent.contract import versions
from agent.contract.trial import Option

OWN = ("backend", "precision", "threads")
"""Where the baseline does not name one of these, it has the row's own value."""
NEAREST = ("target", "version", "format", "via", "calibration", "options")
"""Likewise where such a cell exists; values of another backend need not exist in the row's."""
SWITCHES = {"on": "true", "yes": "true", "off": "false", "no": "false"}


@dataclass(frozen=True)
class ComparedCell:
    """What tells one cell of a sweep from another."""

    cell_id: str
    device: str
    model: str
    workload: str
    backend: str
    version: str
    target: str
    precision: str
    threads: int
    batch_size: int
    format: str
    via: str
    calibration: str
    options: Mapping[str, Option]


@dataclass(frozen=True)
class Match:
    """The baseline of a row. ``cell_id``: empty where it has none; ``reason`` says why.
    ``missing``: keys that the sweep's ``baseline`` would have to name to tell the candidates
    apart."""

    cell_id: str = ""
    reason: str = ""
    missing: tuple[str, ...] = ()


class Baselines:
    """The cells of a sweep that match every key of ``wanted``, by what they are compared with."""

    def __init__(self, cells: Iterable[ComparedCell], wanted: Mapping[str, str]) -> None:
        self._wanted = wanted
        self._all: dict[tuple[str, ...], list[ComparedCell]] = {}
        self._fitting: dict[tuple[str, ...], list[ComparedCell]] = {}
        for cell in cells:
            self._all.setdefault(self._group(cell), []).append(cell)
            if all(fits(cell, key, value) for key, value in wanted.items()):
                self._fitting.setdefault(self._group(cell), []).append(cell)

    def _group(self, cell: ComparedCell) -> tuple[str, ...]:
        """Only cells of one model and workload are compared, and of one device unless the baseline
        names one."""
        device = "" if "device" in self._wanted else cell.device
        return cell.model, cell.workload, device

    def of(self, row: ComparedCell) -> Match:
        """The baseline of ``row``, which is ``row`` itself where it is one."""
        fitting = self._fitting.get(self._group(row), [])
        if not fitting:
            return Match(reason=self._nothing_fits(row))
        found = fitting
        for key in OWN:
            if key in self._wanted:
                continue
            same = [c for c in found if getattr(c, key) == getattr(row, key)]
            if not same:
                return Match(reason=_another(key, found, row))
            found = same
        for key in NEAREST:
            nearest = [c for c in found if getattr(c, key) == getattr(row, key)]
            found = nearest if nearest and key not in self._wanted else found
        if len(found) > 1:
            missing = tuple(differences(found))
            return Match(reason=_several(found), missing=missing)
        return Match(found[0].cell_id)

    def _nothing_fits(self, row: ComparedCell) -> str:
        where = "" if "device" in self._wanted else f" on {row.device}"
        others = self._all.get(self._group(row), [])
        reason = f"no cell of this model and workload{where} has {words(self._wanted)}"
        backend = self._wanted.get("backend", row.backend)
        there = sorted({c.version for c in others if c.backend == backend and c.version})
        if "version" in self._wanted and there:
            reason += f"; {backend} is there as {', '.join(there)}"
        return reason


def fits(cell: ComparedCell, key: str, wanted: str) -> bool:
    """Whether a cell has the value that a baseline names; a version may be a prefix of it."""
    value = cell.options.get(key) if key in cell.options else getattr(cell, key, None)
    if key == "version":
        return versions.fits(str(value), wanted)
    return value is not None and _text(value) == _text(wanted)


def _text(value: object) -> str:
    """A value as text; YAML reads ``on`` as a boolean, and a baseline's values are text."""
    lower = str(value).lower() if isinstance(value, bool) else str(value)
    return SWITCHES.get(lower, lower)


def words(wanted: Mapping[str, str]) -> str:
    """``backend onnxruntime, precision fp32``."""
    return ", ".join(f"{key} {value}" for key, value in wanted.items())


def differences(cells: Sequence[ComparedCell]) -> dict[str, list[str]]:
    """The keys in which cells differ, each with its values; an option by its name."""
    found: dict[str, list[str]] = {}
    reads: dict[str, Callable[[ComparedCell], object]] = {
        key: _reader(key) for key in ("device", *OWN, *NEAREST) if key != "options"
    }
    for name in sorted({name for cell in cells for name in cell.options}):
        reads[name] = _option_reader(name)
    for key, read in reads.items():
        values = list(dict.fromkeys(str(read(cell)) for cell in cells))
        if len(values) > 1:
            found[key] = values
    return found


def _reader(key: str) -> Callable[[ComparedCell], object]:
    return lambda cell: getattr(cell, key) or ("default" if key == "threads" else "none")


def _option_reader(name: str) -> Callable[[ComparedCell], object]:
    return lambda cell: cell.options.get(name, "not set")


def described(found: Mapping[str, Sequence[str]]) -> str:
    """``version (1.30.0, 1.31.1), threads (1, 4)``."""
    return ", ".join(f"{key} ({', '.join(values)})" for key, values in found.items())


def _another(key: str, cells: Sequence[ComparedCell], row: ComparedCell) -> str:
    there = ", ".join(sorted({str(getattr(c, key)) for c in cells}))
    return (
        f"the baseline's cells have {key} {there}, this one {getattr(row, key)}: "
        f"name {key} in `baseline` to compare them"
    )


def _several(cells: Sequence[ComparedCell]) -> str:
    apart = differences(cells)
    return (
        f"{len(cells)} cells match the baseline and differ in {described(apart)}: "
        f"name {' or '.join(apart)} in `baseline`"
    )
