"""What the elements of a model's inputs are drawn from, where a data set does not give them.

Standard library only, Python 3.8 syntax: controller and measured child use it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

NORMAL, WHOLE, REAL, FIXED, GIVEN = "normal", "whole", "real", "fixed", "given"


@dataclass(frozen=True)
class InputValues:
    """The values of one input.

    Attributes:
        kind: ``normal``: standard normal. ``whole``: whole numbers, uniform. ``real``: numbers,
            uniform. ``fixed``: always ``fixed``. ``given``: arrays that somebody sent.
        low, high: the bounds of ``whole`` and ``real``, both included.
        fixed: one number for all elements, or one for each in the order of memory.
        why: where this is known from, for people: ``rows of 'words', which Gather reads``.
    """

    kind: str
    low: float = 0.0
    high: float = 0.0
    fixed: Tuple[float, ...] = ()
    why: str = ""

    @property
    def words(self) -> str:
        """For people: ``whole numbers 0…1 (rows of 'types', which Gather reads)``."""
        what = {
            NORMAL: "standard normal",
            WHOLE: "whole numbers %s…%s" % (plain(self.low), plain(self.high)),
            REAL: "numbers %s…%s" % (plain(self.low), plain(self.high)),
            FIXED: "always %s" % ", ".join(plain(v) for v in self.fixed[:8]),
        }.get(self.kind, "")
        more = ", …" if self.kind == FIXED and len(self.fixed) > 8 else ""
        why = "(%s)" % self.why if what and self.why else self.why
        return " ".join(word for word in (what + more, why) if word)


def plain(value: float) -> str:
    """A number as one types it: whole numbers without a point."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))
