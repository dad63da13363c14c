"""``torch.export`` programs (``.pt2``): load them without running code in them, describe them, fix
their shapes."""

from __future__ import annotations

import os
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, List, Sequence, Tuple

import numpy as np

from agent.contract.failures import (
    BadModel,
    UnsupportedFormat,
    UnsupportedOperator,
    UnsupportedShape,
)
from agent.contract.trial import TensorSpec
from agent.runtimes.pytorch import layouts
from agent.runtimes.validation import require_module, require_shapes

# Archive entries that run code when they are loaded: compiled libraries, pickled objects.
_RUNS_CODE = ("data/aotinductor/", "data/constants/custom_obj_", "data/constants/opaque_obj_")


def import_torch(remedy: str = "pip install torch") -> str:
    """Import torch and give its version. Raises ``RuntimeMissing``."""
    # torch.export.load falls back to full unpickling of some payloads; this makes torch refuse.
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    remedy = "install it with %s (a CPU build where there is no GPU)" % remedy
    require_module("torch.export", remedy)
    return str(require_module("torch", remedy).__version__)


def load(artifact: Path) -> Any:
    """The program in a file. Raises ``BadModel``, ``UnsupportedOperator``."""
    import_torch()
    import torch

    _refuse_code(artifact)
    try:
        return torch.export.load(str(artifact))
    except Exception as error:  # it passes on what its parsers raise
        message = str(error)
        if "torch.ops" in message or "_OpNamespace" in message:
            raise UnsupportedOperator("pytorch", _operator(message)) from error
        raise BadModel(
            "torch.export cannot load %s: %s" % (artifact.name, message[:500])
        ) from error


def _operator(message: str) -> str:
    return message.split("'")[-2] if message.count("'") >= 2 else message[:200]


def _refuse_code(artifact: Path) -> None:
    """Raises ``BadModel``: no archive, or one that would run code of its own when loaded."""
    try:
        with zipfile.ZipFile(str(artifact)) as archive:
            names = archive.namelist()
    except FileNotFoundError as error:
        raise BadModel("%s does not exist" % artifact.name) from error
    except zipfile.BadZipFile as error:
        raise BadModel("%s is no exported program: %s" % (artifact.name, error)) from error
    for name in names:
        if any(part in name for part in _RUNS_CODE):
            raise BadModel("%s holds %s, which runs code when loaded" % (artifact.name, name))


def inputs_of(program: Any) -> List[TensorSpec]:
    """The inputs that a caller passes, in order."""
    wanted = program.graph_signature.user_inputs
    nodes = {n.name: n for n in program.graph_module.graph.nodes if n.op == "placeholder"}
    return [_spec(nodes[name], True) for name in wanted if isinstance(name, str)]


_RANDOM = re.compile(r"\b(rand\w*|\w*dropout\w*|bernoulli\w*|multinomial|normal\w*|poisson)\b")


_IN_PLACE = re.compile(r"[a-z0-9]_(\.|$)")


def uncertain(program: Any) -> List[str]:
    """The operators that draw random numbers, and the buffers that the program writes."""
    targets = {str(n.target) for n in program.graph_module.graph.nodes if n.op == "call_function"}
    names = [name for name in sorted(targets) if _RANDOM.search(name.replace("aten.", "aten "))]
    return names + ["buffer %s" % name for name in _written(program)]


def _written(program: Any) -> List[str]:
    """The buffers that an inference writes: those that the signature names, or all where an
    operator writes in place, as programs that were exported for training do."""
    signature = program.graph_signature
    names = set(signature.buffers_to_mutate.values())
    calls = [n for n in program.graph_module.graph.nodes if n.op == "call_function"]
    if any(_IN_PLACE.search(str(node.target)) for node in calls):
        names.update(signature.buffers)
    return sorted(names)


def written_buffers(program: Any, module: Any) -> List[Tuple[Any, Any]]:
    """The buffers of ``module`` that an inference writes, each with a copy of what it holds now."""
    names = set(_written(program))
    return [(b, b.detach().clone()) for name, b in module.named_buffers() if name in names]


def outputs_of(program: Any) -> List[TensorSpec]:
    """The outputs, in order."""
    nodes = {n.name: n for n in program.graph_module.graph.nodes}
    return [_spec(nodes[name], False) for name in program.graph_signature.user_outputs]


def _spec(node: Any, an_input: bool) -> TensorSpec:
    name, value = node.name, node.meta["val"]
    if not hasattr(value, "dtype"):
        raise UnsupportedFormat("%s is no tensor but %r" % (name, value))
    dtype = str(value.dtype).replace("torch.", "")
    if not hasattr(np, dtype):
        raise UnsupportedFormat("%s has element type %s" % (name, dtype))
    # A free dimension is a symbol (SymInt), not an int.
    shape = tuple(d if isinstance(d, int) else -1 for d in value.shape)
    return TensorSpec(name, dtype, shape, layouts.layout(node, forward=an_input))


def renamed(own: Sequence[TensorSpec], inputs: Sequence[TensorSpec]) -> List[TensorSpec]:
    """``own`` with the registered names, matched by order where the names differ: a program's are
    those of its author's variables."""
    if len(own) != len(inputs) or {s.name for s in own} == {s.name for s in inputs}:
        return list(own)
    return [replace(spec, name=inputs[index].name) for index, spec in enumerate(own)]


def fixed(program: Any, wanted: Sequence[TensorSpec]) -> Any:
    """The program in the shapes of ``wanted`` (none wanted: its own), exported again where it has
    free dimensions.

    Raises:
        UnsupportedShape: it does not take those shapes, or a dimension stays free.
    """
    import torch

    own = inputs_of(program)
    declared = renamed(own, wanted)
    if wanted:
        require_shapes(wanted, declared)
    shapes = {spec.name: tuple(spec.shape) for spec in wanted}
    fixed_specs = [replace(s, shape=shapes.get(s.name, tuple(s.shape))) for s in declared]
    for spec in fixed_specs:
        if -1 in spec.shape:
            raise UnsupportedShape("input %s has a free dimension; give it a shape" % spec.name)
    if fixed_specs == declared:
        return program
    example = tuple(torch.zeros(s.shape, dtype=getattr(torch, s.dtype)) for s in fixed_specs)
    return torch.export.export(program.module(), example)
