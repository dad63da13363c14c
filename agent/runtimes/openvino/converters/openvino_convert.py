"""TensorFlow, TFLite and ONNX files to OpenVINO IR in the source's own precision."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, List, Sequence, Tuple

from agent.contract.conversion_graph import Edge
from agent.contract.failures import ConversionFailed
from agent.contract.trial import TensorSpec
from agent.formats.tflite import read_model
from agent.runtimes.converter import Calibration, ConvertedArtifact
from agent.runtimes.openvino.devices import version
from agent.runtimes.openvino.load_errors import named_error
from agent.runtimes.refusals import sentence
from agent.runtimes.tensorflow.conversion import PortedConverter, matched, ordered
from agent.runtimes.tensorflow.models import plain
from agent.runtimes.tensorflow.tflite_conversion import specs_of

_SOURCES = ("savedmodel", "frozen_pb", "optimised_pb", "tflite", "onnx")


class OpenVinoConvert(PortedConverter):
    name = "openvino_convert"
    edges = (
        *(
            Edge("openvino_convert", (source, "fp32"), ("openvino_ir", "fp32"))
            for source in _SOURCES
        ),
        *(
            Edge("openvino_convert", (source, "int8"), ("openvino_ir", "int8"))
            for source in ("tflite", "onnx")
        ),
        Edge("openvino_convert", ("onnx", "fp16"), ("openvino_ir", "fp16")),
    )
    modules = ("openvino",)
    keeps = ("dynamic_shapes", "layout", "names")

    def convert(self, source: Path, folder: Path, calibration: Calibration) -> ConvertedArtifact:  # noqa: ARG002
        import openvino

        artifact = folder / "model.xml"
        model = _read(openvino, source)
        _name(model.inputs, _names(source, model, False, self._ports.inputs))
        _name(model.outputs, _names(source, model, True, self._ports.outputs))
        inputs = [_spec(port) for port in model.inputs]
        fixed = self._ports.fixed(inputs)
        try:
            if fixed != inputs:
                model.reshape({spec.name: list(spec.shape) for spec in fixed})
            openvino.save_model(model, str(artifact), compress_to_fp16=False)
        except RuntimeError as error:
            raise ConversionFailed("%s: %s" % (self.name, sentence(error))) from error
        return ConvertedArtifact(
            artifact,
            "%s %s" % (self.name, version()),
            _laid_out(fixed, self._ports.inputs),
            _laid_out([_spec(port) for port in model.outputs], self._ports.outputs),
        )


def _read(openvino: Any, source: Path) -> Any:
    """``source`` as OpenVINO's model. Raises ``Unsupported…``, ``BadModel``."""
    root = logging.getLogger()
    level = root.level
    try:
        return openvino.convert_model(str(source))
    except MemoryError:
        raise
    except Exception as error:  # some of its errors have classes of their own
        raise named_error(error, source) from error
    finally:
        root.setLevel(level)  # where it fails it leaves the root logger at ERROR


def _names(source: Path, model: Any, outputs: bool, known: Sequence[TensorSpec]) -> List[str]:
    """The source's names of the model's inputs or outputs, in OpenVINO's order."""
    ports = model.outputs if outputs else model.inputs
    nodes = model.get_results() if outputs else [port.get_node() for port in ports]
    if source.suffix == ".tflite":
        return [spec.name for spec in specs_of(read_model(source), outputs)]
    if source.suffix == ".onnx":
        names = {spec.name for spec in known}
        return [min(port.get_names() & names, default=port.any_name) for port in ports]
    return [plain(node.get_friendly_name()) for node in nodes]


def _name(ports: Sequence[Any], names: Sequence[str]) -> None:
    for port, name in zip(ports, names):  # noqa: B905 - strict= is newer than 3.8
        port.get_tensor().set_names({name})


def _spec(port: Any) -> TensorSpec:
    shape = tuple(-1 if d.is_dynamic else d.get_length() for d in port.partial_shape)
    return TensorSpec(port.any_name, port.element_type.to_dtype().name, shape)


def _laid_out(specs: Sequence[TensorSpec], known: Sequence[TensorSpec]) -> Tuple[TensorSpec, ...]:
    """``specs`` in the source's order, with its layouts: OpenVINO keeps every tensor's axes."""
    pairs = zip(specs, matched(specs, known))  # noqa: B905
    return ordered([replace(spec, layout=own.layout) for spec, own in pairs], known)


CONVERTER = OpenVinoConvert
