"""A loaded TensorFlow model, as a function or in a session, and the settings of the process.

The settings hold for the whole process and can be made only once, before anything has run: a later
load in the same process must want the same ones.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

import numpy as np

from agent.contract.failures import BadOption, RunnerError, Unsupported
from agent.contract.input_values import InputValues
from agent.contract.trial import RuntimeRef, TensorSpec
from agent.runtimes.backend import Feed, closed_session
from agent.runtimes.host_buffers import HostBuffers
from agent.runtimes.tensorflow import value_ranges
from agent.runtimes.tensorflow.graph_def import GraphLayouts
from agent.runtimes.tensorflow.models import (
    as_wanted,
    endpoints,
    named_error,
    open_model,
    plain,
    read_graph,
    read_savedmodel,
    signature_key,
    spec_of,
)


def gpus() -> Dict[str, str]:
    """Target → the name of the GPU; creates no context on any."""
    import tensorflow as tf

    found = tf.config.list_physical_devices("GPU")
    return {
        "GPU:%d" % number: str(tf.config.experimental.get_device_details(gpu).get("device_name"))
        for number, gpu in enumerate(found)
    }


def configure_process(target: str, threads: int, grappler: bool) -> None:
    """Set the devices, threads and optimisation of this process.

    One operator is split over ``threads`` threads and operators run one after another, so no more
    than ``threads`` are busy. 0 leaves TensorFlow's own numbers.
    """
    import tensorflow as tf

    visible = []
    if target != "CPU":
        visible = [tf.config.list_physical_devices("GPU")[int(target.split(":")[1])]]
    if tf.config.get_visible_devices("GPU") != visible:
        tf.config.set_visible_devices(visible, "GPU")
    for gpu in visible:
        if not tf.config.experimental.get_memory_growth(gpu):
            tf.config.experimental.set_memory_growth(gpu, True)
    threading = tf.config.threading
    if threads and threading.get_intra_op_parallelism_threads() != threads:
        threading.set_intra_op_parallelism_threads(threads)
    if threads and threading.get_inter_op_parallelism_threads() != 1:
        threading.set_inter_op_parallelism_threads(1)
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": not grappler})


class _TensorFlowSession:
    """Common code of both sessions: the first call names its errors, later ones are bare."""

    infer: Callable[[], None]
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    placement: str

    def __init__(self, name: str) -> None:
        self._name = name
        self._result: Any = None
        self.infer = self._first

    def _first(self) -> None:
        """The first call, which looks up kernels and allocates memory.

        Raises:
            UnsupportedOperator, UnsupportedFormat, MemoryError: in TensorFlow's words.
        """
        try:
            self._run()
        except Exception as error:  # TensorFlow passes on what its kernels raise
            found = named_error(error, self._name)
            if isinstance(found, (Unsupported, MemoryError)):
                raise found from error
            raise
        self.infer = self._run

    def _run(self) -> None:
        raise RuntimeError("the session is closed")


_UNCERTAIN = re.compile("Random|Multinomial|^Assign|Dropout|RngSkip|RngReadAndSkip|Bernoulli")


def uncertain(function: Any) -> List[str]:
    """The operators of a concrete function, and of those that it calls, that draw random numbers or
    write variables."""
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    return sorted({node.op for node in nodes if _UNCERTAIN.search(node.op)})


class FunctionSession(_TensorFlowSession):
    """A concrete function, traced at the load, on tensors that ``bind`` creates."""

    reset: Callable[[], None]
    """Only there where the network keeps state."""

    def __init__(
        self, artifact: Path, inputs: Sequence[TensorSpec], target: str, words: str, jit: bool
    ) -> None:
        super().__init__(artifact.name)
        opened = open_model(artifact, as_wanted(inputs), jit)
        self.inputs, self.outputs = opened.inputs, opened.outputs
        self.function = opened.function
        self._keep = opened.keep
        self._buffers = HostBuffers(self.inputs)
        self._tensors: List[Any] = []
        self._uncertain = uncertain(self.function)
        if any("Assign" in name for name in self._uncertain):
            self._kept = [(v, v.numpy()) for v in self.function.variables]
            self.reset = self._reset
        self._device = "/" + target
        self.placement = words + (_engines(self.function) if artifact.is_dir() else "")
        if target != "CPU":
            self._run = self._run_on_device  # type: ignore[method-assign]

    def input_values(self) -> Dict[str, InputValues]:
        return value_ranges.of_function(self.function, self.inputs)

    def uncertain(self) -> Sequence[str]:
        return self._uncertain

    def _reset(self) -> None:
        for variable, first in self._kept:
            variable.assign(first)

    def bind(self, feed: Feed) -> None:
        import tensorflow as tf

        self._buffers.fill(feed)
        with tf.device(self._device):
            self._tensors = [tf.constant(self._buffers.arrays[s.name]) for s in self.inputs]

    def _run(self) -> None:
        self._result = self.function(*self._tensors)

    def _run_on_device(self) -> None:
        """A device may still compute when the call returns; copying an output waits for it."""
        self._result = self.function(*self._tensors)
        for tensor in self._result:
            tensor.numpy()

    def read(self) -> Dict[str, "np.ndarray[Any, Any]"]:
        found = zip(self.outputs, self._result)  # noqa: B905 - strict= is newer than 3.8
        return {spec.name: np.array(tensor.numpy()) for spec, tensor in found}

    def close(self) -> None:
        self.infer = closed_session
        self.function = self._result = self._keep = None
        self._tensors = []


class GraphSession(_TensorFlowSession):
    """A TensorFlow 1 session with a prepared call; it includes the copies of inputs and outputs."""

    def __init__(
        self,
        artifact: Path,
        inputs: Sequence[TensorSpec],
        runtime: RuntimeRef,
        words: str,
        grappler: bool,
    ) -> None:
        super().__init__(artifact.name)
        if artifact.suffix in (".keras", ".h5"):
            raise BadOption(
                "tensorflow option call: session goes with savedmodel, frozen_pb and optimised_pb;"
                " a Keras file is called as a function, or converted first (format: savedmodel)"
            )
        import tensorflow as tf

        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph, config=_config(runtime, grappler))
        try:
            with graph.as_default():
                self._load(graph, self._session, artifact)
        except (RunnerError, MemoryError):
            raise
        except Exception as error:  # TensorFlow passes on what its importers raise
            raise named_error(error, artifact.name) from error
        self.inputs = tuple(as_wanted(inputs)(self.inputs))
        self.placement = words
        self._buffers = HostBuffers(self.inputs)
        self._arrays: List[Any] = []

    def _load(self, graph: Any, session: Any, artifact: Path) -> None:
        import tensorflow as tf

        if artifact.is_dir():
            meta = read_savedmodel(artifact)
            key = signature_key(list(meta.signature_def), artifact.name)
            tags = list(meta.meta_info_def.tags)
            signed = tf.compat.v1.saved_model.load(session, tags, str(artifact)).signature_def[key]
            feeds = [(n, signed.inputs[n].name) for n in sorted(signed.inputs)]
            fetches = [(n, signed.outputs[n].name) for n in sorted(signed.outputs)]
            layouts = GraphLayouts(meta.graph_def)
        else:
            graph_def = read_graph(artifact)
            tf.compat.v1.import_graph_def(graph_def, name="")
            ins, outs = endpoints(graph, artifact.name)
            feeds = [(plain(t.name), t.name) for t in ins]
            fetches = [(plain(t.name), t.name) for t in outs]
            layouts = GraphLayouts(graph_def)
        tensor = graph.get_tensor_by_name
        self.inputs = tuple(spec_of(n, tensor(t), layouts.of_input(t)) for n, t in feeds)
        self.outputs = tuple(spec_of(n, tensor(t), layouts.of_output(t)) for n, t in fetches)
        self._call = _prepared(session, [t for _, t in feeds], [t for _, t in fetches])

    def bind(self, feed: Feed) -> None:
        if self._buffers.fill(feed):
            self._arrays = [self._buffers.arrays[spec.name] for spec in self.inputs]

    def _run(self) -> None:
        self._result = self._call(*self._arrays)

    def read(self) -> Dict[str, "np.ndarray[Any, Any]"]:
        found = zip(self.outputs, self._result)  # noqa: B905 - strict= is newer than 3.8
        return {spec.name: np.array(array) for spec, array in found}

    def close(self) -> None:
        self.infer = closed_session
        self._result = None
        self._session.close()


def _prepared(session: Any, feeds: List[str], fetches: List[str]) -> Callable[..., Any]:
    """A call by position, without the lookups of ``run``, which takes half as long again on a small
    network; the public call in versions that have no other."""
    from tensorflow.core.protobuf import config_pb2

    make = getattr(session, "_make_callable_from_options", None)
    if make is None:
        found: Callable[..., Any] = session.make_callable(fetches, feeds)
        return found
    prepared: Callable[..., Any] = make(config_pb2.CallableOptions(feed=feeds, fetch=fetches))
    return prepared


def _config(runtime: RuntimeRef, grappler: bool) -> Any:
    import tensorflow as tf

    config = tf.compat.v1.ConfigProto()
    config.gpu_options.allow_growth = True
    config.graph_options.rewrite_options.disable_meta_optimizer = not grappler
    if runtime.threads:
        config.intra_op_parallelism_threads = runtime.threads
        config.inter_op_parallelism_threads = 1
    return config


def _engines(function: Any) -> str:
    """The number of TensorRT engines in a model that TF-TRT converted, in words; else empty."""
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    found = sum(node.op == "TRTEngineOp" for node in nodes)
    return ", %d TensorRT engines" % found if found else ""
