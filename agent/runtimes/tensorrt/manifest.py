"""TensorRT: its libraries come from NVIDIA only."""

from __future__ import annotations

from agent.runtimes.manifest import Runtime

RUNTIME = Runtime(
    "tensorrt",
    remedy="TensorRT's libraries come from NVIDIA (JetPack, or its tensorrt packages), not from a "
    "package index: install them there, then",
)
