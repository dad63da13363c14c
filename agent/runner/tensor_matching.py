"""Matches a file's inputs and outputs with those of the model that it joins. Pure functions."""

from __future__ import annotations

from dataclasses import replace
from typing import List, Mapping, Optional, Sequence

from agent.contract.failures import BadShape, OtherNetwork, listed
from agent.contract.trial import TensorSpec
from agent.formats.layouts import axes
from agent.runtimes.validation import fits, shown


def fixed(own: Sequence[TensorSpec], shapes: Mapping[str, Sequence[int]]) -> List[TensorSpec]:
    """The file's inputs, with every free dimension set by ``shapes`` (input → shape).

    Raises:
        BadShape: a free dimension is not set, or a given shape does not match.
    """
    known = [spec.name for spec in own]
    unknown = sorted(set(shapes) - set(known))
    if unknown:
        raise BadShape("no input %r; it has %s" % (unknown[0], listed(known)))
    return [_fixed(spec, shapes.get(spec.name)) for spec in own]


def _fixed(spec: TensorSpec, given: Optional[Sequence[int]]) -> TensorSpec:
    if given is None:
        if -1 not in spec.shape:
            return spec
        example = ",".join("1" if d == -1 else str(d) for d in spec.shape)
        raise BadShape(
            "input %r has the free shape %s; give every dimension a size: --shape %s=%s"
            % (spec.name, _words(spec.shape), spec.name, example)
        )
    shape = tuple(given)
    argument = "--shape %s=%s" % (spec.name, ",".join(str(d) for d in shape))
    if not shape or any(d < 1 for d in shape):
        raise BadShape("%s: every dimension must be 1 or more" % argument)
    if not fits(shape, spec.shape):
        raise BadShape("%s: the file declares %s there" % (argument, _words(spec.shape)))
    return replace(spec, shape=shape)


def _words(shape: Sequence[int]) -> str:
    return "[%s]" % ", ".join("?" if d == -1 else str(d) for d in shape)


def paired(kind: str, model: Sequence[TensorSpec], own: Sequence[TensorSpec]) -> List[TensorSpec]:
    """The file's tensors of ``kind`` ("input", "output") in the model's order, with the model's
    sizes and element types: matched by name where the names are the same, else in order.

    Axes are only transposed where both layouts are known.

    Raises:
        OtherNetwork: their number differs, or the shapes do not match.
    """
    if len(model) != len(own):
        raise OtherNetwork(
            "it has the %ss %s; the model has %s"
            % (kind, listed(s.name for s in own), listed(s.name for s in model))
        )
    by_name = {spec.name: spec for spec in own}
    if set(by_name) == {spec.name for spec in model}:
        own = [by_name[spec.name] for spec in model]
    return [_paired(kind, m, o) for m, o in zip(model, own)]  # noqa: B905 - newer than 3.8


def _paired(kind: str, model: TensorSpec, own: TensorSpec) -> TensorSpec:
    order = axes(model, own)
    shape = tuple(model.shape[a] for a in order) if order else model.shape
    if fits(shape, own.shape):
        return replace(own, shape=shape, dtype=model.dtype)
    words = "%s %s is %s (layout %s); the model's %s is %s (layout %s)" % (
        kind,
        own.name,
        shown(own.shape),
        own.layout or "unknown",
        model.name,
        shown(model.shape),
        model.layout or "unknown",
    )
    if len(shape) == 4 and not (model.layout and own.layout):
        turned = [tuple(model.shape[a] for a in o) for o in ((0, 2, 3, 1), (0, 3, 1, 2))]
        if any(fits(t, own.shape) for t in turned):
            words += (
                ": one may be the other transposed, but that is not guessed; it is done where both"
                " layouts follow from what the tensors lead to (a convolution, a pool)"
            )
    raise OtherNetwork(words)
