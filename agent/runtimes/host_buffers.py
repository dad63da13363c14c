"""The input arrays of a session, at fixed addresses."""

from __future__ import annotations

from typing import Any, Dict, Sequence

import numpy as np

from agent.contract.failures import UnsupportedShape
from agent.contract.trial import TensorSpec
from agent.runtimes.backend import Feed
from agent.runtimes.validation import require_shapes


class HostBuffers:
    """The input arrays that a session runs on.

    They are allocated at the first ``fill`` and overwritten by the next ones, so that addresses
    given to a runtime stay valid.
    """

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self.arrays: Dict[str, "np.ndarray[Any, Any]"] = {}

    def fill(self, feed: Feed) -> bool:
        """Copy ``feed`` in. True: the arrays are new, the runtime must be given their addresses.

        Raises:
            UnsupportedShape: a name, shape or element type that the session does not have.
        """
        given = [TensorSpec(name, str(a.dtype), a.shape) for name, a in feed.items()]
        require_shapes(given, list(self._specs.values()))
        for spec in given:
            if spec.dtype != self._specs[spec.name].dtype:
                raise UnsupportedShape(
                    "input %s is %s; the model takes %s"
                    % (spec.name, spec.dtype, self._specs[spec.name].dtype)
                )
        fresh = any(
            name not in self.arrays or self.arrays[name].shape != array.shape
            for name, array in feed.items()
        )
        for name, array in feed.items():
            if fresh:
                self.arrays[name] = np.array(array, order="C", copy=True)
            else:
                np.copyto(self.arrays[name], array)
        return fresh


def zero_feed(specs: Sequence[TensorSpec]) -> Dict[str, "np.ndarray[Any, Any]"]:
    """Zeros for every input, size 1 for free dimensions: for a first run, which shows the outputs
    of a runtime that does not declare them."""
    return {
        spec.name: np.zeros([1 if d == -1 else d for d in spec.shape], spec.dtype) for spec in specs
    }
