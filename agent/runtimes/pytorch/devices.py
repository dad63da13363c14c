"""PyTorch's devices as targets, and the module of an exported program on one of them."""

from __future__ import annotations

import os
import tempfile
from typing import Any, Dict, Tuple

from agent.contract.device import TargetFacts
from agent.contract.failures import UnsupportedTarget

KINDS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def facts() -> Tuple[TargetFacts, ...]:
    """The CPU, and each CUDA device that answers (not yet run on hardware)."""
    import torch

    words = torch.backends.cpu.get_cpu_capability()
    if torch.version.cuda and not torch.cuda.is_available():
        words += ", a CUDA %s build without a GPU" % torch.version.cuda
    found = [TargetFacts("CPU", _cpu_precisions(), words)]
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            precisions: Tuple[str, ...] = ("fp32", "fp16")
            if torch.cuda.is_bf16_supported():
                precisions += ("bf16",)
            name = torch.cuda.get_device_name(index)
            found.append(TargetFacts("CUDA:%d" % index, precisions, name))
    return tuple(found)


def _cpu_precisions() -> Tuple[str, ...]:
    """fp32, and the precisions that the CPU has instructions for: an emulated one says nothing."""
    import torch

    found: Tuple[str, ...] = ("fp32",)
    for precision in ("fp16", "bf16"):
        ask = getattr(torch.ops.mkldnn, "_is_mkldnn_%s_supported" % precision, None)
        if ask is not None and ask():
            found += (precision,)
    return found


def device_of(target: str) -> Tuple[str, Tuple[str, ...]]:
    """PyTorch's name of the target, and its precisions.

    Raises:
        UnsupportedTarget: no such device; names those there are.
    """
    known = {target.name: target for target in facts()}
    if target not in known:
        raise UnsupportedTarget("pytorch", target, known)
    return target.lower(), known[target].precisions


def full_precision() -> None:
    """Turn TF32 off: "fp32" would otherwise differ from that of other boards."""
    import torch

    if hasattr(torch.backends, "fp32_precision"):
        torch.backends.fp32_precision = "ieee"
    else:
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False


def module_of(program: Any, device: str, precision: str, channels_last: bool) -> Any:
    """The program's module on ``device``, with its weights, and the types in its graph, cast to
    ``precision``. Inputs and outputs keep their types: they are cast in each inference."""
    import torch

    if device != "cpu":
        full_precision()
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    module = program.module()
    if channels_last:
        module = module.to(memory_format=torch.channels_last)
    if precision == "fp32":
        return module
    kind = getattr(torch, KINDS[precision])
    module = module.to(kind)
    for node in module.graph.nodes:
        if node.kwargs.get("dtype") == torch.float32:
            node.update_kwarg("dtype", kind)
    module.recompile()
    return _cast(module, kind)


def _cast(module: Any, kind: Any) -> Any:
    import torch

    class Cast(torch.nn.Module):  # type: ignore[misc]
        """Casts fp32 inputs to ``kind``, and outputs back."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, *arguments: Any) -> Any:
            cast = [a.to(kind) if a.is_floating_point() else a for a in arguments]
            outputs = torch.utils._pytree.tree_leaves(self.inner(*cast))
            return [o.float() if o.is_floating_point() else o for o in outputs]

    return Cast()


class CompileCache:
    """The cache of ``torch.compile``: always a new folder in the job's working folder, so that the
    first load is cold."""

    def __init__(self) -> None:
        self._kept = ""

    def use(self, keep: bool) -> None:
        """Set the compiler's folder: the previous one with ``keep``, else a new one, and no other
        cache."""
        import torch._inductor.config as config

        if not (keep and self._kept):
            self._kept = tempfile.mkdtemp(prefix="compile-cache-", dir=os.getcwd())
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = self._kept
        config.force_disable_caches = not keep


def feeds(arrays: Dict[str, Any], order: Any, device: str, channels_last: bool) -> Any:
    """The arrays as tensors on ``device``, in the module's memory format."""
    import torch

    found = [torch.from_numpy(arrays[name]) for name in order]
    if device != "cpu":
        found = [tensor.to(device) for tensor in found]
    if channels_last:
        found = [
            t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t for t in found
        ]
    return found
