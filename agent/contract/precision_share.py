"""How much of a network a converter brought into another precision, as counted in its result.

A share travels as words of the conversion step (``Converted.steps``, ``TrialResult.conversion``):
people read it there, the report reads it back, and a controller or agent of 0.1, whose messages
have no field for it, passes it on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Iterable, Optional, Tuple

from agent.contract.failures import NothingConverted

_COUNT = re.compile(
    r"(fp16|bf16|int8) in (\d+) of (\d+) operators, (\d+) of (\d+) weights"
    r"(?:, (\d+) of (\d+) MACs)?"
)


@dataclass(frozen=True)
class PrecisionShare:
    """Each count is (changed, in all).

    Attributes:
        operators: those on real numbers that take and give ``precision``; one that only moves data
            counts, a change of types (cast, quantise, dequantise) does not.
        weights: elements of constant tensors; scales and zero points do not count.
        macs: multiply-accumulates of convolutions, matrix products and recurrent cells, whose
            shapes are known; (0, 0): none.
    """

    precision: str
    operators: Tuple[int, int]
    weights: Tuple[int, int]
    macs: Tuple[int, int] = (0, 0)

    @property
    def nothing(self) -> bool:
        """Whether neither an operator nor a weight changed."""
        return not self.operators[0] and not self.weights[0]

    def words(self) -> str:
        """``int8 in 3 of 4 operators, 1200 of 1210 weights, 300 of 300 MACs``."""
        found = "%s in %d of %d operators, %d of %d weights" % (
            (self.precision, *self.operators, *self.weights)
        )
        return found + (", %d of %d MACs" % self.macs if self.macs[1] else "")

    def required(self, converter: str, why: str = "") -> "PrecisionShare":
        """Itself. Raises ``NothingConverted``: the result is the network as it was."""
        if self.nothing:
            raise NothingConverted(converter, self.precision, self.operators[1], why)
        return self


def read_share(steps: Iterable[str]) -> Optional[PrecisionShare]:
    """The share in the words of conversion steps: the last one's that has it; ``None``: none has,
    because nothing was converted, or by an agent of 0.1."""
    found = [match for step in steps for match in _COUNT.finditer(step)]
    if not found:
        return None
    precision, *counts = found[-1].groups()
    numbers = [int(count or 0) for count in counts]
    pairs = list(zip(numbers[::2], numbers[1::2]))  # noqa: B905 - strict= is newer than 3.8
    return PrecisionShare(precision, pairs[0], pairs[1], pairs[2])
