"""ONNX to a TensorRT engine by the Python API, on the GPU or DLA core that will run it.

Beside ``model.engine`` lie ``model.json``, which describes its inputs, and ``timing.cache``, the
timings that the builder measured. The engine cache keeps conversions side by side: a timing cache
in a folder next to the job's is reused.
"""

from __future__ import annotations

import glob
import os
import tempfile
from pathlib import Path
from typing import Any, Dict, List

from agent.contract.child_jobs import ConvertJob
from agent.contract.conversion_graph import Edge
from agent.contract.failures import (
    BadModel,
    ConversionFailed,
    RuntimeMissing,
    UnsupportedOperator,
    UnsupportedTarget,
)
from agent.contract.trial import TensorSpec
from agent.runtimes import registry
from agent.runtimes.converter import Calibration, ConvertedArtifact, ConverterBase, missing_modules
from agent.runtimes.tensorrt import backend
from agent.runtimes.tensorrt.trtexec_session import describe
from agent.runtimes.validation import require_shapes

TIMING_CACHE = "timing.cache"


class EngineBuild(ConverterBase):
    """Common code of building by the bindings and by ``trtexec``: reading the job."""

    keeps = ("layout", "names")
    where = ("device",)
    options = backend.OPTIONS

    def __init__(self) -> None:
        super().__init__()
        self._precision, self._target = "fp32", "GPU"
        self._neighbours = ""

    def configure(self, job: ConvertJob) -> None:
        super().configure(job)
        self._precision, self._target = job.runtime.precision, job.runtime.target
        self._neighbours = os.path.dirname(os.path.abspath(job.folder))


class TensorRtBuild(EngineBuild):
    name = "tensorrt_build"
    edges = tuple(
        Edge("tensorrt_build", ("onnx", source), ("tensorrt_engine", target))
        for source, target in (
            ("fp32", "fp32"),
            ("fp32", "fp16"),
            ("fp16", "fp16"),
            ("int8", "int8"),
        )
    )
    modules = ("tensorrt",)

    def convert(self, source: Path, folder: Path, calibration: Calibration) -> ConvertedArtifact:
        core = backend.dla_core(self._target, self._precision)
        trt = backend.imported()
        logger = trt.Logger(trt.Logger.WARNING)
        trt.init_libnvinfer_plugins(logger, "")
        builder = trt.Builder(logger)
        if core >= builder.num_DLA_cores:
            known = ["GPU"] + ["DLA%d" % n for n in range(builder.num_DLA_cores)]
            raise UnsupportedTarget("tensorrt", self._target, known)
        steps = []
        if self._precision == "fp16" and not hasattr(trt.BuilderFlag, "FP16"):
            made = to_fp16(source, calibration)
            source = made.artifact
            steps.append(made.step)
        network = builder.create_network(_creation_flags(trt))
        _parse(trt, network, logger, source)
        config = builder.create_builder_config()
        free = self._configure(trt, builder, network, config)
        steps.append("%s %s, %s" % (self.name, trt.__version__, self._target))
        if core >= 0:
            layers = [network.get_layer(n) for n in range(network.num_layers)]
            mapped = sum(bool(config.can_run_on_DLA(layer)) for layer in layers)
            steps.append("%d of %d layers can run on the DLA" % (mapped, len(layers)))
        found = _set_timing_cache(config, self._neighbours)
        steps.append("timing cache %s" % ("carried on" if found else "new"))
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise ConversionFailed(
                "TensorRT %s built no engine for %s; its log says why"
                % (trt.__version__, self._target)
            )
        artifact = folder / "model.engine"
        artifact.write_bytes(bytes(plan))
        cache = config.get_timing_cache()
        if cache is not None:
            (folder / TIMING_CACHE).write_bytes(bytes(cache.serialize()))
        describe(folder, self._inputs, free)
        return ConvertedArtifact(artifact, ", ".join(steps))

    def _configure(self, trt: Any, builder: Any, network: Any, config: Any) -> List[str]:
        """Set up the build; returns the names of the inputs that the file leaves free."""
        flags = trt.BuilderFlag
        if self._options["tf32"] == "off":
            config.clear_flag(flags.TF32)
        # Versions without these flags go by the types in the ONNX file (strongly typed networks).
        for precision, name in (("fp16", "FP16"), ("int8", "INT8")):
            if self._precision == precision and hasattr(flags, name):
                config.set_flag(getattr(flags, name))
        if self._target != "GPU":
            config.default_device_type = trt.DeviceType.DLA
            config.DLA_core = backend.dla_core(self._target, self._precision)
            config.set_flag(flags.GPU_FALLBACK)
        own = [network.get_input(n) for n in range(network.num_inputs)]
        specs = [TensorSpec(t.name, "", tuple(int(d) for d in t.shape)) for t in own]
        if self._inputs:
            require_shapes(self._inputs, specs)
        shapes: Dict[str, Any] = {spec.name: tuple(spec.shape) for spec in self._inputs}
        free = [spec.name for spec in specs if -1 in spec.shape]
        if not free:
            return free
        profile = builder.create_optimization_profile()
        for name in free:
            if name not in shapes:
                raise ConversionFailed("tensorrt: input %s has a free dimension" % name)
            profile.set_shape(name, shapes[name], shapes[name], shapes[name])
        config.add_optimization_profile(profile)
        return free


