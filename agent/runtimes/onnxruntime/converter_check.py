"""What both ONNX converters ask of a file before they change it, and of what they made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional, Sequence

from agent.contract.failures import (
    BadModel,
    ConverterFault,
    RunnerError,
    Unsupported,
)
from agent.contract.trial import TensorSpec
from agent.runtimes.host_buffers import zero_feed
from agent.runtimes.onnxruntime.load_errors import named_load_error
from agent.runtimes.onnxruntime.precision_count import is_quantised, real_types
from agent.runtimes.refusals import sentence


class WrongSource(Unsupported):
    """The file is not in the precision that the converter starts from."""

    kind = "unsupported_precision"


def read_fp32(converter: str, source: Path) -> Any:
    """The file as ``onnx.ModelProto``, without the weights that old files list among the inputs:
    tools take them for inputs, whose type and value they leave alone.

    Raises:
        BadModel: it cannot be read.
        WrongSource: it is quantised or fp16 already; the converter would spoil it.
    """
    import onnx

    try:
        model = onnx.load(str(source))
    except MemoryError:
        raise
    except Exception as error:  # protobuf raises its own
        raise BadModel("%s is not an ONNX model: %s" % (source.name, sentence(error))) from error
    if is_quantised(model):
        raise _not_fp32(converter, source, "quantised already")
    if "float16" in real_types(model):
        raise _not_fp32(converter, source, "in fp16, at least in part")
    _make_dense(model.graph)
    weights = {tensor.name for tensor in model.graph.initializer}
    real = [value for value in model.graph.input if value.name not in weights]
    if len(real) < len(model.graph.input):
        del model.graph.input[:]
        model.graph.input.extend(real)
        model.ir_version = max(model.ir_version, 4)  # the first that allows it
    return model


def _make_dense(graph: Any) -> None:
    """Sparse weights as ordinary ones: the tools do not know them."""
    import numpy as np
    from onnx import numpy_helper

    for sparse in graph.sparse_initializer:
        values = numpy_helper.to_array(sparse.values)
        at = numpy_helper.to_array(sparse.indices)
        dense = np.zeros(tuple(sparse.dims), values.dtype)
        if at.ndim == 1:
            dense.reshape(-1)[at] = values
        else:
            dense[tuple(at.T)] = values
        graph.initializer.append(numpy_helper.from_array(dense, sparse.values.name))
    del graph.sparse_initializer[:]


def _not_fp32(converter: str, source: Path, found: str) -> WrongSource:
    return WrongSource(
        "%s converts fp32; %s is %s: measure it as it is, or register the fp32 file"
        % (converter, source.name, found)
    )


def refused(
    converter: str, source: Path, artifact: Path, inputs: Sequence[TensorSpec]
) -> Optional[RunnerError]:
    """Why ONNX Runtime does not run the made file, and whose fault that is; ``None``: it does.

    ``ConverterFault``: the file is no valid ONNX. ``Unsupported``: it is, and this runtime has no
    kernel for some use. The source's own error, where the source is refused likewise. The message
    is the runtime's: unlike the checker's it names the operator.
    """
    import onnx

    error = _run_error(artifact, inputs)
    if error is None:
        return None
    before = _run_error(source, inputs)
    if before is not None:
        return before
    try:
        onnx.checker.check_model(str(artifact), full_check=True)
    except Exception as invalid:  # noqa: BLE001 - the checker has several classes of errors
        return ConverterFault(converter, "%s (onnx: %s)" % (error, sentence(invalid, 200)))
    return error if isinstance(error, Unsupported) else ConverterFault(converter, str(error))


def _run_error(path: Path, inputs: Sequence[TensorSpec]) -> Optional[RunnerError]:
    """Why ONNX Runtime does not load the file, or not run it on zeros; errors that are not about
    the model are raised."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            str(path), settings, providers=["CPUExecutionProvider"]
        )
        if {node.name for node in session.get_inputs()} == {spec.name for spec in inputs}:
            session.run(None, zero_feed(inputs))
    except Exception as error:  # its error classes share no other base
        named = named_load_error(error)
        if isinstance(named, RunnerError):
            return named
        raise
    return None
