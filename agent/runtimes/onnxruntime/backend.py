"""ONNX Runtime on one of its execution providers, never silently on another one."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any, Callable, ClassVar, Dict, FrozenSet, Sequence, Tuple

import numpy as np

from agent.contract.device import RuntimeFacts
from agent.contract.failures import (
    BadModel,
    RuntimeMissing,
    UnsupportedFormat,
    UnsupportedShape,
    UnsupportedTarget,
)
from agent.contract.trial import PRECISIONS, RuntimeRef, TensorSpec
from agent.formats.onnx import dimensions_of, shapeless_of
from agent.runtimes.backend import Feed, Options, Wants, closed_session
from agent.runtimes.host_buffers import HostBuffers
from agent.runtimes.onnxruntime import providers
from agent.runtimes.onnxruntime.converters import onnxruntime_quantize
from agent.runtimes.onnxruntime.load_errors import named_load_error
from agent.runtimes.validation import (
    chosen,
    facts_of,
    require_module,
    require_precision,
    require_shapes,
    require_target,
)

_LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "disable": "ORT_DISABLE_ALL",
}
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    **{
        "tensor(%sint%d)" % (sign, bits): "%sint%d" % (sign, bits)
        for sign in ("", "u")
        for bits in (8, 16, 32, 64)
    },
}
_OTHER_SIZES = re.compile(
    r"provided for output '([^']*)' .*has shape \{([\d,]*)\} but the computed .* is \{([\d,]*)\}"
)


class OnnxRuntime:
    name = "onnxruntime"
    accepts = ("onnx",)
    wants: ClassVar[Wants] = {precision: (("onnx", precision),) for precision in PRECISIONS}
    options: ClassVar[Options] = {
        "graph_optimization": tuple(_LEVELS),
        "cpu_fallback": ("refuse", "allow"),
        **onnxruntime_quantize.OPTIONS,
    }

    def import_runtime(self) -> str:
        found = require_module("onnxruntime", "install it with pip install onnxruntime")
        return str(found.__version__)

    def probe(self) -> RuntimeFacts:
        version = self.import_runtime()
        import onnxruntime

        targets = providers.facts(onnxruntime.get_available_providers())
        if not targets:
            raise RuntimeMissing("this onnxruntime has no known provider", "install another build")
        return facts_of(self, version, targets)

    def load(
        self, artifact: Path, runtime: RuntimeRef, inputs: Sequence[TensorSpec] = ()
    ) -> OnnxRuntimeSession:
        self.import_runtime()
        import onnxruntime

        options = chosen(self.name, self.options, runtime.options)
        known = providers.targets(onnxruntime.get_available_providers())
        require_target(self.name, runtime.target, known)
        provider, where, _ = known[runtime.target]
        require_precision(self.name, runtime.precision, provider.precisions)
        settings = _settings(runtime, options, provider.name)
        for symbol, size in _overrides(artifact, inputs).items():
            settings.add_free_dimension_override_by_name(symbol, size)
        chosen_settings = provider.settings(where, runtime.precision, runtime.threads)
        try:
            session = onnxruntime.InferenceSession(
                str(artifact),
                settings,
                providers=[provider.name],
                provider_options=[chosen_settings],
                enable_fallback=0,  # a provider that cannot start must not be replaced by the CPU
            )
        except Exception as error:  # its error classes share no other base
            raise named_load_error(error) from error
        if session.get_providers()[0] != provider.name:
            raise UnsupportedTarget(self.name, runtime.target, session.get_providers())
        placement = _placement(session, provider.name, options)
        return OnnxRuntimeSession(session, inputs, placement, shapeless_of(artifact))


def _settings(runtime: RuntimeRef, options: Dict[str, str], provider: str) -> Any:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.intra_op_num_threads = runtime.threads
    settings.inter_op_num_threads = 1
    settings.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, _LEVELS[options["graph_optimization"]]
    )
    if provider == providers.CPU:
        return settings
    if provider == "XnnpackExecutionProvider":
        # XNNPACK has its own thread pool; the session's would compete with it.
        settings.intra_op_num_threads = 1
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if providers.can_record(onnxruntime.InferenceSession):
        # Recorded instead of forbidden, so that the refusal can name the operators.
        settings.add_session_config_entry(providers.RECORD, "1")
    elif options["cpu_fallback"] == "refuse":
        settings.add_session_config_entry(providers.NO_CPU, "1")
    return settings


def _placement(session: Any, provider: str, options: Dict[str, str]) -> str:
    """Where the operators run, in words. Raises ``LeftOnCpu``: some on the CPU, not allowed."""
    if provider == providers.CPU:
        # Spinning threads are the default; they change the latency, so the placement says so.
        return "%s (spinning: default)" % provider
    found = providers.assignment(session)
    words = providers.placed(provider, found, options["cpu_fallback"])
    return words + ", inputs copied to the device before, outputs to the host in each inference"


def _overrides(artifact: Path, inputs: Sequence[TensorSpec]) -> Dict[str, int]:
    """Symbolic dimension → the size that ``inputs`` give it. Raises ``UnsupportedShape``."""
    declared = dimensions_of(artifact)
    found: Dict[str, int] = {}
    for spec in inputs:
        pairs = zip(declared.get(spec.name, ()), spec.shape)  # noqa: B905 - strict= is newer than 3.8
        for dimension, size in pairs:
            if not isinstance(dimension, str) or not dimension:
                continue
            if found.setdefault(dimension, size) != size:
                raise UnsupportedShape(
                    "dimension %s of the model cannot be both %d and %d"
                    % (dimension, found[dimension], size)
                )
    return found


class OnnxRuntimeSession:
    """Inputs, and outputs whose shapes are known, are bound to arrays that are allocated once."""

    infer: Callable[[], None]

    def __init__(
        self,
        session: Any,
        inputs: Sequence[TensorSpec],
        placement: str,
        shapeless: FrozenSet[str] = frozenset(),
    ) -> None:
        self._session = session
        own = [_spec(node) for node in session.get_inputs()]
        if inputs:
            wanted = {spec.name: spec for spec in inputs if spec.name in shapeless}
            require_shapes(inputs, [wanted.get(spec.name, spec) for spec in own])
        self.inputs: Sequence[TensorSpec] = tuple(inputs or own)
        self.outputs: Sequence[TensorSpec] = tuple(_spec(n) for n in session.get_outputs())
        self.placement = placement
        self._on_host = session.get_providers()[0] == providers.CPU
        self._buffers = HostBuffers(self.inputs)
        self._results: Dict[str, "np.ndarray[Any, Any]"] = {}
        # Nothing is written to an array that is bound for an output that is an input, too.
        own_arrays = shapeless | {spec.name for spec in self.inputs}
        self._dynamic = [s.name for s in self.outputs if -1 in s.shape or s.name in own_arrays]
        self._binding = session.io_binding()
        self._bare = _bare_run(session, self._binding)
        self.infer = self._first

    def _first(self) -> None:
        """The first inference on new inputs. Raises ``BadModel``: an output has other sizes than
        the file declares, so that nothing can be allocated for it."""
        try:
            self._bare()
        except Exception as error:  # its error classes share no other base
            wrong = _OTHER_SIZES.search(str(error))
            if wrong is None:
                raise
            raise BadModel(
                "the file declares output %s as [%s], and it came out as [%s]; declare the sizes"
                " that follow from the data as free, or none (onnx: value_info, dim_param)"
                % wrong.groups()
            ) from error
        self.infer = self._bare

    def _bind_dynamic(self) -> None:
        """Have the runtime allocate outputs: the binding keeps the last run's arrays, and other
        inputs may give other sizes."""
        for name in self._dynamic:
            self._binding.bind_output(name, "cpu")

    def _bind_outputs(self) -> None:
        for spec in self.outputs:
            if spec.name in self._dynamic:
                # in the outputs' order: ``read`` counts
                self._binding.bind_output(spec.name, "cpu")
                continue
            array = np.empty(spec.shape, spec.dtype)
            self._results[spec.name] = array
            self._binding.bind_output(
                spec.name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data
            )

    def bind(self, feed: Feed) -> None:
        fresh = self._buffers.fill(feed)
        if fresh:
            self._bind_outputs()
        else:
            self._bind_dynamic()
        self.infer = self._first
        # Binding to a device copies: new content of an array needs another binding.
        if fresh or not self._on_host:
            for name, array in self._buffers.arrays.items():
                self._binding.bind_cpu_input(name, array)

    def read(self) -> Dict[str, "np.ndarray[Any, Any]"]:
        if len(self._results) == len(self.outputs):
            return {name: array.copy() for name, array in self._results.items()}
        arrays = self._binding.copy_outputs_to_cpu()
        return {spec.name: np.array(arrays[n]) for n, spec in enumerate(self.outputs)}

    def close(self) -> None:
        self._binding = self._session = None
        self.infer = closed_session


def _bare_run(session: Any, binding: Any) -> Callable[[], None]:
    """``run_with_iobinding`` without its Python wrapper, which costs microseconds per call; the
    public method in versions that keep these attributes elsewhere."""
    try:
        return partial(session._sess.run_with_iobinding, binding._iobinding, None)
    except AttributeError:
        return partial(session.run_with_iobinding, binding)


def _spec(node: Any) -> TensorSpec:
    if node.type not in _DTYPES:
        raise UnsupportedFormat("%s has element type %s" % (node.name, node.type))
    shape: Tuple[int, ...] = tuple(d if isinstance(d, int) else -1 for d in node.shape)
    return TensorSpec(node.name, _DTYPES[node.type], shape)


BACKEND = OnnxRuntime
