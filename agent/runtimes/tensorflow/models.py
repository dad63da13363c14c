"""TensorFlow's five file formats as traced functions of a list of tensors."""

from __future__ import annotations

import keyword
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from agent.contract.failures import (
    BadModel,
    RunnerError,
    UnsupportedFormat,
    UnsupportedOperator,
    listed,
)
from agent.contract.trial import TensorSpec
from agent.formats.savedmodel import GRAPH
from agent.runtimes.tensorflow.graph_def import GraphLayouts, refuse_unsafe
from agent.runtimes.tensorflow.keras_files import KerasModel
from agent.runtimes.validation import require_module, require_shapes

SIGNATURE = "serving_default"
_NAME = re.compile("[A-Za-z][A-Za-z0-9_]*")
_NO_RESULT = frozenset(["Placeholder", "NoOp", "Assert"])

_NO_OPERATOR = re.compile(
    r"Op type not registered '([^']+)'|No OpKernel was registered to support Op '([^']+)'"
    r"|Could not find device for node: \{\{node [^}]*\}\} = (\w+)"
)

Shaper = Callable[[Sequence[TensorSpec]], Sequence[TensorSpec]]
"""From a file's own inputs to the same inputs in the shapes to trace."""


class OpenedModel(NamedTuple):
    """``function``: a concrete function from the inputs' tensors to the outputs', both in order.
    ``keep``: objects that must live as long as it does."""

    function: Any
    inputs: Tuple[TensorSpec, ...]
    outputs: Tuple[TensorSpec, ...]
    keep: Any


def import_tensorflow() -> Any:
    """The module, with its logs off. Raises ``RuntimeMissing``."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ["KERAS_HOME"] = os.devnull  # Keras would write a file into the user's home
    tensorflow = require_module(
        "tensorflow",
        "install it with pip install tensorflow-cpu (tensorflow on aarch64 or with a GPU)",
    )
    tensorflow.get_logger().setLevel("ERROR")
    return tensorflow


def import_on_cpu() -> Any:
    """TensorFlow without GPUs, for a converter. Raises ``RuntimeMissing``."""
    tensorflow = import_tensorflow()
    tensorflow.config.set_visible_devices([], "GPU")
    return tensorflow


def as_wanted(wanted: Sequence[TensorSpec]) -> Shaper:
    """A ``Shaper`` to exactly the wanted shapes (none wanted: those of the file).

    It raises ``UnsupportedShape`` where the wanted inputs are not the file's.
    """

    def shaped(own: Sequence[TensorSpec]) -> Sequence[TensorSpec]:
        if not wanted:
            return own
        require_shapes(wanted, own)
        shapes = {spec.name: spec.shape for spec in wanted}
        return [replace(spec, shape=shapes[spec.name]) for spec in own]

    return shaped


def open_model(artifact: Path, shaped: Shaper, jit: bool = False) -> OpenedModel:
    """``artifact`` as a function, traced once in the shapes that ``shaped`` gives its inputs.

    Raises:
        BadModel, UnsupportedOperator, UnsupportedFormat: see ``named_error``.
        Everything that ``shaped`` raises.
    """
    opener = _savedmodel if artifact.is_dir() else _graph if artifact.suffix == ".pb" else _keras
    try:
        return opener(artifact, shaped, jit)
    except (RunnerError, MemoryError):
        raise
    except Exception as error:  # TensorFlow passes on what its layers raise
        raise named_error(error, artifact.name) from error


def named_error(error: Exception, name: str) -> Exception:
    """The named error that TensorFlow's ``error`` while loading ``name`` means."""
    message = str(error)
    match = _NO_OPERATOR.search(message)
    if match:
        operator = next(group for group in match.groups() if group)
        return UnsupportedOperator("tensorflow", operator, "it has no kernel for it here")
    kind = type(error).__name__
    words = shortened(message)
    if kind == "ResourceExhaustedError":
        return MemoryError("Failed to allocate memory: %s" % words)
    if kind == "UnimplementedError":
        return UnsupportedFormat("tensorflow cannot run %s: %s" % (name, words))
    return BadModel("tensorflow cannot load %s: %s: %s" % (name, kind, words))


def shortened(message: str) -> str:
    """A message without terminal colours, stack frames and the arguments of calls; at most 400
    characters."""
    plain_text = re.sub("\x1b\\[[0-9;]*m", "", message)
    inner = plain_text.split("Exception encountered when calling")[-1]
    return " ".join(inner.split("Arguments received by")[0].split())[:400]


