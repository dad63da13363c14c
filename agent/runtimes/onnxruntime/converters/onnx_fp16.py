"""ONNX FP32 to ONNX FP16 by ONNX Runtime's ``transformers.float16``.

Inputs and outputs stay FP32, so that the same feeds and references apply. Operators for which the
tool knows no FP16 kernel (resizing, non-maximum suppression and the like) stay FP32 too, as do
those that ONNX Runtime refuses in the file that was written.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, List, Tuple

from agent.contract.conversion_graph import Edge
from agent.formats.onnx import dimensions_of
from agent.formats.onnx_external_data import require_one_message
from agent.runtimes.converter import (
    Calibration,
    ConvertedArtifact,
    ConverterBase,
    conversion_errors,
)
from agent.runtimes.onnxruntime.converter_check import read_fp32, refused
from agent.runtimes.onnxruntime.precision_count import made_of_others, onnx_share, operator_types

MOST_KEPT = 8
"""Types of operators that are taken back to FP32 before the converter gives up."""


class OnnxFp16(ConverterBase):
    name = "onnx_fp16"
    edges = (Edge("onnx_fp16", ("onnx", "fp32"), ("onnx", "fp16")),)
    modules = ("onnx", "onnxruntime")
    keeps = ("dynamic_shapes", "layout", "names")

    def convert(self, source: Path, folder: Path, calibration: Calibration) -> ConvertedArtifact:  # noqa: ARG002
        import onnxruntime

        require_one_message(source, self.name)
        dimensions_of(source)  # refuses a file that is not ONNX
        artifact = folder / "model.onnx"
        model, kept = self._converted(source, artifact)
        share = onnx_share(model, "fp16", self._inputs).required(self.name)
        step = "%s %s, inputs and outputs fp32, %s%s" % (
            self.name,
            onnxruntime.__version__,
            share.words(),
            ", kept fp32 because ONNX Runtime refuses them in fp16: %s" % ", ".join(kept)
            if kept
            else "",
        )
        return ConvertedArtifact(artifact, step)

    def _converted(self, source: Path, artifact: Path) -> Tuple[Any, List[str]]:
        """The written model, and the types of operators that had to stay fp32.

        Raises:
            ConverterFault, Unsupported: what was written cannot be used.
        """
        import onnx
        from onnxruntime.transformers import float16
        from onnxruntime.transformers.onnx_model import OnnxModel

        kept: List[str] = []
        while True:
            original = read_fp32(self.name, source)  # anew: the tool changes what it is given
            types = operator_types(original)
            with conversion_errors(self.name):
                model = float16.convert_float_to_float16(
                    original,
                    keep_io_types=True,
                    op_block_list=[*float16.DEFAULT_OP_BLOCK_LIST, *kept],
                )
                OnnxModel(model).topological_sort()  # it appends its casts at the end
                onnx.save(model, str(artifact))
            error = refused(self.name, source, artifact, self._inputs)
            if error is None:
                return model, kept
            named = set(re.findall(r"\w+", str(error))) & types
            new = (named or made_of_others(types)) - set(kept)
            if len(kept) >= MOST_KEPT or not new:
                raise error
            kept.extend(sorted(new))


CONVERTER = OnnxFp16
