"""The digits data set: 1797 handwritten digits, enlarged to 28x28, with a fixed split.

Source: scikit-learn's ``load_digits``, the test part of E. Alpaydin and C. Kaynak, *Optical
Recognition of Handwritten Digits*, UCI Machine Learning Repository, 1998, doi:10.24432/C50P49,
licence CC BY 4.0. Everything after loading uses integers and a frozen random stream, so that the
arrays are the same on every machine. The split is by image, not by writer: accuracy on the held-out
part shows whether a conversion preserved the network, not how well it reads the writing of others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.zoo.errors import ToolMissing
from orchestrator.zoo.weights import FloatArray

SEED = 20231
SIDE = 28
SOURCE_MAXIMUM = 16
"""The source counts the set pixels of 4x4 blocks."""
HELD_OUT_SHARE = 0.25
CALIBRATION_SAMPLES = 100

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Digits:
    """Images are float32 (samples, 1, 28, 28), multiples of 1/255 in [0, 1]; labels int64."""

    train_inputs: FloatArray
    train_labels: Integers
    inputs: FloatArray
    labels: Integers

    @property
    def calibration(self) -> FloatArray:
        """(100, 1, 28, 28) of the training part, which the split has already shuffled."""
        return self.train_inputs[:CALIBRATION_SAMPLES]


def load() -> Digits:
    """The split data set. Raises ToolMissing without scikit-learn."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ToolMissing(
            "the digits come with scikit-learn: pip install 'benchfarm[pytorch]'"
        ) from error
    source = load_digits()
    labels = np.asarray(source.target, dtype=np.int64)
    levels = resize(np.asarray(source.images, dtype=np.int64), SIDE, SOURCE_MAXIMUM)
    images = (levels.astype(np.float32) / np.float32(255))[:, np.newaxis]
    train, held_out = split(labels, HELD_OUT_SHARE, SEED)
    return Digits(images[train], labels[train], images[held_out], labels[held_out])


def resize(images: Integers, side: int, maximum: int) -> Integers:
    """Bilinear enlargement, (n, h, w) of 0 to ``maximum`` → (n, side, side) of 0 to 255.

    Pixel centres are aligned and edges repeated. Results are integers, as from a camera, and
    compress well. Halves, which are common, round up; in floating point that would vary.
    """
    rows = _interpolation(images.shape[1], side)
    columns = _interpolation(images.shape[2], side)
    sums = rows @ images @ columns.T
    scale = maximum * (2 * side) ** 2
    result: Integers = (2 * 255 * sums + scale) // (2 * scale)
    return result


def split(labels: Integers, held_out_share: float, seed: int) -> tuple[Integers, Integers]:
    """Indices of the training and the held-out part, each shuffled, each label in equal shares."""
    state = np.random.RandomState(seed)
    train: list[Integers] = []
    held_out: list[Integers] = []
    for label in np.unique(labels):
        members = state.permutation(np.flatnonzero(labels == label))
        count = round(len(members) * held_out_share)
        held_out.append(members[:count])
        train.append(members[count:])
    return (
        state.permutation(np.concatenate(train)),
        state.permutation(np.concatenate(held_out)),
    )


def _interpolation(size: int, wanted: int) -> Integers:
    """(wanted, size): the weight of each source pixel in each new one, in units of 1 / 2 wanted."""
    unit = 2 * wanted
    centres = (2 * np.arange(wanted, dtype=np.int64) + 1) * size - wanted
    distance = np.abs(
        np.clip(centres, 0, (size - 1) * unit)[:, np.newaxis] - unit * np.arange(size)
    )
    weights: Integers = np.maximum(0, unit - distance)
    return weights
