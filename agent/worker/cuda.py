"""Builds of torch for NVIDIA's GPUs, on machines that have none."""

from __future__ import annotations


def unwanted(name: str, cuda: str, gpu: bool) -> str:
    """What to say of an environment whose torch was built for ``cuda``; empty: all is well."""
    if not cuda or gpu:
        return ""
    return (
        f"torch in {name} is a build for CUDA {cuda}, gigabytes larger, and this machine has no "
        f"NVIDIA GPU: for a CPU build run `benchfarm-agent runtimes remove {name}`, set "
        "PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu (or give wheels by "
        "--wheelhouse), and add it again"
    )
