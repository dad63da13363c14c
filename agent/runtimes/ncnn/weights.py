"""How many of an ncnn network's weights are in FP16, read from ``model.param`` and ``model.bin``.

Formats: the pages "param and model file structure" and "operators" of ncnn's developer guide. A
tensor that may be in FP16 begins with four bytes: 0x01306B47 for FP16, zero for FP32; its data end
at a multiple of four bytes. Others are plain FP32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional, Tuple

from agent.contract.precision_share import PrecisionShare

_HALF = 0x01306B47
_NO_LAYER = frozenset(["Input", "Split", "Noop"])

Tensors = List[Tuple[int, bool]]
"""(elements, whether they begin with the four bytes) of each tensor of a layer, in order."""


def fp16_share(param: Path) -> Optional[PrecisionShare]:
    """Layers and weights in FP16, without multiply-accumulates: the files hold no shapes. ``None``:
    the network has a layer whose weights are not known here."""
    data = param.with_name("model.bin").read_bytes()
    at, layers, changed_layers, weights, changed = 0, 0, 0, 0, 0
    for line in param.read_text("utf-8").splitlines()[2:]:
        words = line.split()
        if not words or words[0] in _NO_LAYER:
            continue
        layers += 1
        half = 0
        for count, flagged in _tensors(words[0], _parameters(words)):
            kind = int.from_bytes(data[at : at + 4], "little") if flagged else 0
            at += 4 if flagged else 0
            if kind not in (0, _HALF):
                return None
            at += (count * 2 + 3) // 4 * 4 if kind == _HALF else count * 4
            weights += count
            half += count if kind == _HALF else 0
        changed += half
        changed_layers += half > 0
    if at != len(data):
        return None
    return PrecisionShare("fp16", (changed_layers, layers), (changed, weights))


def _parameters(words: List[str]) -> Dict[int, int]:
    """``0=4 1=3 …``; arrays and fractions hold no sizes."""
    blobs = int(words[2]) + int(words[3])
    pairs = [word.split("=") for word in words[4 + blobs :] if "=" in word]
    return {int(key): int(value) for key, value in pairs if _is_whole(key) and _is_whole(value)}


def _is_whole(text: str) -> bool:
    return text.lstrip("-").isdigit()


def _convolution(p: Mapping[int, int]) -> Tensors:
    return [(p.get(6, 0), True), (p.get(0, 0) * p.get(5, 0), False)]


def _dense(p: Mapping[int, int]) -> Tensors:
    return [(p.get(2, 0), True), (p.get(0, 0) * p.get(1, 0), False)]


def _embed(p: Mapping[int, int]) -> Tensors:
    return [(p.get(3, 0), True), (p.get(0, 0) * p.get(2, 0), False)]


def _normalised(p: Mapping[int, int]) -> Tensors:
    return [(p.get(0, 0) * p.get(2, 1), False)] * 2


def _memory(p: Mapping[int, int]) -> Tensors:
    size = 1
    for key in (0, 1, 2, 11):
        size *= p.get(key, 0) or 1
    return [(size, p.get(21, 1) == 0)]


def _recurrent(gates: int, biases: int) -> Callable[[Mapping[int, int]], Tensors]:
    def tensors(p: Mapping[int, int]) -> Tensors:
        units, ways = p.get(0, 0), 2 if p.get(2, 0) == 2 else 1
        return [
            (p.get(1, 0), True),
            (units * biases * ways, True),
            (units * units * gates * ways, True),
        ]

    return tensors


_LAYERS: Dict[str, Callable[[Mapping[int, int]], Tensors]] = {
    **dict.fromkeys(
        (
            place + name + end
            for place in ("Convolution", "Deconvolution")
            for name in ("", "DepthWise")
            for end in ("", "1D", "3D")
        ),
        _convolution,
    ),
    "InnerProduct": _dense,
    "Embed": _embed,
    "BatchNorm": lambda p: [(p.get(0, 0), False)] * 4,
    "LayerNorm": _normalised,
    "InstanceNorm": _normalised,
    "GroupNorm": lambda p: [(p.get(1, 0) * p.get(3, 1), False)] * 2,
    "PReLU": lambda p: [(p.get(0, 0), False)],
    "Scale": lambda p: [(p.get(0, 0), False), (p.get(0, 0) * p.get(1, 0), False)],
    "MemoryData": _memory,
    "LSTM": _recurrent(4, 4),
    "GRU": _recurrent(3, 4),
    "RNN": _recurrent(1, 1),
}


def _tensors(layer: str, parameters: Mapping[int, int]) -> Tensors:
    """A layer that is not listed has none; the end of the file then tells whether that is right."""
    known = _LAYERS.get(layer)
    return known(parameters) if known else []
