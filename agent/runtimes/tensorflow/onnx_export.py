"""ONNX models that another tool has made: check them, save them, name their tensors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Iterator, Sequence, Tuple

from agent.contract.failures import ConversionFailed, UnsupportedOperator, listed
from agent.contract.trial import TensorSpec

OPSET = 17
"""Every supported runtime reads it, the oldest included; tf2onnx writes up to 18."""

_LARGEST = 2**31 - 2**20
"""What one protobuf message may hold; above it the weights go into a file beside the model."""


def save(model: Any, artifact: Path, tool: str) -> None:
    """Save ``model``. Raises ``UnsupportedOperator``: an operator that the tool did not convert."""
    import onnx

    for node in _nodes(model.graph):
        if node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type, OPSET, ""):
            raise UnsupportedOperator(tool, node.op_type, "it has no rule for it (%s)" % node.name)
    onnx.save(model, str(artifact), save_as_external_data=model.ByteSize() > _LARGEST)


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                yield from _nodes(inner)


def renamed(
    specs: Sequence[TensorSpec], own: Sequence[TensorSpec], values: Sequence[Any]
) -> Tuple[TensorSpec, ...]:
    """``specs``, in the source's order, with the ONNX model's names.

    Args:
        own: the same specs in the order in which the tool got them.
        values: the ONNX model's inputs or outputs, in that order too.

    Raises:
        ConversionFailed: the tool dropped one on which nothing depends.
    """
    if len(own) != len(values):
        raise ConversionFailed(
            "of %s the ONNX model has %s"
            % (listed(s.name for s in own), listed(v.name for v in values))
        )
    names = {spec.name: value.name for spec, value in zip(own, values)}  # noqa: B905
    return tuple(replace(spec, name=names[spec.name]) for spec in specs)
