"""Which values an input can take, followed through a graph from the input to what reads it.

A whole number in a network has a meaning: the row of a table, a shape, a length. It is followed
through operators that hand values on (a cast, a reshape), or change them by a known scale and
offset, to operators that only accept some values. Each file format gives the ``Passed`` and
``Wanted`` of a tensor's users; the walk over them is the same for all.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Iterable, List, NamedTuple, Optional, Tuple, Union

from agent.contract.input_values import FIXED, WHOLE, InputValues
from agent.contract.trial import TensorSpec

MOST_TENSORS = 3000
"""Most tensors that are visited from one input."""


MASKED = 1000.0
"""What is multiplied by less than -1000, as before a softmax, is a mask: 0 or 1."""


class Passed(NamedTuple):
    """An operator makes ``tensor`` (hashable) of the values: each is ``scale`` times the value plus
    something between the two of ``offset``."""

    tensor: Any
    scale: float = 1.0
    offset: Tuple[float, float] = (0.0, 0.0)


class Wanted(NamedTuple):
    """An operator wants values from ``low`` to ``high``, both included, or exactly ``fixed``.

    ``weak``: other values are accepted too, but say less (a comparison that always comes out the
    same); counts only for whole numbers of which nothing else is known.
    """

    low: float = 0.0
    high: float = math.inf
    why: str = ""
    fixed: Tuple[float, ...] = ()
    weak: bool = False


Uses = Callable[[Any], Iterable[Union[Passed, Wanted]]]
"""From a tensor to what the operators that take it do with its values."""


def input_values(
    spec: TensorSpec, tensor: Any, uses: Uses, most: int = MOST_TENSORS
) -> Optional[InputValues]:
    """What the values of the input ``spec``, which is ``tensor`` of the graph, must be. ``None``:
    no operator tells."""
    known: List[Wanted] = []
    seen = {tensor}
    todo: List[Passed] = [Passed(tensor)]
    while todo and len(seen) <= most:
        at = todo.pop()
        for use in uses(at.tensor):
            if isinstance(use, Wanted):
                known.append(_backwards(use, at))
            elif use.tensor not in seen and use.scale:
                seen.add(use.tensor)
                todo.append(_through(at, use))
    return _one(spec, known)


def _through(at: Passed, use: Passed) -> Passed:
    low, high = sorted(use.scale * o for o in at.offset)
    return Passed(use.tensor, at.scale * use.scale, (low + use.offset[0], high + use.offset[1]))


def _backwards(wanted: Wanted, at: Passed) -> Wanted:
    """What is wanted of the tensor ``at``, as what is wanted of the input."""
    if wanted.fixed:
        return wanted._replace(fixed=tuple((v - at.offset[0]) / at.scale for v in wanted.fixed))
    ends = ((wanted.low - at.offset[0]) / at.scale, (wanted.high - at.offset[1]) / at.scale)
    low, high = ends if at.scale > 0 else ends[::-1]
    return wanted._replace(low=math.ceil(low) if math.isfinite(low) else low, high=_floor(high))


def _floor(value: float) -> float:
    return math.floor(value) if math.isfinite(value) else value


def _one(spec: TensorSpec, known: List[Wanted]) -> Optional[InputValues]:
    """All that is known, as one: an exact value wins, bounds are intersected."""
    size = 1
    for dimension in spec.shape:
        size *= dimension
    exact = [w for w in known if w.fixed and len(w.fixed) in (1, size)]
    if exact:
        return InputValues(FIXED, fixed=exact[0].fixed, why=exact[0].why)
    bounds = [w for w in known if not w.fixed and w.low <= w.high]
    whole = not spec.dtype.startswith(("float", "bfloat"))
    bounds = [w for w in bounds if not w.weak] or (bounds[:1] if whole else [])
    if whole and "mask" in spec.name.lower() and not any(w.high <= 1 for w in bounds):
        bounds.append(Wanted(0, 1, "a mask, by its name"))
    low = max((max(w.low, 0.0) for w in bounds), default=0.0)
    tightest = min(bounds, key=lambda w: w.high, default=None)
    if tightest is None or not math.isfinite(tightest.high):
        return None
    if low > tightest.high:  # only negative numbers fit, or two uses contradict each other
        low = min(tightest.low, tightest.high)
    return InputValues(WHOLE, low, tightest.high, why=tightest.why)
