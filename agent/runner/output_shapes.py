"""Says how an output's shape differs from the reference's."""

from __future__ import annotations

from typing import Sequence


def difference(name: str, actual: Sequence[int], expected: Sequence[int]) -> str:
    """For people: ``output y: 7 rows, the reference 8``. Both are of other shapes."""
    pairs = zip(actual, expected)  # noqa: B905 - strict= is newer than 3.8
    axes = [axis for axis, (ours, theirs) in enumerate(pairs) if ours != theirs]
    if len(actual) != len(expected) or len(axes) != 1:
        return "output %s is %s; the reference is %s" % (name, list(actual), list(expected))
    [axis] = axes
    if axis == 0:
        return "output %s: %d rows, the reference %d" % (name, actual[0], expected[0])
    return "output %s: %d along axis %d, the reference %d (%s, %s)" % (
        name,
        actual[axis],
        axis,
        expected[axis],
        list(actual),
        list(expected),
    )
