"""ONNX to ncnn by pnnx, which is a program in its wheel; weights in FP32 or FP16.

Beside ``model.param`` and ``model.bin`` lies ``notes.json``: names, shapes and batch axes of inputs
and outputs, which ncnn's files do not hold.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from agent.contract.child_jobs import ConvertJob
from agent.contract.conversion_graph import Edge
from agent.contract.failures import (
    BadModel,
    ConversionFailed,
    ConverterFault,
    RuntimeMissing,
    UnsupportedFormat,
    UnsupportedOperator,
    UnsupportedShape,
)
from agent.contract.trial import TensorSpec
from agent.formats.onnx import dimensions_of, outputs_of
from agent.formats.onnx_old_inputs import write_without_listed_weights
from agent.runtimes.converter import Calibration, ConvertedArtifact, ConverterBase
from agent.runtimes.ncnn.weights import fp16_share
from agent.runtimes.refusals import sentence
from agent.runtimes.validation import require_shapes

NOTES = "notes.json"
NO_BATCH = 233
"""pnnx's mark of a tensor without a batch axis."""

_TELLING = re.compile(r"fail|error|not support|unsupported|expect|unknown|cannot|abort", re.I)
_TYPES = {"float32": "f32", "int32": "i32", "int64": "i64", "bool": "bool"}
_UNKNOWN = (
    re.compile(r"No Op registered for (\S+)"),
    re.compile(r"Fatal error: (\S+?)\(-?\d+\) is not a registered"),
)
_INPUT = re.compile(r'ex\.input\("in(\d+)", ncnn\.Mat\(\S+?\.numpy\(\), batch_index=(\d+)\)')
_OUTPUT = re.compile(r"out(\d+)\.numpy\(batch_index=(\d+)\)")


class NcnnPnnx(ConverterBase):
    name = "ncnn_pnnx"
    edges = tuple(Edge("ncnn_pnnx", ("onnx", "fp32"), ("ncnn", p)) for p in ("fp32", "fp16"))
    modules = ("ncnn", "pnnx")
    keeps = ("layout", "names")

    def __init__(self) -> None:
        super().__init__()
        self._half = False

    def configure(self, job: ConvertJob) -> None:
        super().configure(job)
        self._half = job.runtime.precision == "fp16"

    def convert(self, source: Path, folder: Path, calibration: Calibration) -> ConvertedArtifact:  # noqa: ARG002
        dimensions, outputs = dimensions_of(source), outputs_of(source)
        inputs = _wanted(self._inputs, dimensions)
        inside = folder / "source.onnx"  # pnnx writes beside its input
        if not write_without_listed_weights(source, inside):
            os.symlink(str(source.resolve()), str(inside))
        _run(inside, inputs, self._half)
        axes = _batch_axes(folder / "source_ncnn.py", len(inputs), len(outputs))
        _require_ranks(inputs, axes[0])
        artifact = folder / "model.param"
        os.rename(str(folder / "source.ncnn.param"), str(artifact))
        os.rename(str(folder / "source.ncnn.bin"), str(folder / "model.bin"))
        for left in folder.glob("source*"):
            left.unlink()
        ncnn = importlib.import_module("ncnn")
        require_layers(ncnn, artifact)
        self._require_loadable(ncnn, artifact)
        notes = {
            "inputs": [
                _described(spec, dimensions[spec.name], axis)
                for spec, axis in zip(inputs, axes[0])  # noqa: B905 - newer than 3.8
            ],
            "outputs": [
                {"name": name, "batch_axis": axis}
                for name, axis in zip(outputs, axes[1])  # noqa: B905
            ],
            "sizes": {n: os.path.getsize(str(folder / n)) for n in ("model.param", "model.bin")},
        }
        (folder / NOTES).write_text(json.dumps(notes, indent=1), "utf-8")
        words = "weights fp32"
        if self._half:
            share = fp16_share(artifact)
            words = "weights fp16" + (
                ", " + share.required(self.name).words()
                if share
                else " where pnnx stores them so (how many is not known: a layer that is not read)"
            )
        return ConvertedArtifact(artifact, "%s %s, %s" % (self.name, _version(), words))

    def _require_loadable(self, ncnn: Any, artifact: Path) -> None:
        """Raises ``ConverterFault``, in the words that ncnn prints."""
        net = ncnn.Net()
        with tempfile.TemporaryFile() as said:
            before = os.dup(2)
            os.dup2(said.fileno(), 2)
            try:
                failed = net.load_param(str(artifact)) or net.load_model(
                    str(artifact.with_name("model.bin"))
                )
            finally:
                os.dup2(before, 2)
                os.close(before)
            said.seek(0)
            words = sentence(said.read().decode("utf-8", "replace"))
        if failed:
            raise ConverterFault(
                "pnnx", "ncnn cannot load it: %s" % (words or "it gives no reason")
            )