def _keras(artifact: Path, shaped: Shaper, jit: bool) -> OpenedModel:
    model = KerasModel(artifact)
    model.name_for_graph()
    return _with_layouts(_traced(model, model.inputs, model.outputs, shaped, jit, keep=model))


def _savedmodel(artifact: Path, shaped: Shaper, jit: bool) -> OpenedModel:
    import tensorflow as tf

    read_savedmodel(artifact)
    loaded = tf.saved_model.load(str(artifact))
    signature = loaded.signatures[signature_key(list(loaded.signatures), artifact.name)]
    _, takes = signature.structured_input_signature
    names = sorted(takes)
    outputs = sorted(signature.structured_outputs)

    def call(tensors: Sequence[Any]) -> List[Any]:
        found = signature(**dict(zip(names, tensors)))  # noqa: B905 - strict= is newer than 3.8
        return [found[name] for name in outputs]

    inputs = [spec_of(name, takes[name]) for name in names]
    return _with_layouts(_traced(call, inputs, outputs, shaped, jit, keep=loaded))


def _graph(artifact: Path, shaped: Shaper, jit: bool) -> OpenedModel:
    import tensorflow as tf

    graph_def = read_graph(artifact)
    wrapped = tf.compat.v1.wrap_function(
        lambda: tf.compat.v1.import_graph_def(graph_def, name=""), []
    )
    feeds, fetches = endpoints(wrapped.graph, artifact.name)
    pruned = wrapped.prune(feeds, fetches)
    layouts = GraphLayouts(graph_def)
    inputs = [spec_of(plain(t.name), t, layouts.of_input(t.name)) for t in feeds]
    outputs = [plain(tensor.name) for tensor in fetches]
    # Called directly, a pruned function takes 18 times as long as inside another one.
    found = _traced(lambda tensors: pruned(*tensors), inputs, outputs, shaped, jit, keep=wrapped)
    return found._replace(
        outputs=tuple(
            replace(spec, layout=layouts.of_output(tensor.name))
            for spec, tensor in zip(found.outputs, fetches)  # noqa: B905
        )
    )


def _traced(
    call: Callable[[Sequence[Any]], Sequence[Any]],
    own: Sequence[TensorSpec],
    outputs: Sequence[str],
    shaped: Shaper,
    jit: bool,
    keep: Any,
) -> OpenedModel:
    """``call`` as a concrete function, which is traced here and never again."""
    import tensorflow as tf

    own = shaped(own)
    function = tf.function(
        lambda *tensors: list(call(tensors)), autograph=False, jit_compile=jit or None
    )
    concrete = function.get_concrete_function(*signature_of(own))
    found = zip(outputs, concrete.outputs)  # noqa: B905
    answers = tuple(spec_of(name, tensor) for name, tensor in found)
    return OpenedModel(concrete, tuple(own), answers, (function, keep))


def _with_layouts(opened: OpenedModel) -> OpenedModel:
    """With the layouts from the traced graph, which is small: its weights are variables."""
    graph = opened.function.graph
    layouts = GraphLayouts(graph.as_graph_def())
    feeds = opened.function.inputs[: len(opened.inputs)]
    return opened._replace(
        inputs=tuple(
            replace(spec, layout=layouts.of_input(tensor.name))
            for spec, tensor in zip(opened.inputs, feeds)  # noqa: B905
        ),
        outputs=tuple(
            replace(spec, layout=layouts.of_output(tensor.name))
            for spec, tensor in zip(opened.outputs, opened.function.outputs)  # noqa: B905
        ),
    )


