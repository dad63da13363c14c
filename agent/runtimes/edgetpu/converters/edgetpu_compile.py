"""Fully quantised TFLite to TFLite for the Edge TPU, by ``edgetpu_compiler``.

The compiler exists for x86-64 Debian only, so this runs on a builder, never on the ARM board. The
share of operators that were mapped is read from its log: a model may compile and yet run on the
CPU.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Dict, List, NamedTuple, Tuple

from agent.contract.conversion_graph import Edge
from agent.contract.failures import (
    ConversionFailed,
    RuntimeMissing,
    UnsupportedFormat,
    UnsupportedOperator,
)
from agent.formats.tflite import TfliteFile, read_model
from agent.formats.tflite_analysis import float_operators, input_layout, output_layout
from agent.runtimes.converter import Calibration, ConvertedArtifact, ConverterBase, program
from agent.runtimes.edgetpu.devices import LAYOUTS

PROGRAM = "edgetpu_compiler"

_MAPPED = "Mapped to Edge TPU"
_ROW = re.compile(r"^([A-Z][A-Z0-9_a-z-]*)\s+(\d+)\s{2,}(\S.*?)\s*$", re.MULTILINE)


class CompilerLog(NamedTuple):
    """The compiler's output. ``unmapped``: (operator, count, the compiler's reason)."""

    version: str
    mapped: int
    total: int
    subgraphs: int
    unmapped: Tuple[Tuple[str, int, str], ...]
    off_chip: str

    @property
    def share(self) -> float:
        """Share of operators that are mapped, 0 to 1."""
        return self.mapped / self.total if self.total else 0.0


class EdgetpuCompile(ConverterBase):
    name = "edgetpu_compile"
    edges = (Edge("edgetpu_compile", ("tflite", "int8"), ("edgetpu_tflite", "int8")),)
    modules = ()
    commands = (PROGRAM,)
    keeps = ("layout", "names")

    def convert(self, source: Path, folder: Path, calibration: Calibration) -> ConvertedArtifact:  # noqa: ARG002
        graph = _checked(source)
        compiler = program(PROGRAM)
        if not compiler:
            raise RuntimeMissing(
                "%s is not on this machine" % PROGRAM,
                "it runs on x86-64 Debian or Ubuntu only: install the package edgetpu-compiler of"
                " Coral's Debian repository on a builder, see coral.ai/docs/edgetpu/compiler",
            )
        copy = folder / "model.tflite"  # the output is named after the input
        shutil.copyfile(str(source), str(copy))
        try:
            done = subprocess.run(
                [compiler, "-s", "-o", str(folder), str(copy)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
        finally:
            copy.unlink()
        log = parsed(done.stdout.decode("utf-8", "replace"), done.returncode)
        artifact = folder / "model_edgetpu.tflite"
        if not artifact.exists():
            raise ConversionFailed("%s wrote no %s" % (PROGRAM, artifact.name))
        (folder / LAYOUTS).write_text(json.dumps(_layouts(graph)), encoding="ascii")
        return ConvertedArtifact(artifact, step(log))


def _checked(source: Path) -> TfliteFile:
    """The source's graph, checked: the compiler would only call it an invalid model.

    Raises:
        BadModel, UnsupportedOperator, UnsupportedFormat.
    """
    graph = read_model(source)
    floats = float_operators(graph)
    if floats:
        raise UnsupportedOperator(
            "edgetpu", floats[0], "it computes on floats; quantise the whole network to int8"
        )
    free = [graph.tensors[n].name for n in graph.inputs if -1 in graph.tensors[n].shape]
    if free:
        raise UnsupportedFormat("the Edge TPU takes fixed shapes only; %s has a free one" % free[0])
    return graph


def _layouts(graph: TfliteFile) -> Dict[str, List[str]]:
    return {
        "inputs": [input_layout(graph, n) for n in graph.inputs],
        "outputs": [output_layout(graph, n) for n in graph.outputs],
    }


def parsed(text: str, status: int = 0) -> CompilerLog:
    """Parse the compiler's output (with ``-s``), in the documented format of versions 2.1 to 16.0.

    Raises:
        UnsupportedFormat: it refused the model as not quantised.
        ConversionFailed: it failed; holds the compiler's own words.
    """
    version = _found(r"^Edge TPU Compiler version (\S+)", text, "")
    if "Model not quantized" in text:
        raise UnsupportedFormat("edgetpu_compiler %s: the model is not fully quantised" % version)
    if status or "compiled successfully" not in text:
        words = [line for line in text.splitlines() if line.strip()][-4:]
        raise ConversionFailed("edgetpu_compiler %s: %s" % (version, "; ".join(words)[:400]))
    rows = [(name, int(count), status) for name, count, status in _ROW.findall(text)]
    mapped = sum(count for _, count, status in rows if status == _MAPPED)
    unmapped = tuple(row for row in rows if row[2] != _MAPPED)
    # The two sums are printed only where something is left on the CPU.
    total = int(_found(r"^Total number of operations: (\d+)", text, "0"))
    on_cpu = int(_found(r"^Number of operations that will run on CPU: (\d+)", text, "0"))
    on_tpu = int(_found(r"^Number of operations that will run on Edge TPU: (\d+)", text, "-1"))
    if on_tpu < 0:
        on_tpu, on_cpu = (mapped, total - mapped) if rows else (total - on_cpu, on_cpu)
    return CompilerLog(
        version=version,
        mapped=on_tpu,
        total=on_tpu + on_cpu,
        subgraphs=int(_found(r"^Number of Edge TPU subgraphs: (\d+)", text, "0")),
        unmapped=unmapped,
        off_chip=_found(r"^Off-chip memory used for streaming[^:]*: (\S+)", text, ""),
    )


def step(log: CompilerLog) -> str:
    """For people: share of operators mapped, which are not and why, weights that are streamed."""
    left = ", ".join("%d %s (%s)" % (count, name, why) for name, count, why in log.unmapped)
    streamed = log.off_chip not in ("", "0.00B")
    return "edgetpu_compiler %s: %d of %d operators mapped (%.0f %%)%s%s" % (
        log.version,
        log.mapped,
        log.total,
        100.0 * log.share,
        "; on the CPU: " + left if left else "",
        "; %s of weights streamed from the host" % log.off_chip if streamed else "",
    )


def _found(pattern: str, text: str, default: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    return match.group(1) if match else default


CONVERTER = EdgetpuCompile
