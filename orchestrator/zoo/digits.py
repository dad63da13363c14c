"""The digits data set: 1797 handwritten digits, enlarged to 28x28 and split once and for all.

Source: scikit-learn's ``load_digits``, the test part of E. Alpaydin and C. Kaynak, *Optical
Recognition of Handwritten Digits*, UCI Machine Learning Repository, 1998, doi:10.24432/C50P49,
licence CC BY 4.0. Everything after loading is NumPy on a frozen stream, so that the split can be
made again anywhere. The split is by image, not by writer: accuracy on the held-out part says how well a
conversion kept the network, not how it would do on a stranger's hand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.zoo.errors import ToolMissing
from orchestrator.zoo.weights import FloatArray

SEED = 20231
SIDE = 28
HELD_OUT_SHARE = 0.25
CALIBRATION_SAMPLES = 100

Labels = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Digits:
    """Images are float32 (samples, 1, 28, 28), multiples of 1/255 in [0, 1]; labels int64."""

    train_inputs: FloatArray
    train_labels: Labels
    inputs: FloatArray
    labels: Labels

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
    # The source counts set pixels of 4x4 blocks: 0 to 16.
    enlarged = resize(np.asarray(source.images, dtype=np.float64) / 16.0, SIDE)
    # Whole 255ths cost nothing in accuracy, compress well and are what a camera would deliver.
    images = (np.round(enlarged * 255.0) / 255.0).astype(np.float32)[:, np.newaxis]
    train, held_out = split(labels, HELD_OUT_SHARE, SEED)
    return Digits(images[train], labels[train], images[held_out], labels[held_out])


def resize(images: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Bilinear enlargement, (n, h, w) → (n, side, side): pixel centres aligned, edges repeated."""
    rows = _interpolation(images.shape[1], side)
    columns = _interpolation(images.shape[2], side)
    result: NDArray[np.float64] = np.einsum("ih,nhw,jw->nij", rows, images, columns)
    return result


def split(
    labels: Labels, held_out_share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the training and the held-out part, each shuffled, each label in equal shares."""
    state = np.random.RandomState(seed)
    train: list[NDArray[np.int64]] = []
    held_out: list[NDArray[np.int64]] = []
    for label in np.unique(labels):
        members = state.permutation(np.flatnonzero(labels == label))
        count = round(len(members) * held_out_share)
        held_out.append(members[:count])
        train.append(members[count:])
    return (
        state.permutation(np.concatenate(train)),
        state.permutation(np.concatenate(held_out)),
    )


def _interpolation(size: int, wanted: int) -> NDArray[np.float64]:
    """(wanted, size): the weight of each source pixel in each new one."""
    centres = np.clip((np.arange(wanted) + 0.5) * size / wanted - 0.5, 0, size - 1)
    distance = np.abs(centres[:, np.newaxis] - np.arange(size)[np.newaxis])
    return np.maximum(0.0, 1.0 - distance)