def read_savedmodel(folder: Path) -> Any:
    """The SavedModel's first ``MetaGraphDef``, checked before TensorFlow loads it: loading runs
    parts of it.

    Raises:
        BadModel: missing, damaged, or with operators that touch files.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString((folder / GRAPH).read_bytes())
    except (OSError, DecodeError) as error:
        raise BadModel("%s is no SavedModel: %s" % (folder.name, error)) from error
    if not model.meta_graphs:
        raise BadModel("%s is no SavedModel: it holds no graph" % folder.name)
    for graph in model.meta_graphs:
        refuse_unsafe(graph.graph_def, folder.name, savers=True)
    return model.meta_graphs[0]


def read_graph(artifact: Path) -> Any:
    """The ``GraphDef`` in a file, checked. Raises ``BadModel``."""
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    graph_def = tf.compat.v1.GraphDef()
    try:
        graph_def.ParseFromString(artifact.read_bytes())
    except (OSError, DecodeError) as error:
        raise BadModel("%s is no TensorFlow graph: %s" % (artifact.name, error)) from error
    if not graph_def.node:
        raise BadModel("%s is no TensorFlow graph: it is empty" % artifact.name)
    refuse_unsafe(graph_def, artifact.name)
    return graph_def


def signature_key(keys: Sequence[str], name: str) -> str:
    """The signature to use: ``serving_default``, or the only one. Raises ``UnsupportedFormat``."""
    own = [key for key in keys if not key.startswith("__saved_model")]
    if SIGNATURE in own or len(own) == 1:
        return SIGNATURE if SIGNATURE in own else own[0]
    raise UnsupportedFormat(
        "%s has no signature %s; it has %s" % (name, SIGNATURE, listed(sorted(own)))
    )


def endpoints(graph: Any, name: str) -> Tuple[List[Any], List[Any]]:
    """A graph's inputs, its placeholders, and its outputs: tensors that depend on an input and that
    no operator takes.

    Raises:
        BadModel: it has no inputs or no outputs.
    """
    operators = graph.get_operations()
    feeds = [op.outputs[0] for op in operators if op.type == "Placeholder"]
    follow = {tensor.op.name for tensor in feeds}
    todo = list(feeds)
    while todo:
        for user in todo.pop().consumers():
            if user.name not in follow:
                follow.add(user.name)
                todo.extend(user.outputs)
    fetches = [
        tensor
        for op in operators
        if op.name in follow and op.type not in _NO_RESULT
        for tensor in op.outputs
        if not any(t.consumers() for t in op.outputs)
    ]
    if not feeds or not fetches:
        raise BadModel(
            "%s has %d inputs (placeholders) and %d outputs" % (name, len(feeds), len(fetches))
        )
    return feeds, fetches


def plain(tensor: str) -> str:
    """A tensor's name without the ``:0`` of a node's first output."""
    return tensor[:-2] if tensor.endswith(":0") else tensor


def endpoint_specs(
    graph_def: Any, feeds: Sequence[Any], fetches: Sequence[Any]
) -> Tuple[List[TensorSpec], List[TensorSpec]]:
    """Inputs and outputs of a graph, from its tensors and with their layouts."""
    layouts = GraphLayouts(graph_def)
    return (
        [spec_of(plain(t.name), t, layouts.of_input(t.name)) for t in feeds],
        [spec_of(plain(t.name), t, layouts.of_output(t.name)) for t in fetches],
    )


def signature_of(specs: Sequence[TensorSpec]) -> List[Any]:
    """TensorFlow's own specs of inputs, with names that it accepts."""
    import tensorflow as tf

    return [
        tf.TensorSpec(free_as_none(spec.shape), spec.dtype, name)
        for name, spec in zip(identifiers(specs), specs)  # noqa: B905 - strict= is newer than 3.8
    ]


def identifiers(specs: Sequence[TensorSpec]) -> List[str]:
    """The inputs' names; ``input_N`` where a name is not an identifier, which TensorFlow needs."""
    names = [spec.name for spec in specs]
    found = []
    for number, name in enumerate(names):
        if not _NAME.fullmatch(name) or keyword.iskeyword(name):
            name = "input_%d" % number
            while name in names:
                name += "_"
        found.append(name)
    return found


def free_as_none(shape: Sequence[int]) -> List[Optional[int]]:
    return [None if d == -1 else d for d in shape]


def spec_of(name: str, tensor: Any, layout: str = "") -> TensorSpec:
    """The spec of a tensor.

    Raises:
        UnsupportedFormat: an element type that NumPy does not have, or an unknown rank.
    """
    dtype = tensor.dtype.name
    if not hasattr(np, dtype) and dtype != "bool":
        raise UnsupportedFormat("tensor %s has element type %s" % (name, dtype))
    if tensor.shape.rank is None:
        raise UnsupportedFormat("tensor %s is of no known rank" % name)
    shape = tuple(-1 if d is None else int(d) for d in tensor.shape)
    return TensorSpec(name, dtype, shape, layout)
