"""The input arrays of a session."""

from __future__ import annotations

from typing import (
    Any,
    Dict,
    Sequence,
)

import numpy as np

from agent.contract.failures import UnsupportedShape
from agent.contract.trial import TensorSpec
from agent.runtimes.backend import Feed
from agent.runtimes.validation import require_shapes


class HostBuffers:
    """The input arrays that a session runs on: made at the first bind, overwritten by the next,
    so that addresses given to a runtime stay good."""

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self.arrays: Dict[str, "np.ndarray[Any, Any]"] = {}

    def fill(self, feed: Feed) -> bool:
        """Copy ``feed`` in. True where the arrays are new, so must be given to the runtime.

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
