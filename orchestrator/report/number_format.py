"""Figures as text, with as many digits as the interval and the clock's tick support."""

from __future__ import annotations

import math

from agent.contract import comparison
from orchestrator.report.schema import CellRow, Estimate

NOTHING = "–"
ASYMMETRY = 0.1
"""Largest distance of an interval's centre from the value, as a share of the half-width, at which
the interval is written as ±."""


def digits_of(figure: Estimate) -> int:
    """Digits after the point: two significant ones of the interval's half-width (three of the
    value without an interval), at least one of the value, and never below the clock's tick."""
    if figure.value is None:
        return 0
    if figure.low is not None and figure.high is not None and figure.high > figure.low:
        digits = 1 - math.floor(math.log10((figure.high - figure.low) / 2))
        if figure.unit == "x" and not _touches_one(figure, digits - 1):
            digits -= 1  # one digit of the half-width is enough for a ratio
        digits = min(digits, _significant(figure.value, 5))  # however narrow the interval is
        digits = max(digits, _significant(figure.value, 1))  # however wide it is
    else:
        digits = _significant(figure.value, 3)
    most = 9 if figure.decimals is None else figure.decimals
    return max(0, min(digits, most))


def _touches_one(figure: Estimate, digits: int) -> bool:
    """Whether rounding would move an end of the interval onto 1, and so contradict the verdict."""
    return any(end is not None and round(end, digits) == 1.0 for end in (figure.low, figure.high))


def _significant(value: float, count: int) -> int:
    return count - 1 - math.floor(math.log10(abs(value))) if value else count - 1


def point(figure: Estimate) -> str:
    """The value alone: ``3.214``."""
    return NOTHING if figure.value is None else f"{figure.value:,.{digits_of(figure)}f}"


def interval(figure: Estimate) -> str:
    """``[3.1, 3.3]``, or empty where there is none."""
    if figure.low is None or figure.high is None:
        return ""
    digits = digits_of(figure)
    return f"[{figure.low:,.{digits}f}, {figure.high:,.{digits}f}]"


def compact(figure: Estimate) -> str:
    """``3.21 ±0.05``; ``3.21 [3.1, 3.5]`` where the interval is asymmetric; the value alone where
    there is no interval."""
    if figure.value is None or figure.low is None or figure.high is None:
        return point(figure)
    half = (figure.high - figure.low) / 2
    if abs((figure.high + figure.low) / 2 - figure.value) > ASYMMETRY * half:
        return f"{point(figure)} {interval(figure)}"
    return f"{point(figure)} ±{half:,.{digits_of(figure)}f}"


def point_with_interval(figure: Estimate) -> str:
    """``3.21 [3.1, 3.3]``, or the value alone where there is no interval."""
    return f"{point(figure)} {interval(figure)}".strip()


def point_or_reason(figure: Estimate) -> str:
    """``3.21 [3.1, 3.3]``; ``– (not measured)`` where there is no value."""
    if figure.value is None and figure.reason:
        return f"{NOTHING} ({figure.reason})"
    return point_with_interval(figure)


def number(value: float | None, significant: int = 3) -> str:
    """A figure without an interval, to three significant digits: ``12.3``, ``1,230``."""
    if value is None:
        return NOTHING
    if value and abs(value) < 1e-3:
        return f"{value:.{significant - 1}g}"
    return f"{value:,.{max(0, _significant(value, significant))}f}"


def milliseconds(value: float | None, row: CellRow) -> str:
    """A latency without an interval: four significant digits, but none below the clock's tick."""
    if value is None:
        return NOTHING
    most = 9 if row.p50_ms.decimals is None else row.p50_ms.decimals
    return f"{value:,.{max(0, min(most, _significant(value, 4)))}f}"


def percent(value: float | None) -> str:
    """A share (0 to 1) in per cent with one decimal."""
    return NOTHING if value is None else f"{value:.1%}"


def cosine(value: float | None) -> str:
    """Cosine similarity with four decimals; ``≈1`` from 0.99995 on."""
    if value is None:
        return NOTHING
    return "≈1" if value >= 0.99995 else f"{value:.4f}"


def outputs(row: CellRow) -> str:
    """How near the outputs are, by the criterion that decides: ``cos 0.9953``, ``error 0.8%``,
    ``PSNR 31 dB``, ``95% equal``, ``88% overlap``, ``identical``."""
    found = row.fidelity
    if found is None:
        return NOTHING
    if found.criterion and found.max_abs == 0.0:
        return "identical"
    figure = found.figure if found.figure is not None else 0.0
    match found.criterion:
        case "relative_error":
            return f"error {number(figure, 2)}%"
        case "psnr":
            return f"PSNR {number(figure, 2)} dB"
        case "equal" | "overlap":
            return f"{number(figure, 2)}% {found.criterion}"
    return f"cos {cosine(found.cosine)}"


def decided_by(row: CellRow) -> str:
    """``relative error 0.82 %, limit 20 %``, or nothing for results of 0.1."""
    found = row.fidelity
    if found is None or found.figure is None or found.limit is None:
        return NOTHING
    known = comparison.CRITERIA.get(found.criterion)
    shown = comparison.amount(found.figure, found.unit, found.limit)
    return f"{known.words if known else found.criterion} {shown}, limit " + comparison.amount(
        found.limit, found.unit
    )


def speed_up(row: CellRow) -> str:
    """``2.41× [2.33, 2.49]``, ``no difference shown``, ``baseline``, or ``–``."""
    found = row.speed_up
    if found is None:
        return NOTHING
    if found.verdict == "baseline":
        return "baseline"
    if found.verdict == "no_difference_shown":
        return "no difference shown"
    text = f"{point(found.estimate)}×"
    return text if found.verdict == "no_interval" else f"{text} {interval(found.estimate)}"


def speed_up_compact(row: CellRow) -> str:
    """``2.41× ±0.08``, ``none shown``, ``baseline``, or ``–``."""
    found = row.speed_up
    if found is None or found.verdict in ("baseline", "no_difference_shown", "no_interval"):
        return speed_up(row).replace("no difference shown", "none shown")
    return compact(found.estimate).replace(" ", "× ", 1)


def rank(row: CellRow) -> str:
    """``1``, ``=2`` where tied, ``–`` where the cell is not ranked."""
    if row.rank is None:
        return NOTHING
    return f"={row.rank}" if row.tied else str(row.rank)


def words(name: str) -> str:
    """A status or a verdict as text: ``failed_fidelity`` → ``failed fidelity``."""
    return name.replace("_", " ")


def verdict(row: CellRow) -> str:
    """The status where it is not ok, else the trust verdict."""
    return words(row.status if row.status != "ok" else row.trust.verdict)
