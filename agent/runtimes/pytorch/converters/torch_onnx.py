"""``torch.export`` program to ONNX by PyTorch's own exporter (``dynamo=True``, onnxscript).

Inputs and outputs have the program's names and fixed shapes. Weights that exceed one protobuf
message go to ``model.onnx.data`` beside the model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent.contract.conversion_graph import Edge
from agent.contract.failures import UnsupportedOperator
from agent.runtimes.converter import (
    Calibration,
    ConvertedArtifact,
    ConverterBase,
    failed,
    is_ours,
)
from agent.runtimes.pytorch import exported_program

EXTERNAL_BYTES = 1900 * 2**20
"""Above this the weights go into their own file: a protobuf message ends at 2 GiB."""


class TorchOnnx(ConverterBase):
    name = "torch_onnx"
    edges = (Edge("torch_onnx", ("pt2", "fp32"), ("onnx", "fp32")),)
    modules = ("torch", "onnx", "onnxscript")
    keeps = ("layout", "names")

    def convert(self, source: Path, folder: Path, calibration: Calibration) -> ConvertedArtifact:  # noqa: ARG002
        import torch

        program = exported_program.load(source)
        own = exported_program.inputs_of(program)
        outputs = exported_program.outputs_of(program)
        artifact = folder / "model.onnx"
        try:
            made = torch.onnx.export(
                exported_program.fixed(program, self._inputs),
                dynamo=True,
                input_names=[spec.name for spec in own],
                output_names=[spec.name for spec in outputs],
                verbose=False,
            )
            external = _weight_bytes(program) > EXTERNAL_BYTES
            made.save(str(artifact), external_data=external)
        except Exception as error:  # torch and onnxscript each raise their own
            raise _named(self.name, error) from error
        step = "%s %s, opset %d" % (self.name, torch.__version__, made.model.opset_imports[""])
        return ConvertedArtifact(artifact, step)


def _weight_bytes(program: Any) -> int:
    tensors = [*program.state_dict.values(), *program.constants.values()]
    return sum(t.numel() * t.element_size() for t in tensors if hasattr(t, "element_size"))


def _named(converter: str, error: BaseException) -> BaseException:
    """The named error that an error of the exporter means; the reason is one of its causes."""
    if is_ours(error):
        return error
    cause: Any = error
    while cause is not None:
        if type(cause).__name__ == "DispatchError":
            return UnsupportedOperator("torch.onnx", _operator(str(cause)))
        last, cause = cause, cause.__cause__
    return failed(converter, last)


def _operator(message: str) -> str:
    """``No ONNX function found for <OpOverload(op='aten.…', overload='…')>. Failure message: …``"""
    return message.split("op='")[1].split("'")[0] if "op='" in message else message[:200]


CONVERTER = TorchOnnx
