"""Common code of the converters of TensorFlow's formats: shapes, signatures, named errors."""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

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
from agent.runtimes.backend import Feeds
from agent.runtimes.converter import ConverterBase
from agent.runtimes.tensorflow.graph_def import GraphLayouts
from agent.runtimes.tensorflow.models import (
    Shaper,
    open_model,
    read_savedmodel,
    shortened,
    signature_key,
    signature_of,
)
from agent.runtimes.validation import fits

_OPERATORS = re.compile(r"(?:TF Select|Custom) ops: ([\w, ]+)")
_NO_RULE = re.compile(r"[Nn]o (?:conversion|translator)[^:]*: ?(\w+)")


class ModelPorts:
    """The source's inputs and outputs as the job has them: their order, and fixed shapes. Without a
    job they are empty, and the source's own apply."""

    def __init__(self, job: Optional[ConvertJob] = None) -> None:
        self.inputs: Sequence[TensorSpec] = ()
        self.outputs: Sequence[TensorSpec] = ()
        if job is not None:
            self.inputs = job.model.own_inputs or job.model.inputs
            self.outputs = job.model.own_outputs or job.model.outputs

    def fixed(self, own: Sequence[TensorSpec]) -> List[TensorSpec]:
        """``own`` with every free dimension set to the job's size of it."""
        return [
            replace(spec, shape=wanted.shape) if fits(wanted.shape, spec.shape) else spec
            for spec, wanted in zip(own, matched(own, self.inputs))  # noqa: B905 - newer than 3.8
        ]


class PortedConverter(ConverterBase):
    """A converter whose result has the job's ports: their order and fixed shapes."""

    def __init__(self) -> None:
        super().__init__()
        self._ports = ModelPorts()

    def configure(self, job: ConvertJob) -> None:
        super().configure(job)
        self._ports = ModelPorts(job)


def matched(own: Sequence[TensorSpec], wanted: Sequence[TensorSpec]) -> List[TensorSpec]:
    """For each of ``own`` the wanted one: by name, else in order; itself where their number
    differs."""
    by_name = {spec.name: spec for spec in wanted}
    if set(by_name) == {spec.name for spec in own}:
        return [by_name[spec.name] for spec in own]
    return list(wanted if len(wanted) == len(own) else own)


def ordered(specs: Sequence[TensorSpec], order: Sequence[TensorSpec]) -> Tuple[TensorSpec, ...]:
    """``specs`` in the order of the names in ``order``; unchanged where the names differ."""
    by_name = {spec.name: spec for spec in specs}
    if set(by_name) != {spec.name for spec in order}:
        return tuple(specs)
    return tuple(by_name[spec.name] for spec in order)


def feeds_for(own: Sequence[TensorSpec], ports: ModelPorts, feeds: Feeds) -> List[Dict[str, Any]]:
    """Calibration feeds with the file's own names and types: matched by name, else in the order of
    the job's inputs.

    Raises:
        BadData: their shapes are not the file's.
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
    """Inputs and outputs of a SavedModel's signature, each sorted by name like TensorFlow's."""
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
    ).get_concrete_function(*signature_of(opened.inputs))
    tf.saved_model.save(loaded, str(folder), signatures=signed)
    return folder


def failure(name: str, error: Exception) -> Exception:
    """The named error that a converter's ``error`` means: itself where it has a name already."""
    if isinstance(error, (RunnerError, MemoryError)):
        return error
    message = str(error)
    match = _OPERATORS.search(message) or _NO_RULE.search(message)
    if match:
        operators = [word.strip() for word in match.group(1).split(",")]
        return UnsupportedOperator(name, listed(dict.fromkeys(operators)))
    return ConversionFailed("%s: %s" % (name, shortened(message)))
