"""How each input's values come about: as somebody declared, as the graph tells, or anyhow."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence

import numpy as np

from agent.contract.failures import BadData, listed
from agent.contract.input_values import FIXED, NORMAL, REAL, WHOLE, InputValues, plain
from agent.contract.trial import TensorSpec
from agent.runtimes.backend import Array

SMALL = 8
"""Integers of which nothing is known are drawn from [0, SMALL): valid indices of most tables."""

Values = Mapping[str, InputValues]


def of_inputs(
    specs: Sequence[TensorSpec], declared: Values, found: Values
) -> Dict[str, InputValues]:
    """For each input what its values are drawn from: what is ``declared``, else ``found`` in the
    graph, else what its element type allows.

    Raises:
        BadData: a declaration names no input, or does not fit one.
    """
    names = [spec.name for spec in specs]
    for name in declared:
        if name not in names:
            raise BadData(
                "--input %s: the model has no such input; it has %s" % (name, listed(names))
            )
    for spec in specs:
        if spec.name in declared:
            _require_fit(spec, declared[spec.name])
    return {s.name: declared.get(s.name) or found.get(s.name) or default(s) for s in specs}


def default(spec: TensorSpec) -> InputValues:
    """Floats are standard normal, so that activations stay well scaled: denormals make inference
    21× slower. ``uint8`` spans 0…255 like pixels; other integers are below ``SMALL``."""
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return InputValues(NORMAL)
    if dtype.kind == "b":
        return InputValues(WHOLE, 0, 1, why="booleans")
    if dtype == np.uint8:
        return InputValues(WHOLE, 0, 255, why="as pixels are")
    return InputValues(WHOLE, 0, SMALL - 1, why="nothing says what they mean")


def draw(spec: TensorSpec, values: InputValues, seed: List[int]) -> Array:
    """One array of the input. Raises ``BadData``: a free dimension."""
    if -1 in spec.shape:
        raise BadData("input %s has a free dimension; give it a shape" % spec.name)
    dtype = np.dtype(spec.dtype)
    if values.kind == FIXED:
        numbers = np.asarray(values.fixed, np.float64)
        if numbers.size == 1:
            return np.full(spec.shape, numbers.reshape(())).astype(dtype)
        return numbers.reshape(spec.shape).astype(dtype)
    # RandomState instead of Generator: NumPy guarantees that its stream never changes.
    random = np.random.RandomState(seed)
    if values.kind == WHOLE:
        low, high = _bounds(values, dtype)
        if high - low >= 2**31 - 1:
            return random.randint(low, high, spec.shape, dtype=np.int64).astype(dtype)
        return random.randint(low, high + 1, spec.shape).astype(dtype)
    if values.kind == REAL:
        return random.uniform(values.low, values.high, spec.shape).astype(dtype)
    return random.standard_normal(spec.shape).astype(dtype)


def _bounds(values: InputValues, dtype: Any) -> List[int]:
    """The bounds, inside what the element type holds."""
    kind = np.dtype(dtype).kind
    limits = (0, 1) if kind == "b" else (-(2**24), 2**24)  # whole numbers that a float32 holds
    if kind in "iu":
        found = np.iinfo(dtype)
        limits = (int(found.min), min(int(found.max), 2**63 - 1))
    low, high = (min(max(int(v), limits[0]), limits[1]) for v in (values.low, values.high))
    return [low, max(low, high)]


def _require_fit(spec: TensorSpec, values: InputValues) -> None:
    """Raises ``BadData`` where a declaration cannot be drawn for the input."""
    dtype = np.dtype(spec.dtype)
    numbers = list(values.fixed) if values.kind == FIXED else [values.low, values.high]
    if dtype.kind in "iub":
        bounds = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        for number in numbers:
            if not float(number).is_integer() or not bounds[0] <= number <= bounds[1]:
                raise BadData(
                    "--input %s: %s is no value of %s, which takes whole numbers %d…%d"
                    % (spec.name, plain(number), spec.dtype, bounds[0], bounds[1])
                )
    size = int(np.prod(spec.shape, dtype=np.int64))
    if values.kind == FIXED and len(values.fixed) not in (1, size):
        raise BadData(
            "--input %s: %d values for an input of shape %s; give 1 or %d"
            % (spec.name, len(values.fixed), list(spec.shape), size)
        )