def _creation_flags(trt: Any) -> int:
    """The flag of explicit batch, in versions that still have it."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    return 0 if flag is None else 1 << int(flag)


def to_fp16(source: Path, calibration: Calibration) -> ConvertedArtifact:
    """The ONNX file in FP16, which a TensorRT without the flag needs.

    Raises:
        RuntimeMissing: the converter's modules are not installed beside TensorRT.
    """
    converter = registry.find_converter("onnx_fp16")
    absent = missing_modules(converter.modules)
    if absent:
        raise RuntimeMissing(
            "this TensorRT takes the types of the ONNX as they are, and making it fp16 needs %s"
            % ", ".join(absent),
            "pip install %s, or register an fp16 model" % " ".join(absent),
        )
    return converter.convert(source, Path(tempfile.mkdtemp()), calibration)


def _parse(trt: Any, network: Any, logger: Any, source: Path) -> None:
    """Parse ``source`` into ``network``. Raises ``UnsupportedOperator``, ``BadModel``."""
    parser = trt.OnnxParser(network, logger)
    if parser.parse_from_file(str(source)):
        return
    errors = [parser.get_error(n) for n in range(parser.num_errors)]
    texts = [str(error.desc()) for error in errors]
    for error, text in zip(errors, texts):  # noqa: B905 - strict= is newer than 3.8
        operator = error.node_operator() if hasattr(error, "node_operator") else ""
        if operator and _names_missing(text):
            raise UnsupportedOperator("tensorrt", operator, text[:300])
    raise BadModel("TensorRT cannot read %s: %s" % (source.name, "; ".join(texts)[:500]))


def _names_missing(text: str) -> bool:
    words = ("Plugin not found", "No importer registered", "not supported", "unsupported")
    return any(word.lower() in text.lower() for word in words)


def neighbouring_caches(neighbours: str) -> List[str]:
    """The timing caches of conversions in the folders next to the job's, newest first."""
    pattern = os.path.join(glob.escape(neighbours), "*", "step*", TIMING_CACHE)
    return sorted(glob.glob(pattern), key=os.path.getmtime, reverse=True)


def _set_timing_cache(config: Any, neighbours: str) -> bool:
    """Give the builder the newest neighbouring timing cache that it accepts, else an empty one;
    whether one was reused."""
    for path in neighbouring_caches(neighbours)[:3]:
        cache = config.create_timing_cache(Path(path).read_bytes())
        if cache is not None and config.set_timing_cache(cache, False):
            return True
    config.set_timing_cache(config.create_timing_cache(b""), False)
    return False


CONVERTER = TensorRtBuild
