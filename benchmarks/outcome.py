"""What a benchmark prints and keeps: one ratio with its spread, against its goal."""

from __future__ import annotations

import datetime
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Outcome:
    """``ratio`` is the median over rounds, ``low``/``high`` the 95 % interval of that median.

    ``at_least``, ``at_most`` bound the goal; ``compared`` says what was set against what.
    """

    name: str
    ratio: float
    low: float
    high: float
    at_most: float
    compared: str
    at_least: float = 0.0

    @property
    def met(self) -> bool:
        return self.at_least <= self.ratio <= self.at_most

    @property
    def line(self) -> str:
        goal = f"<= {self.at_most:g}"
        goal = f"{self.at_least:g}..{self.at_most:g}" if self.at_least else goal
        verdict = "met" if self.met else "missed"
        return (
            f"{self.name} ratio {self.ratio:.3f} [{self.low:.3f}, {self.high:.3f}] "
            f"goal {goal} {verdict}  ({self.compared})"
        )


def of_rounds(
    name: str, ratios: Sequence[float], *, at_most: float, compared: str, at_least: float = 0.0
) -> Outcome:
    """The outcome of one ratio a round; the interval is a percentile bootstrap of the median."""
    values = np.asarray(ratios, dtype=float)
    random = np.random.RandomState(0)
    medians = np.median(random.choice(values, size=(4000, len(values))), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return Outcome(
        name, float(np.median(values)), float(low), float(high), at_most, compared, at_least
    )


def keep(outcome: Outcome) -> None:
    """Print the line, and append it with date and machine to this day's results."""
    print(outcome.line, flush=True)
    day = datetime.datetime.now(datetime.UTC)
    record = {
        "at": day.isoformat(timespec="seconds"),
        "machine": machine(),
        **asdict(outcome),
        "met": outcome.met,
    }
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{day:%Y-%m-%d}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def machine() -> str:
    """Processor, cores, system and Python, for the record."""
    import os

    from agent.facts.cpu import cpu_model

    return (
        f"{cpu_model() or platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    )
