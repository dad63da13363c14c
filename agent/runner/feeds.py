"""Input data: seeded, from a reference or a data set, and joined to batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import List, Mapping, Sequence

import numpy as np

from agent.contract.failures import BadData, BadOutput, listed
from agent.contract.trial import TensorSpec
from agent.runtimes.backend import Array, Feeds

SMALL = 8
"""Integers are drawn from [0, SMALL): they are valid indices of nearly every table."""


def seeded(specs: Sequence[TensorSpec], seed: int, feeds: int) -> Feeds:
    """``feeds`` dictionaries of arrays in the specs' shapes; a seed always gives the same.

    Floats are standard normal, so that activations stay well scaled: denormals make inference 21×
    slower. ``uint8`` spans 0…255 like pixels; other integers are below ``SMALL``.
    """
    return [
        {spec.name: _draw(spec, [seed % 2**32, index, n]) for n, spec in enumerate(specs)}
        for index in range(feeds)
    ]


def _draw(spec: TensorSpec, seed: List[int]) -> Array:
    if -1 in spec.shape:
        raise BadData("input %s has a free dimension; give it a shape" % spec.name)
    # RandomState instead of Generator: NumPy guarantees that its stream never changes.
    random = np.random.RandomState(seed)
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return random.standard_normal(spec.shape).astype(dtype)
    if dtype.kind == "b":
        return random.randint(0, 2, spec.shape).astype(dtype)
    return random.randint(0, 256 if dtype == np.uint8 else SMALL, spec.shape).astype(dtype)


def batched_specs(specs: Sequence[TensorSpec], batch_size: int) -> List[TensorSpec]:
    """The specs with ``batch_size`` inputs joined along axis 0. Raises ``BadData``: a scalar."""
    if batch_size == 1:
        return list(specs)
    for spec in specs:
        if not spec.shape:
            raise BadData("input %s is a scalar: it has no axis to batch along" % spec.name)
    return [replace(s, shape=(s.shape[0] * batch_size, *s.shape[1:])) for s in specs]


def batches(feeds: Feeds, batch_size: int) -> Feeds:
    """Batches of ``batch_size`` feeds joined along axis 0, the last one filled from the start."""
    if batch_size == 1:
        return feeds
    count = len(feeds)
    groups = [
        [feeds[(start + k) % count] for k in range(batch_size)]
        for start in range(0, count, batch_size)
    ]
    return [
        {name: np.concatenate([f[name] for f in group]) for name in group[0]} for group in groups
    ]


def unbatched(outputs: Feeds, batch_size: int, feeds: int) -> Feeds:
    """The outputs of ``batches``, split into one dictionary for each of the ``feeds``, in order.

    Raises:
        BadOutput: an output cannot be split into ``batch_size`` parts along axis 0.
    """
    if batch_size == 1:
        return outputs
    parts: Feeds = []
    for output in outputs:
        for name, array in output.items():
            if not array.ndim or array.shape[0] % batch_size:
                raise BadOutput(
                    "output %s is %s: it does not split into a batch of %d"
                    % (name, list(array.shape), batch_size)
                )
        split = {name: np.split(array, batch_size) for name, array in output.items()}
        parts += [{name: pieces[k] for name, pieces in split.items()} for k in range(batch_size)]
    return parts[:feeds]


def load_reference(path: Path, kind: str) -> Feeds:
    """The feeds (``kind`` "input") or expected outputs ("output") of a reference ``.npz``.

    Raises:
        BadData: not such a file.
    """
    arrays = load_npz(path)
    prefix = kind + ":"
    stacked = {key[len(prefix) :]: a for key, a in arrays.items() if key.startswith(prefix)}
    counts = {len(a) for a in stacked.values() if a.ndim}
    if len(counts) != 1 or 0 in counts:
        raise BadData("%s holds no %s tensors of one number of feeds" % (path.name, kind))
    return [{name: a[i] for name, a in stacked.items()} for i in range(counts.pop())]


def load_npz(path: Path, wanted: Sequence[str] = ()) -> Mapping[str, Array]:
    """All arrays of an ``.npz``, or the wanted ones; it never unpickles.

    Raises:
        BadData: unreadable, an array missing, or objects inside.
    """
    try:
        with np.load(str(path), allow_pickle=False) as file:
            missing = [name for name in wanted if name not in file.files]
            if missing:
                raise BadData(
                    "%s has no array %r; it has %s" % (path.name, missing[0], listed(file.files))
                )
            return {name: file[name] for name in (wanted or file.files)}
    except BadData:
        raise
    except Exception as error:  # zipfile, zlib and NumPy each raise their own
        raise BadData("%s is not a readable .npz: %s" % (path.name, error)) from error


def sample_feeds(samples: Array, specs: Sequence[TensorSpec], name: str) -> Feeds:
    """Samples of a data set, shape (n, *one sample's shape), as feeds of the model's only input.

    An input whose axis 0 is b takes b samples at a time; the last feed is filled from the start.

    Raises:
        BadData: several inputs, no samples, or samples of another shape.
    """
    if len(specs) != 1:
        raise BadData("a data set feeds one input; the model has %d" % len(specs))
    spec = specs[0]
    if not len(samples):
        raise BadData("%s is empty" % name)
    if not spec.shape or samples.shape[1:] != spec.shape[1:]:
        raise BadData(
            "%s: one sample is %s; input %s takes %s"
            % (name, list(samples.shape[1:]), spec.name, list(spec.shape[1:]))
        )
    size = spec.shape[0]
    rows = (np.arange(start, start + size) % len(samples) for start in range(0, len(samples), size))
    return [{spec.name: samples[r].astype(spec.dtype, copy=False)} for r in rows]
