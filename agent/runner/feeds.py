"""Input data: seeded, from a reference or a data set, and joined to batches."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Dict, List, Mapping, Sequence

import numpy as np

from agent.contract import codec
from agent.contract.failures import BadData, BadOutput, listed
from agent.contract.input_values import GIVEN, InputValues
from agent.contract.trial import TensorSpec
from agent.runner import drawn_inputs
from agent.runtimes.backend import Array, Feeds


def seeded(
    specs: Sequence[TensorSpec],
    seed: int,
    feeds: int,
    values: Mapping[str, InputValues] = MappingProxyType({}),
) -> Feeds:
    """``feeds`` dictionaries of arrays in the specs' shapes; a seed always gives the same.

    ``values``: what inputs are drawn from; others get ``drawn_inputs.default``.
    """
    return [
        {
            spec.name: drawn_inputs.draw(
                spec, values.get(spec.name) or drawn_inputs.default(spec), [seed % 2**32, index, n]
            )
            for n, spec in enumerate(specs)
        }
        for index in range(feeds)
    ]


def redrawn(specs: Sequence[TensorSpec], seed: int, feeds: int, reference: Path) -> Feeds:
    """Like ``seeded``, as the inputs of a ``reference`` were drawn, with another seed.

    Whole numbers of an input whose values were given are not drawn: nobody said what they mean.
    They are those of the reference's inputs.
    """
    values = load_values(reference)
    known = load_reference(reference, "input")
    drawn = seeded(specs, seed, feeds, values)
    for spec in specs:
        if spec.name in values and values[spec.name].kind == GIVEN and spec.dtype[:5] != "float":
            for number, feed in enumerate(drawn):
                feed[spec.name] = known[number % len(known)][spec.name]
    return drawn


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


_VALUES = "values"


def save_reference(
    path: Path, feeds: Feeds, outputs: Feeds, values: Mapping[str, InputValues]
) -> None:
    """Write a reference ``.npz``.

    Arrays ``input:NAME`` and ``output:NAME`` have the shape (feeds, *tensor shape). Where a tensor
    has other sizes for other feeds, each feed has its own array instead, ``output.0:NAME`` and so
    on. ``values`` is the JSON of what the inputs were drawn from.
    """
    arrays: Dict[str, Array] = {}
    for kind, rows in (("input", feeds), ("output", outputs)):
        for name in rows[0]:
            column = [row[name] for row in rows]
            if len({a.shape for a in column}) == 1:
                arrays["%s:%s" % (kind, name)] = np.stack(column)
            else:
                arrays.update({"%s.%d:%s" % (kind, n, name): a for n, a in enumerate(column)})
    words = {name: codec.to_plain(value) for name, value in values.items()}
    arrays[_VALUES] = np.array(json.dumps(words))
    np.savez(str(path), **arrays)


def load_values(path: Path) -> Dict[str, InputValues]:
    """What the inputs of a reference were drawn from; empty for one of 0.1."""
    text = load_npz(path).get(_VALUES)
    if text is None:
        return {}
    found = json.loads(str(text))
    return {name: codec.from_plain(InputValues, plain) for name, plain in found.items()}


def load_reference(path: Path, kind: str) -> Feeds:
    """The feeds (``kind`` "input") or expected outputs ("output") of a reference ``.npz``.

    Raises:
        BadData: not such a file.
    """
    columns: Dict[str, List[Array]] = {}
    for key, array in load_npz(path).items():
        head, _, name = key.partition(":")
        if head == kind and array.ndim:
            columns[name] = list(array)
        elif head.startswith(kind + "."):
            columns.setdefault(name, []).append(array)
    counts = {len(column) for column in columns.values()}
    if len(counts) != 1 or 0 in counts:
        raise BadData("%s holds no %s tensors of one number of feeds" % (path.name, kind))
    return [{name: c[i] for name, c in columns.items()} for i in range(counts.pop())]


class NamedSamples:
    """Samples of a data set for several inputs: input → array (samples, *one sample's shape).

    Its length and slices are those of one array, so that it stands where an array of samples does.

    Raises:
        BadData: not as many samples of each.
    """

    def __init__(self, key: str, arrays: Mapping[str, Array]) -> None:
        self.arrays = dict(arrays)
        counts = {name: len(a) if a.ndim else 0 for name, a in arrays.items()}
        if len(set(counts.values())) != 1:
            words = listed("%s:%s has %d" % (key, name, n) for name, n in counts.items())
            raise BadData("an input has another number of samples than the others: %s" % words)
        self._length = next(iter(counts.values()))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice) -> "NamedSamples":
        return NamedSamples("", {name: array[part] for name, array in self.arrays.items()})


def load_npz(path: Path, wanted: Sequence[str] = ()) -> Mapping[str, Any]:
    """All arrays of an ``.npz``, or the wanted ones; it never unpickles.

    A wanted ``KEY`` that is not there, while ``KEY:INPUT`` is, is all of these as ``NamedSamples``.

    Raises:
        BadData: unreadable, an array missing, or objects inside.
    """
    try:
        with np.load(str(path), allow_pickle=False) as file:
            return {name: _member(file, name, path.name) for name in (wanted or file.files)}
    except BadData:
        raise
    except Exception as error:  # zipfile, zlib and NumPy each raise their own
        raise BadData("%s is not a readable .npz: %s" % (path.name, error)) from error


def _member(file: Any, name: str, of: str) -> Any:
    if name in file.files:
        return file[name]
    parts = [key for key in file.files if key.startswith(name + ":")]
    if not parts:
        raise BadData("%s has no array %r; it has %s" % (of, name, listed(file.files)))
    return NamedSamples(name, {key[len(name) + 1 :]: file[key] for key in parts})


def given_feeds(path: Path, specs: Sequence[TensorSpec]) -> Feeds:
    """The feeds of an ``.npz`` with one array an input, by its name; inputs may be missing.

    An array of one more axis than the input holds a feed in each row. One of as many axes holds
    feeds one after the other along axis 0; an array of a single feed counts for all feeds.

    Raises:
        BadData: an unknown name, another shape, or not as many feeds of each.
    """
    arrays = load_npz(path)
    by_name = {spec.name: spec for spec in specs}
    unknown = sorted(set(arrays) - set(by_name))
    if unknown or not arrays:
        raise BadData(
            "%r is no input of the model; it has %s"
            % (unknown[0] if unknown else "", listed(by_name))
        )
    columns = {name: _column(array, by_name[name]) for name, array in arrays.items()}
    counts = {name: len(column) for name, column in columns.items()}
    most = max(counts.values())
    for name, count in counts.items():
        if count not in (1, most):
            raise BadData("array %r holds %d feeds, others %d" % (name, count, most))
    return [{name: c[n % len(c)] for name, c in columns.items()} for n in range(most)]


def _column(array: Array, spec: TensorSpec) -> List[Array]:
    shape = tuple(spec.shape)
    if array.shape[1:] == shape and len(array):
        rows = list(array)
    elif array.shape == shape:
        rows = [array]
    elif array.ndim == len(shape) and shape and shape[0] and array.shape[1:] == shape[1:]:
        whole, left = divmod(len(array), shape[0])
        rows = np.split(array, whole) if whole and not left else []
    else:
        rows = []
    if not rows:
        raise BadData(
            "array %r has the shape %s; input %s takes %s, or one more axis in front for several"
            " feeds" % (spec.name, list(array.shape), spec.name, list(shape))
        )
    return [_as_wanted(row, spec) for row in rows]


def _as_wanted(array: Array, spec: TensorSpec) -> Array:
    """``array`` in the input's element type. Raises ``BadData`` where a value would change."""
    wanted = np.dtype(spec.dtype)
    if array.dtype == wanted:
        return array
    if array.dtype.kind in "biuf":
        with np.errstate(all="ignore"):
            made = array.astype(wanted)
        if wanted.kind == "f" or bool((made == array).all()):
            return made
    raise BadData(
        "input %s takes %s, and some of the %s values do not fit" % (spec.name, wanted, array.dtype)
    )


def sample_feeds(samples: Any, specs: Sequence[TensorSpec], name: str) -> Feeds:
    """Samples of a data set as feeds of the model's inputs: an array (n, *one sample's shape) for
    its only input, or ``NamedSamples``.

    An input whose axis 0 is b takes b samples at a time; the last feed is filled from the start.

    Raises:
        BadData: not the model's inputs, no samples, or samples of another shape.
    """
    if not isinstance(samples, NamedSamples):
        if len(specs) != 1:
            raise BadData(
                "the data set's %r feeds one input; the model has %d: name them, %s"
                % (name, len(specs), listed("%s:%s" % (name, s.name) for s in specs))
            )
        samples = NamedSamples(name, {specs[0].name: samples})
    if set(samples.arrays) != {spec.name for spec in specs}:
        raise BadData(
            "the data set has %s for %s; the model's inputs are %s"
            % (name, listed(samples.arrays), listed(s.name for s in specs))
        )
    if not len(samples):
        raise BadData("%s is empty" % name)
    columns = [_sample_rows(samples.arrays[spec.name], spec, name) for spec in specs]
    counts = {spec.name: len(c) for spec, c in zip(specs, columns)}  # noqa: B905 - newer than 3.8
    if len(set(counts.values())) != 1:
        words = listed("%s %d" % pair for pair in counts.items())
        raise BadData("%s: the inputs take other numbers of samples at a time: %s" % (name, words))
    return [
        {spec.name: column[n] for spec, column in zip(specs, columns)}  # noqa: B905
        for n in range(len(columns[0]))
    ]


def _sample_rows(samples: Array, spec: TensorSpec, name: str) -> List[Array]:
    if not spec.shape or samples.shape[1:] != spec.shape[1:]:
        raise BadData(
            "%s: one sample is %s; input %s takes %s"
            % (name, list(samples.shape[1:]), spec.name, list(spec.shape[1:]))
        )
    size = spec.shape[0]
    rows = (np.arange(start, start + size) % len(samples) for start in range(0, len(samples), size))
    return [samples[r].astype(spec.dtype, copy=False) for r in rows]
