"""TensorFlow's converter to TFLite; the converters for FP32, FP16 and INT8 use it."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path
from typing import Any, Callable, Tuple

from agent.contract.failures import Unsupported, UnsupportedOperator
from agent.contract.trial import TensorSpec
from agent.formats.tflite import TfliteFile, read
from agent.formats.tflite_analysis import input_layout, kind, output_layout, precision
from agent.formats.tflite_precision import tflite_share
from agent.runtimes.tensorflow.conversion import (
    ModelPorts,
    failure,
    fixed_savedmodel,
    ordered,
    signature_specs,
)
from agent.runtimes.tensorflow.models import import_on_cpu


def convert(
    name: str,
    source: Path,
    artifact: Path,
    ports: ModelPorts,
    wanted: str,
    set_up: Callable[..., None],
) -> TfliteFile:
    """Convert ``source``, a SavedModel, to the TFLite file ``artifact``.

    Args:
        ports: their shapes are fixed first: with free ones some interpreters take four times as
            long.
        wanted: the precision that the file must have.
        set_up: called with the converter and the inputs, before it converts.

    Raises:
        UnsupportedOperator: only TensorFlow has a kernel for it, TFLite has none.
        NothingConverted: nothing in the file is in the wanted precision.
    """
    tf = import_on_cpu()
    try:
        fixed = fixed_savedmodel(source, ports.fixed)
        inputs, _ = signature_specs(fixed)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(fixed))
        set_up(converter, inputs)
        artifact.write_bytes(converter.convert())
    except Exception as error:  # TensorFlow passes on what its passes raise
        raise failure(name, error) from error
    graph = read(artifact)
    if wanted != "fp32":
        tflite_share(graph, wanted).required(name, "the file is %s" % kind(graph))
    elif precision(graph) != wanted:
        raise Unsupported("%s: the file came out as %s, not in fp32" % (name, kind(graph)))
    return graph


def refuse_loops(name: str, converter: Any, folder: Path) -> None:
    """Refuse a network that still has a loop after conversion: TensorFlow's calibrator crashes on
    it.

    Raises:
        UnsupportedOperator: says what to do instead.
    """
    scratch = folder / "loops.tflite"
    scratch.write_bytes(converter.convert())
    operators = {operator.name for operator in read(scratch).operators}
    scratch.unlink()
    if "WHILE" in operators:
        raise UnsupportedOperator(
            name,
            "WHILE",
            "TensorFlow's calibrator crashes on loops: unroll the layer (unroll=True), or choose"
            " quantisation: dynamic_range",
        )


def ports_of(
    graph: TfliteFile, ports: ModelPorts
) -> Tuple[Tuple[TensorSpec, ...], Tuple[TensorSpec, ...]]:
    """The file's inputs and outputs in the source's order; the file's own order is arbitrary."""
    by_name = attrgetter("name")
    return (
        ordered(sorted(specs_of(graph, outputs=False), key=by_name), ports.inputs),
        ordered(sorted(specs_of(graph, outputs=True), key=by_name), ports.outputs),
    )


def specs_of(graph: TfliteFile, outputs: bool) -> Tuple[TensorSpec, ...]:
    """Inputs or outputs in the file's order, named by its signature where it has one."""
    names = graph.output_names if outputs else graph.input_names
    tensors = graph.outputs if outputs else graph.inputs
    layout = output_layout if outputs else input_layout
    return tuple(
        TensorSpec(
            names[number] if names else graph.tensors[tensor].name,
            graph.tensors[tensor].dtype,
            graph.tensors[tensor].shape,
            layout(graph, tensor),
        )
        for number, tensor in enumerate(tensors)
    )
