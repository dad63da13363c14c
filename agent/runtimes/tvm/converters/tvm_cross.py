"""ONNX to a TVM library for boards of another architecture, on a builder.

The library is like those of ``tvm_compile``; on the board TVM's small runtime runs it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Tuple

from agent.contract.child_jobs import ConvertJob
from agent.contract.conversion_graph import Edge
from agent.runtimes.backend import Options
from agent.runtimes.tvm.converters.tvm_compile import OPTIONS, TvmCompile

MACHINE = "aarch64"


class TvmCross(TvmCompile):
    name = "tvm_cross"
    edges = tuple(
        Edge("tvm_cross", ("onnx", precision), ("tvm_library", "fp32"), 2.0)
        for precision in ("fp32", "int8")
    )
    where: ClassVar[Tuple[str, ...]] = ("builder:%s" % MACHINE,)
    options: ClassVar[Options] = {"opt": OPTIONS["opt"], "mcpu": OPTIONS["mcpu"]}

    def configure(self, job: ConvertJob) -> None:
        options = {**job.runtime.options, "cross": MACHINE}
        super().configure(replace(job, runtime=replace(job.runtime, options=options)))


CONVERTER = TvmCross
