"""``torch.export`` program to an ExecuTorch program, for XNNPACK or ExecuTorch's own kernels.

Beside ``model.pte`` lies ``notes.json``: the names of inputs and outputs, which a ``.pte`` does not
hold, and how much of the network the delegate took.
"""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

from agent.contract.child_jobs import ConvertJob
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
from agent.runtimes.validation import require_target

OPTIONS: Mapping[str, Tuple[str, ...]] = {"delegate": ("xnnpack", "portable")}
NOTES = "notes.json"

_NOT_CORE = re.compile(r"Operator torch\._ops\.(\S+) is not in Core ATen opset")
_NO_KERNEL = re.compile(r"Missing out variants: \{(.+?)\}")
_MIXED = re.compile(r"Operator: <EdgeOpOverload: (\S+?)>")


class ExecuTorchLower(ConverterBase):
    name = "executorch_lower"
    edges = (Edge("executorch_lower", ("pt2", "fp32"), ("executorch_pte", "fp32")),)
    modules = ("executorch", "torch")
    keeps = ("layout", "names")
    options = OPTIONS

    def configure(self, job: ConvertJob) -> None:
        require_cpu(job)
        super().configure(job)

    def convert(self, source: Path, folder: Path, calibration: Calibration) -> ConvertedArtifact:  # noqa: ARG002
        program = exported_program.load(source)
        try:
            fixed = exported_program.fixed(program, self._inputs)
            how = lower(fixed, self._options["delegate"], folder, program)
        except Exception as error:  # torch and executorch each raise their own
            raise named(self.name, error) from error
        return ConvertedArtifact(folder / "model.pte", "%s %s, %s" % (self.name, version(), how))


def require_cpu(job: ConvertJob) -> None:
    """Raises ``UnsupportedTarget``."""
    require_target("executorch", job.runtime.target, ("CPU",))


def version() -> str:
    found: str = importlib.import_module("executorch.version").__version__
    return found.split("+")[0]


def lower(program: Any, delegate: str, folder: Path, source: Any) -> str:
    """Write ``program`` as ``.pte`` into ``folder``, and notes with the names of ``source``, the
    program that it was made of. Returns how it will run, for people."""
    from executorch.devtools.backend_debug import get_delegation_info
    from executorch.exir import to_edge_transform_and_lower

    edge = to_edge_transform_and_lower(program, partitioner=_partitioners(delegate))
    found = get_delegation_info(edge.exported_program().graph_module)
    delegated = found.num_delegated_nodes
    left = _computing(edge.exported_program().graph_module)
    how = placement(delegate, delegated, left)
    made = edge.to_executorch()
    (folder / "model.pte").write_bytes(made.buffer)
    notes = {
        "inputs": [spec.name for spec in exported_program.inputs_of(source)],
        "outputs": [spec.name for spec in exported_program.outputs_of(source)],
        "placement": how,
    }
    (folder / NOTES).write_text(json.dumps(notes, indent=1), "utf-8")
    return how


def _partitioners(delegate: str) -> List[Any]:
    if delegate == "portable":
        return []
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

    return [XnnpackPartitioner()]


def _computing(graph_module: Any) -> Dict[str, int]:
    """Operator → its number outside of delegates, without those that only unpack a tuple."""
    found: Dict[str, int] = {}
    for node in graph_module.graph.nodes:
        if node.op != "call_function":
            continue
        name = str(getattr(node.target, "__name__", node.target))  # aten.mean.dim
        if name not in ("getitem", "executorch_call_delegate"):
            name = name.split(".")[1] if "." in name else name
            found[name] = found.get(name, 0) + 1
    return found


def placement(delegate: str, delegated: int, left: Dict[str, int]) -> str:
    """What runs where, for people."""
    if delegate == "portable":
        return "ExecuTorch's own kernels"
    if not left:
        return "XNNPACK, all %d nodes" % delegated
    own = ", ".join("%d %s" % (count, name) for name, count in sorted(left.items()))
    return "XNNPACK %d nodes, ExecuTorch's own kernels %s" % (delegated, own)


def named(converter: str, error: Exception) -> Exception:
    """The named error that an error of torch or executorch means."""
    if is_ours(error):
        return error
    message = str(error)
    for pattern in (_NOT_CORE, _NO_KERNEL, _MIXED):
        found = pattern.search(message)
        if found:
            return UnsupportedOperator("executorch", found.group(1).strip("'\""))
    return failed(converter, error)


CONVERTER = ExecuTorchLower
