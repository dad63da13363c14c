"""Looks at the values of one array while its bytes pass by, in chunks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from orchestrator.domain.file_inspection import ArrayValues

TEXT_SHOWN = 40


@dataclass
class ValueScan:
    """``add`` takes the array's bytes in order; ``result`` says what was found.

    ``order``: ``C`` or ``F``, of the bytes.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    order: str
    _rest: bytes = b""
    _seen: int = 0
    _found: dict[str, str] = field(default_factory=dict)
    _low: float | None = None
    _high: float | None = None

    def add(self, chunk: bytes) -> None:
        data = self._rest + chunk if self._rest else chunk
        if not self.dtype.itemsize:
            return
        whole = len(data) - len(data) % self.dtype.itemsize
        self._rest = data[whole:]
        if whole:
            values = np.frombuffer(data[:whole], self.dtype)
            self._look(values)
            self._seen += len(values)

    def result(self) -> ArrayValues:
        return ArrayValues(
            dtype=str(self.dtype)[:TEXT_SHOWN],
            kind=self.dtype.kind,
            first=self._found.get("first", ""),
            not_finite=self._found.get("not_finite", ""),
            fraction=self._found.get("fraction", ""),
            low=self._low or 0.0,
            low_at=self._found.get("low", ""),
            high=self._high or 0.0,
            high_at=self._found.get("high", ""),
        )

    def _look(self, values: Any) -> None:
        if not self._seen:
            self._note("first", 0, values)
        if self.dtype.kind not in "biuf":
            return
        if self.dtype.kind == "f":
            finite = np.isfinite(values)
            if not finite.all():
                self._note("not_finite", int(np.argmin(finite)), values)
                # what is not finite is refused: the range need not be exact
                values = np.where(finite, values, self.dtype.type(0))
            if "fraction" not in self._found:
                whole = values == np.rint(values)
                if not whole.all():
                    self._note("fraction", int(np.argmin(whole)), values)
        lowest, highest = int(np.argmin(values)), int(np.argmax(values))
        low, high = (min(max(float(values[i]), -1e308), 1e308) for i in (lowest, highest))
        if self._low is None or low < self._low:
            self._low = low
            self._note("low", lowest, values, again=True)
        if self._high is None or high > self._high:
            self._high = high
            self._note("high", highest, values, again=True)

    def _note(self, what: str, at: int, values: Any, again: bool = False) -> None:
        """Keep ``inputs[0, 3] is nan``: the first one, or where ``again`` the last."""
        if what in self._found and not again:
            return
        order: Any = self.order
        index = np.unravel_index(self._seen + at, self.shape, order) if self.shape else ()
        where = f"[{', '.join(str(int(i)) for i in index)}]" if self.shape else ""
        value = values[at]
        shown = repr(value.item()) if isinstance(value, np.generic) else repr(value)
        self._found[what] = f"{self.name[:TEXT_SHOWN]}{where} is {shown[:TEXT_SHOWN]}"
