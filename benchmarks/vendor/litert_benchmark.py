"""``INTERPRETER -I …/litert_benchmark.py ARGUMENTS``: ``litert-benchmark`` with the median that it
computes, in ns, on the last line: its own print is rounded to 0.01 ms, which is too coarse for a
small network."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from ai_edge_litert.tools import benchmark_litert_model

medians: list[float] = []
_median = statistics.median


def _kept(values: Iterable[float]) -> float:
    medians.append(_median(values))
    return medians[-1]


statistics.median = _kept  # type: ignore[assignment]
benchmark_litert_model.main()
print(1e6 * medians[-1])