def _wanted(
    inputs: Sequence[TensorSpec], dimensions: Dict[str, Tuple[Any, ...]]
) -> List[TensorSpec]:
    """The model's inputs in the file's order; weights that it lists among them are left out.

    Raises:
        UnsupportedShape, UnsupportedFormat.
    """
    wanted = {spec.name for spec in inputs}
    own = [
        TensorSpec(name, "", tuple(d if isinstance(d, int) else -1 for d in shape))
        for name, shape in dimensions.items()
        if name in wanted or not wanted & set(dimensions)
    ]
    require_shapes(inputs, own)
    by_name = {spec.name: spec for spec in inputs}
    found = [by_name[spec.name] for spec in own]
    for spec in found:
        if spec.dtype not in _TYPES:
            raise UnsupportedFormat("ncnn: input %s has element type %s" % (spec.name, spec.dtype))
    return found


def _require_ranks(inputs: Sequence[TensorSpec], axes: Sequence[int]) -> None:
    for spec, axis in zip(inputs, axes):  # noqa: B905 - strict= is newer than 3.8
        if len(spec.shape) - (axis != NO_BATCH) not in (1, 2, 3, 4):
            raise UnsupportedShape(
                "ncnn: input %s has %d dimensions; it takes 1 to 4 beside the batch"
                % (spec.name, len(spec.shape))
            )


def _run(source: Path, inputs: Sequence[TensorSpec], half: bool) -> None:
    """Run pnnx. Raises ``UnsupportedOperator``, ``BadModel``, ``ConversionFailed``."""
    shapes = ["[%s]%s" % (",".join(map(str, s.shape)), _TYPES[s.dtype]) for s in inputs]
    words = [str(_program()), source.name, "fp16=%d" % half, "inputshape=" + ",".join(shapes)]
    done = subprocess.run(
        words,
        cwd=str(source.parent),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    output = done.stdout.decode("utf-8", "replace")
    for pattern in _UNKNOWN:
        found = pattern.search(output)
        if found:
            raise UnsupportedOperator("pnnx", found.group(1))
    if "read_proto_from_binary failed" in output or "Missing opset in the model" in output:
        raise BadModel("pnnx cannot read the ONNX model")
    if done.returncode or not source.with_name("source.ncnn.param").exists():
        raise ConversionFailed("pnnx %s" % _how_it_ended(done.returncode, output))


def _how_it_ended(status: int, output: str) -> str:
    """How the program ended, and what it said: lines that tell of a failure, else its last ones."""
    how = "ended with status %d" % status
    if status < 0:
        how = "crashed (%s)" % signal.Signals(-status).name
    elif not status:
        how = "ended well, and wrote no network"
    lines = [line.strip() for line in output.splitlines() if line.strip() and "[W:" not in line]
    passes = [line for line in lines if line.startswith("#####")]
    telling = [line for line in lines if _TELLING.search(line)]
    said = sentence("; ".join(telling[-3:] or lines[-3:]))
    where = " in %s" % passes[-1].strip("# ") if passes else " before its first pass"
    if not lines:
        return how + where + "; it said nothing"
    return "%s%s; its %s: %s" % (how, where, "words" if telling else "last words", said)


def _program() -> Path:
    """The program in the wheel, found without importing the package, which would import torch."""
    found = importlib.util.find_spec("pnnx")
    folders = list(found.submodule_search_locations or ()) if found else []
    for folder in folders:
        path = Path(folder, "pnnx")
        if path.is_file():
            return path
    raise RuntimeMissing("the pnnx program is not here", "install it with pip install pnnx")


def _version() -> str:
    import importlib.metadata as metadata

    return metadata.version("pnnx")


def _batch_axes(script: Path, inputs: int, outputs: int) -> Tuple[List[int], List[int]]:
    """The batch axis of each input and output, read from the example script that pnnx writes.

    Raises:
        ConversionFailed: the network has not the model's inputs and outputs.
    """
    text = script.read_text("utf-8")
    found = [dict(pattern.findall(text)) for pattern in (_INPUT, _OUTPUT)]
    for numbered, count, what in ((found[0], inputs, "inputs"), (found[1], outputs, "outputs")):
        if set(numbered) != {str(n) for n in range(count)}:
            raise ConversionFailed(
                "pnnx made a network of %d %s; the model has %d" % (len(numbered), what, count)
            )
    return (
        [int(found[0][str(n)]) for n in range(inputs)],
        [int(found[1][str(n)]) for n in range(outputs)],
    )


def require_layers(ncnn: Any, param: Path) -> None:
    """Check that ncnn has every layer: pnnx passes unknown ones on, and ncnn only says that it
    failed.

    Raises:
        UnsupportedOperator: a layer type that this ncnn does not have.
        BadModel: not an ncnn network.
    """
    lines = param.read_text("utf-8", "replace").splitlines()
    if lines[:1] != ["7767517"]:
        raise BadModel("%s is no ncnn network: it does not begin with 7767517" % param.name)
    for line in lines[2:]:
        kind = line.split()[0] if line.split() else ""
        if kind and ncnn.layer_to_index(kind) < 0:
            raise UnsupportedOperator("ncnn", kind)


def _described(spec: TensorSpec, dimensions: Sequence[Any], axis: int) -> Mapping[str, Any]:
    """Notes on an input. A free batch stays free, ncnn's networks do not hold it; other dimensions
    are fixed."""
    shape = list(spec.shape)
    if axis == 0 and not isinstance(dimensions[0], int):
        shape[0] = -1
    return {"name": spec.name, "dtype": spec.dtype, "shape": shape, "batch_axis": axis}


CONVERTER = NcnnPnnx
