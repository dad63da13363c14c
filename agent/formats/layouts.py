"""NCHW and NHWC: how to transpose one to the other, and which of them a graph's tensors have.

A layout is followed, never guessed: from a tensor through operators that keep the order of axes, or
transpose it, to one that is defined on a known layout (a convolution, a pool). Each file format
gives the ``Step`` from a tensor to its neighbours; the walk over them is the same for all.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple

from agent.contract.trial import TensorSpec

Axes = Optional[Tuple[int, ...]]

ORDER: Dict[Tuple[str, str], Tuple[int, ...]] = {
    ("NCHW", "NHWC"): (0, 2, 3, 1),
    ("NHWC", "NCHW"): (0, 3, 1, 2),
}
"""(layout, wanted layout) → the axes to transpose by."""

_BEFORE = {(after, order): before for (before, after), order in ORDER.items()}
_AFTER = {(before, order): after for (before, after), order in ORDER.items()}

MOST_TENSORS = 300
"""Most tensors that are visited from one; inputs and outputs are near the operators that tell."""


def axes(of: TensorSpec, to: TensorSpec) -> Axes:
    """The transposition from ``of``'s layout to ``to``'s, by what both declare, never by shapes."""
    return ORDER.get((of.layout, to.layout)) if len(of.shape) == 4 else None


class Step(NamedTuple):
    """What one operator tells of a tensor: its ``layout``, or that it is the layout of a
    neighbouring ``tensor`` (hashable), which the operator transposes by ``order``, if that is set.
    """

    layout: str = ""
    tensor: Any = None
    order: Axes = None


Steps = Callable[[Any], Iterable[Step]]
"""From a tensor to what its operators tell: those that take it, or those that made it."""


def input_layout(tensor: Any, steps: Steps, most: int = MOST_TENSORS) -> str:
    """``NHWC``, ``NCHW``, or empty where it is unknown or operators contradict each other.

    ``steps`` lead with the direction of computation, from a tensor to the operators that take it.
    """
    return _follow(tensor, steps, _BEFORE, most)


def output_layout(tensor: Any, steps: Steps, most: int = MOST_TENSORS) -> str:
    """The same for ``steps`` that lead from a tensor to the operators that made it."""
    return _follow(tensor, steps, _AFTER, most)


def _follow(
    start: Any, steps: Steps, across: Dict[Tuple[str, Tuple[int, ...]], str], most: int
) -> str:
    """Depth first, each tensor once; a loop, because a recursion could exhaust Python's stack.

    ``known`` holds what was found, or empty while it is being sought, so that cycles end.
    """
    known: Dict[Any, str] = {start: ""}
    path: List[Tuple[Any, Iterator[Step], Set[str]]] = [(start, iter(steps(start)), set())]
    came_by: List[Step] = []
    while True:
        tensor, left, found = path[-1]
        step = next(left, None)
        if step is None:
            found.discard("")
            known[tensor] = found.pop() if len(found) == 1 else ""
            path.pop()
            if not path:
                return known[start]
            step = came_by.pop()
        elif step.tensor is not None and step.tensor not in known and len(known) <= most:
            known[step.tensor] = ""
            path.append((step.tensor, iter(steps(step.tensor)), set()))
            came_by.append(step)
            continue
        layout = step.layout if step.tensor is None else known.get(step.tensor, "")
        path[-1][2].add(layout if step.order is None else across.get((layout, step.order), ""))
