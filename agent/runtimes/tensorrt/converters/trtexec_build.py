"""ONNX to a TensorRT engine by ``trtexec``, where ``tensorrt_build`` has no bindings to use.

It makes the same files: ``model.engine``, ``model.json`` and ``timing.cache``, and reuses a timing
cache in a folder next to the job's.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Sequence

from agent.contract.conversion_graph import Edge
from agent.contract.failures import BadModel, ConversionFailed, RuntimeMissing
from agent.contract.trial import TensorSpec
from agent.formats.onnx import dimensions_of
from agent.runtimes.converter import Calibration, ConvertedArtifact
from agent.runtimes.tensorrt import backend, trtexec
from agent.runtimes.tensorrt.converters import tensorrt_build
from agent.runtimes.tensorrt.trtexec_session import describe
from agent.runtimes.validation import require_shapes


class TrtexecBuild(tensorrt_build.EngineBuild):
    name = "trtexec_build"
    # Costs more than the bindings, whose errors say more.
    edges = tuple(
        Edge("trtexec_build", edge.source, edge.target, 1.5)
        for edge in tensorrt_build.TensorRtBuild.edges
    )
    modules = ()
    commands = (trtexec.PROGRAM,)

    def convert(self, source: Path, folder: Path, calibration: Calibration) -> ConvertedArtifact:
        core = backend.dla_core(self._target, self._precision)
        tool = trtexec.find()
        if tool is None:
            raise RuntimeMissing("neither TensorRT's bindings nor trtexec are here", backend.REMEDY)
        free = self._free(source)
        steps = []
        if self._precision == "fp16" and "--fp16" not in tool.flags:
            made = tensorrt_build.to_fp16(source, calibration)
            source = made.artifact
            steps.append(made.step)
        artifact, cache = folder / "model.engine", folder / tensorrt_build.TIMING_CACHE
        found = tensorrt_build.neighbouring_caches(self._neighbours)[:1]
        for path in found:
            shutil.copyfile(path, str(cache))
        command = trtexec.build_command(
            tool,
            source.absolute(),
            artifact.absolute(),
            cache.absolute(),
            self._inputs,
            self._precision,
            dla_core=core,
            tf32=self._options["tf32"] == "on",
            free=free,
        )
        try:
            try:
                trtexec.run(tool, command, folder)
            except trtexec.TrtexecFailed:
                if not found:
                    raise
                cache.unlink()  # of another version or board, it may be the reason
                found = []
                trtexec.run(tool, command, folder)
        except trtexec.TrtexecFailed as error:
            raise ConversionFailed("%s: %s" % (self.name, error)) from error
        (folder / "trtexec.log").unlink()
        if not artifact.is_file():
            raise ConversionFailed("trtexec %s ended well but saved no engine" % tool.version)
        describe(folder, self._inputs, free)
        steps.append("%s %s, %s" % (self.name, tool.version, self._target))
        steps.append("timing cache %s" % ("carried on" if found else "new"))
        return ConvertedArtifact(artifact, ", ".join(steps))

    def _free(self, source: Path) -> Sequence[str]:
        """The inputs whose shape the file leaves free: only these may be given a shape."""
        found = dimensions_of(source)
        if not self._inputs:
            raise BadModel("%s: trtexec needs to be told its inputs" % source.name)
        named = {spec.name for spec in self._inputs}
        own = [
            TensorSpec(name, "", tuple(d if isinstance(d, int) and d > 0 else -1 for d in shape))
            for name, shape in found.items()
            if name in named  # old files list their weights among the inputs
        ]
        require_shapes(self._inputs, own)
        return [spec.name for spec in own if -1 in spec.shape]


CONVERTER = TrtexecBuild
