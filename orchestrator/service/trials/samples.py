"""Decoding stored raw samples: int64 nanoseconds, little-endian, compressed with zstd."""

from __future__ import annotations

import numpy as np
import zstandard
from numpy.typing import NDArray

from agent.contract.trial import SAMPLES_ENCODING, Samples
from orchestrator.domain.errors import FarmError


class DamagedSamples(FarmError):
    """A samples blob does not decode to the number of values that its result states."""

    kind = "damaged_samples"


def decode(samples: Samples, data: bytes) -> NDArray[np.int64]:
    """Decode a samples blob to an array of shape (len(series), count), nanoseconds.

    Raises:
        DamagedSamples: another encoding, or another number of values than ``samples`` says.
    """
    values = len(samples.series) * samples.count
    try:
        if samples.encoding != SAMPLES_ENCODING:
            raise ValueError(f"unknown encoding {samples.encoding!r}")
        raw = zstandard.ZstdDecompressor().decompress(data, max_output_size=8 * values)
        array = np.frombuffer(raw, dtype="<i8").astype(np.int64)
        return array.reshape(len(samples.series), samples.count)
    except (ValueError, zstandard.ZstdError) as error:
        raise DamagedSamples(f"samples {samples.sha256}: {error}") from None
