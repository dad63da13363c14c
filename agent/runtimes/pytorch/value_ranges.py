"""Which values the inputs of an exported program can take: the users of each node, for
``agent.formats.value_ranges``."""

from __future__ import annotations

from typing import Any, Dict, Iterator, Sequence, Tuple, Union

from agent.contract.input_values import InputValues
from agent.contract.trial import TensorSpec
from agent.formats.value_ranges import MASKED, Passed, Wanted, input_values

_SAME = frozenset(
    [
        "_to_copy", "abs", "alias", "broadcast_to", "ceil", "clone", "contiguous", "detach",
        "detach_", "expand", "expand_as", "flatten", "flip", "floor", "gather", "index",
        "index_select", "lift_fresh_copy", "max_pool2d", "narrow", "pad", "permute", "repeat",
        "reshape", "round", "select", "slice", "squeeze", "t", "to", "transpose", "tril", "triu",
        "type_as", "unflatten", "unsqueeze", "view", "view_as",
    ]
)  # fmt: skip
"""Operators (without overload) whose output holds values of their first argument."""
_ANY = frozenset(["cat", "stack", "where", "maximum", "minimum"])
_COMPARED = frozenset(["eq", "ne", "gt", "ge", "lt", "le"])


def of_program(program: Any, inputs: Sequence[TensorSpec]) -> Dict[str, InputValues]:
    """What operators say about the ``inputs``, which are in the program's order; inputs of which
    none says anything are left out."""
    nodes = {n.name: n for n in program.graph_module.graph.nodes if n.op == "placeholder"}
    own = [name for name in program.graph_signature.user_inputs if isinstance(name, str)]
    found = {}
    for name, spec in zip(own, inputs):  # noqa: B905 - strict= is newer than 3.8
        known = input_values(spec, nodes[name], _uses)
        if known is not None:
            found[spec.name] = known
    return found


def _uses(node: Any) -> Iterator[Union[Passed, Wanted]]:
    for user in node.users:
        if user.op == "call_function":
            yield from _use(node, user, *_named(user.target))


def _named(target: Any) -> Tuple[str, str]:
    """``aten.add.Tensor`` as ("add", "Tensor")."""
    parts = str(target).split(".")
    return (parts[1], parts[2] if len(parts) > 2 else "") if len(parts) > 1 else (parts[0], "")


def _use(node: Any, user: Any, name: str, overload: str) -> Iterator[Union[Passed, Wanted]]:
    arguments = user.args
    if name in ("embedding", "embedding_bag", "_embedding_bag"):
        if len(arguments) > 1 and arguments[1] is node:
            yield from _rows(arguments[0], 0, name)
    elif name == "index" and overload == "Tensor" and arguments[0] is not node:
        for axis, index in enumerate(arguments[1]):
            if index is node and "bool" not in str(node.meta["val"].dtype):
                yield from _rows(arguments[0], axis, "indexing")
    elif name in ("gather", "index_select", "scatter") and arguments[2] is node:
        yield from _rows(arguments[0], arguments[1], name)
    elif name == "take" and arguments[1] is node:
        count = 1
        for size in _shape(arguments[0]):
            count *= size
        if count > 0:
            yield Wanted(0, count - 1, "places in %r, which it takes from" % str(arguments[0]))
    elif name == "one_hot" and len(arguments) > 1 and isinstance(arguments[1], int):
        if arguments[1] > 0:
            yield Wanted(0, arguments[1] - 1, "classes of one_hot, %d" % arguments[1])
    elif name in _COMPARED and isinstance(arguments[1], (int, float)):
        high = max(1.0, float(arguments[1]) + (0 if name in ("eq", "ne") else 1))
        yield Wanted(0, high, "compared with %g" % arguments[1], weak=True)
    elif name in ("to", "_to_copy") and "bool" in str(user.meta["val"].dtype):
        yield Wanted(0, 1, "made a boolean", weak=True)
    elif (name in _SAME and arguments[0] is node) or name in _ANY:
        yield Passed(user)
    elif name in ("add", "sub", "rsub", "mul"):
        yield from _changed(node, user, name, arguments)


def _changed(
    node: Any, user: Any, name: str, arguments: Sequence[Any]
) -> Iterator[Union[Passed, Wanted]]:
    left = arguments[0] is node
    other = arguments[1] if left else arguments[0]
    if not isinstance(other, (int, float)) or isinstance(other, bool):
        if name == "add":  # two computed parts of one index: half of the range is always valid
            yield Passed(user, 2.0)
    elif name == "mul":
        if abs(other) >= MASKED:
            yield Wanted(0, 1, "a mask: multiplied by %g" % other, weak=other > 0)
        elif other:
            yield Passed(user, float(other))
    elif name == "add":
        yield Passed(user, 1.0, (float(other), float(other)))
    elif (name == "sub") == left:  # the tensor minus the number
        yield Passed(user, 1.0, (-float(other), -float(other)))
    else:
        yield Passed(user, -1.0, (float(other), float(other)))


def _rows(table: Any, axis: int, reader: str) -> Iterator[Wanted]:
    shape = _shape(table)
    if -len(shape) <= axis < len(shape) and shape[axis] > 0:
        name = str(table)
        for prefix in ("p_", "b_", "c_"):  # of parameters, buffers and constants
            if name.startswith(prefix):
                name = name[len(prefix) :]
        yield Wanted(0, shape[axis] - 1, "rows of %r, which %s reads" % (name, reader))


def _shape(node: Any) -> Tuple[int, ...]:
    value = node.meta.get("val") if hasattr(node, "meta") else None
    shape = getattr(value, "shape", ())
    return tuple(d if isinstance(d, int) else -1 for d in shape)
