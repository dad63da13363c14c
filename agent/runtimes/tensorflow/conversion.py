"""What the converters of TensorFlow's formats share: shapes, signatures, and what errors mean."""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Dict, List, Optional, Sequence, Tuple

import numpy as np

from agent.contract.child_jobs import ConvertJob
from agent.contract.failures import (
    BadData,
    ConversionFailed,
    RunnerError,
    UnsupportedOperator,
    listed,
)
from agent.contract.trial import TensorSpec
from agent.runtimes.backend import Feeds, Options
from agent.runtimes.tensorflow.graph_def import GraphLayouts
from agent.runtimes.tensorflow.models import (
    Shaper,
    identifiers,
    open_model,
    read_savedmodel,
    shortened,
    signature_key,
)
from agent.runtimes.validation import fits

_OPERATORS = re.compile(r"(?:TF Select|Custom) ops: ([\w, ]+)")
_NO_RULE = re.compile(r"[Nn]o (?:conversion|translator)[^:]*: ?(\w+)")


class ModelPorts:
    """The inputs and outputs that a job says its source has, to convert for and to order by;
    without a job the source's own."""

    def __init__(self, job: Optional[ConvertJob] = None) -> None:
        self.inputs: Sequence[TensorSpec] = ()
        self.outputs: Sequence[TensorSpec] = ()
        if job is not None:
            self.inputs = job.model.own_inputs or job.model.inputs
            self.outputs = job.model.own_outputs or job.model.outputs

    def fixed(self, own: Sequence[TensorSpec]) -> List[TensorSpec]:
        """``own`` with every free dimension given the size that the job has for it."""
        return [
            replace(spec, shape=wanted.shape) if fits(wanted.shape, spec.shape) else spec
            for spec, wanted in zip(own, matched(own, self.inputs))  # noqa: B905 - newer than 3.8
        ]


class Ported:
    """What the converters of TensorFlow's family share: nothing but modules is needed, any machine
    will do, and what is made is for the job's ports."""

    needs_calibration = False
    commands: ClassVar[Tuple[str, ...]] = ()
    where: ClassVar[Tuple[str, ...]] = ("device", "builder")
    options: ClassVar[Options] = {}

    def __init__(self) -> None:
        self._ports = ModelPorts()

    def configure(self, job: ConvertJob) -> None:
        self._ports = ModelPorts(job)


def matched(own: Sequence[TensorSpec], wanted: Sequence[TensorSpec]) -> List[TensorSpec]:
    """For each of ``own`` the wanted one: by name, else in order; itself where numbers differ."""
    by_name = {spec.name: spec for spec in wanted}
    if set(by_name) == {spec.name for spec in own}:
        return [by_name[spec.name] for spec in own]
    return list(wanted if len(wanted) == len(own) else own)


def ordered(specs: Sequence[TensorSpec], order: Sequence[TensorSpec]) -> Tuple[TensorSpec, ...]:
    """``specs`` in the order of the names of ``order``; unchanged where these are others."""
    by_name = {spec.name: spec for spec in specs}
    if set(by_name) != {spec.name for spec in order}:
        return tuple(specs)
    return tuple(by_name[spec.name] for spec in order)


def feeds_for(own: Sequence[TensorSpec], ports: ModelPorts, feeds: Feeds) -> List[Dict[str, Any]]:
    """Calibration feeds under the file's own names, of its types: matched by name, else in the
    order that the job has the file's inputs in.

    Raises:
        BadData: other shapes than the file takes.
    """
    in_order = ordered(own, ports.inputs)
    found = []
    for feed in feeds:
        given = [TensorSpec(name, str(a.dtype), a.shape) for name, a in feed.items()]
        pairs = list(zip(in_order, matched(in_order, given)))  # noqa: B905
        wrong = [s for s, g in pairs if g.name not in feed or not fits(g.shape, s.shape)]
        if wrong:
            raise BadData(
                "calibration has %s; the file takes %s of %s"
                % (
                    listed("%s %s" % (g.name, list(g.shape)) for g in given),
                    wrong[0].name,
                    list(wrong[0].shape),
                )
            )
        found.append({s.name: np.asarray(feed[g.name], s.dtype) for s, g in pairs})
    return found


def signature_specs(folder: Path) -> Tuple[Tuple[TensorSpec, ...], Tuple[TensorSpec, ...]]:
    """Inputs and outputs of a SavedModel's signature, each sorted by name as TensorFlow does."""
    import tensorflow as tf

    meta = read_savedmodel(folder)
    signature = meta.signature_def[signature_key(list(meta.signature_def), folder.name)]
    layouts = GraphLayouts(meta.graph_def)

    def spec(name: str, info: Any, layout: str) -> TensorSpec:
        shape = tuple(int(dim.size) for dim in info.tensor_shape.dim)
        return TensorSpec(name, tf.dtypes.as_dtype(info.dtype).name, shape, layout)

    return (
        tuple(
            spec(name, info, layouts.of_input(info.name))
            for name, info in sorted(signature.inputs.items())
        ),
        tuple(
            spec(name, info, layouts.of_output(info.name))
            for name, info in sorted(signature.outputs.items())
        ),
    )


def fixed_savedmodel(source: Path, shaped: Shaper) -> Path:
    """A SavedModel of the shapes that ``shaped`` gives: ``source`` itself where it has them."""
    import tensorflow as tf

    own, _ = signature_specs(source)
    if [spec.shape for spec in shaped(own)] == [spec.shape for spec in own]:
        return source
    opened = open_model(source, shaped)
    folder = Path(tempfile.mkdtemp(prefix="fixed-")) / "savedmodel"
    loaded = opened.keep[1]
    names = [spec.name for spec in opened.outputs]
    signed = tf.function(
        lambda *tensors: dict(zip(names, opened.function(*tensors)))  # noqa: B905
    ).get_concrete_function(
        *[
            tf.TensorSpec(spec.shape, spec.dtype, name)
            for name, spec in zip(identifiers(opened.inputs), opened.inputs)  # noqa: B905
        ]
    )
    tf.saved_model.save(loaded, str(folder), signatures=signed)
    return folder


def failure(name: str, error: Exception) -> Exception:
    """What a converter's ``error`` means: itself where it has a name, else by its message."""
    if isinstance(error, (RunnerError, MemoryError)):
        return error
    message = str(error)
    match = _OPERATORS.search(message) or _NO_RULE.search(message)
    if match:
        operators = [word.strip() for word in match.group(1).split(",")]
        return UnsupportedOperator(name, listed(dict.fromkeys(operators)))
    return ConversionFailed("%s: %s" % (name, shortened(message)))
