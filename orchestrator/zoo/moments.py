"""The statistics a tensor of a seeded network is expected to have, layer by layer.

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
        """Of max(x, 0): the first two moments of a normal deviate cut off at zero.

        The mean matters after residual sums: what one ReLU has made positive, the next one keeps.
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
        """Of the greatest of ``count`` neighbours: E[x²] grows by about the cube root of ``count``.

        An empirical middle between neighbours that agree (1) and independent rectified ones (√n and
        more); found on the convolutional networks of the catalogue.
        """
        growth = math.cbrt(count)
        return Moments(self.mean * math.sqrt(growth), self.square * growth)


NORMALISED = Moments(mean=0.0, square=1.0)
"""Of a network input, and of every weighted layer's output."""


def of_sum(terms: Sequence[Moments]) -> Moments:
    """Of the sum of independent terms."""
    mean = sum(term.mean for term in terms)
    variance = sum(term.square - term.mean**2 for term in terms)
    return Moments(mean, variance + mean**2)


def of_mixture(parts: Sequence[tuple[int, Moments]]) -> Moments:
    """Of tensors joined, each with its number of channels."""
    total = sum(channels for channels, _ in parts)
    return Moments(
        sum(channels * part.mean for channels, part in parts) / total,
        sum(channels * part.square for channels, part in parts) / total,
    )
