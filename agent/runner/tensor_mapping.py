"""Maps a registered model's tensors to those of an artifact with other names, axes or order.

Reference and data set have the model's names and axes; a file of another framework, or converted
from one, has its own. All mapping happens outside of the timed region.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from agent.contract.failures import UnsupportedShape, listed
from agent.contract.trial import TensorSpec
from agent.formats.layouts import Axes, axes


class TensorMapping:
    """A mapping in both directions.

    Args:
        inputs, outputs: the model's.
        own_inputs, own_outputs: the artifact's in the model's order; empty: the same.

    Raises:
        UnsupportedShape: their number differs.
    """

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        own_inputs: Sequence[TensorSpec] = (),
        own_outputs: Sequence[TensorSpec] = (),
    ) -> None:
        for kind, model, own in (
            ("inputs", inputs, own_inputs),
            ("outputs", outputs, own_outputs),
        ):
            if own and len(own) != len(model):
                raise UnsupportedShape(
                    "the artifact's %s are %s; the model's are %s"
                    % (kind, listed(s.name for s in own), listed(s.name for s in model))
                )
        self._ins = {m.name: (o, axes(m, o)) for m, o in zip(inputs, own_inputs)}  # noqa: B905
        self._outs = {o.name: (m, axes(o, m)) for m, o in zip(outputs, own_outputs)}  # noqa: B905

    def specs(self, wanted: Sequence[TensorSpec]) -> List[TensorSpec]:
        """The ``wanted`` inputs with the artifact's names and layouts."""
        return [self._spec(spec) for spec in wanted]

    def _spec(self, spec: TensorSpec) -> TensorSpec:
        if spec.name not in self._ins:
            return spec
        own, order = self._ins[spec.name]
        shape = tuple(spec.shape[a] for a in order) if order else spec.shape
        return replace(spec, name=own.name, layout=own.layout, shape=shape)

    def feed(self, feed: Mapping[str, Any]) -> Dict[str, Any]:
        """The model's feed with the artifact's names and axes."""
        return dict(_moved(name, array, self._ins) for name, array in feed.items())

    def outputs(self, values: Mapping[str, Any]) -> Dict[str, Any]:
        """The artifact's outputs with the model's names, axes and order; unchanged where its names
        are not the announced ones."""
        if set(values) != set(self._outs):
            return dict(values)
        return dict(_moved(name, values[name], self._outs) for name in self._outs)


def _moved(name: str, array: Any, to: Mapping[str, Tuple[TensorSpec, Axes]]) -> Tuple[str, Any]:
    if name not in to:
        return name, array
    spec, order = to[name]
    return spec.name, np.ascontiguousarray(array.transpose(order)) if order else array
