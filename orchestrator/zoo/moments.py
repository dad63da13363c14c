"""Expected moments of the tensors of a seeded network, propagated layer by layer.

Elements are taken as normal deviates, over all elements and all seeds. That is right for sums over
a large fan-in and near enough elsewhere: the estimate has only to stay within a small factor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Moments:
    """``mean`` is E[x], ``square`` is E[x²]."""

    mean: float
    square: float

    def rectified(self) -> Moments:
        """The moments of max(x, 0) for a normal deviate x.

        The mean matters after residual sums: one ReLU's positive output passes the next unchanged.
        """
        variance = self.square - self.mean**2
        if variance <= 0.0:
            return Moments(max(self.mean, 0.0), self.square if self.mean > 0.0 else 0.0)
        deviation = math.sqrt(variance)
        ratio = self.mean / deviation
        density = deviation * math.exp(-(ratio**2) / 2.0) / math.sqrt(2.0 * math.pi)
        above = (1.0 + math.erf(ratio / math.sqrt(2.0))) / 2.0
        return Moments(self.mean * above + density, self.square * above + self.mean * density)

    def greatest_of(self, count: int) -> Moments:
        """Moments of the maximum of ``count`` neighbours: E[x²] grows by about their cube root.

        An empirical value between equal neighbours (factor 1) and independent rectified ones (√n
        or more); found on the convolutional networks of the catalogue.
        """
        growth = math.cbrt(count)
        return Moments(self.mean * math.sqrt(growth), self.square * growth)


NORMALISED = Moments(mean=0.0, square=1.0)
"""The moments of a network input, and of every weighted layer's output."""


def of_sum(terms: Sequence[Moments]) -> Moments:
    """The moments of a sum of independent terms."""
    mean = sum(term.mean for term in terms)
    variance = sum(term.square - term.mean**2 for term in terms)
    return Moments(mean, variance + mean**2)


def of_mixture(parts: Sequence[tuple[int, Moments]]) -> Moments:
    """The moments of concatenated tensors, each with its number of channels."""
    total = sum(channels for channels, _ in parts)
    return Moments(
        sum(channels * part.mean for channels, part in parts) / total,
        sum(channels * part.square for channels, part in parts) / total,
    )
