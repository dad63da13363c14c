"""Versions of CUDA, TensorRT and NVIDIA's driver, from files alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

from agent.contract.versions import version_key
from agent.facts import packages
from agent.system import files
from agent.system.errors import Unreadable

_CUDA = "usr/local/cuda"


def cuda(root: Path) -> str | None:
    """Version of ``/usr/local/cuda``; ``None``: it is not there. Raises ``Unreadable``."""
    folder = root / _CUDA
    text = files.text(folder / "version.json")
    if text:
        return parse_version_json(text)
    text = files.text(folder / "version.txt")  # up to CUDA 10
    if text:
        return parse_version_txt(text)
    text = files.text(folder / "include/cuda.h")  # installed from other packages
    if text:
        return parse_header(text)
    if folder.exists():
        raise Unreadable("/usr/local/cuda has neither version.json, version.txt nor cuda.h")
    return None


def parse_version_json(text: str) -> str:
    """Parse ``{"cuda": {"name": "CUDA SDK", "version": "12.6.11"}, …}``. Raises ``Unreadable``."""
    try:
        found = json.loads(text)["cuda"]["version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        found = None
    if not isinstance(found, str) or not found:
        raise Unreadable("/usr/local/cuda/version.json names no version")
    return found


def parse_version_txt(text: str) -> str:
    """Parse ``CUDA Version 10.2.300``. Raises ``Unreadable``."""
    found = re.search(r"CUDA Version ([0-9.]{1,20})", text)
    if found is None:
        raise Unreadable(f"/usr/local/cuda/version.txt says {text.strip()[:60]!r}")
    return found[1]


def parse_header(text: str) -> str:
    """Parse ``#define CUDA_VERSION 12060``, which is 12.6. Raises ``Unreadable``."""
    found = re.search(r"^#define CUDA_VERSION ([0-9]{4,6})\b", text, re.MULTILINE)
    if found is None:
        raise Unreadable("/usr/local/cuda/include/cuda.h defines no CUDA_VERSION")
    return f"{int(found[1]) // 1000}.{int(found[1]) % 1000 // 10}"


def tensorrt(root: Path) -> str | None:
    """Version by the package ``libnvinferN``, else by the library's file name."""
    versions = packages.installed(root, r"libnvinfer[0-9]+")
    if versions:
        return max(versions.values(), key=version_key).partition("-")[0]
    pattern = re.compile(r"libnvinfer\.so\.([0-9]+\.[0-9]+\.[0-9]+)")
    for library in files.entries(root, "usr/lib/*/libnvinfer.so.*"):
        named = pattern.fullmatch(library.name)
        if named:
            return named[1]
    return None


def driver(root: Path) -> str | None:
    """Version of the loaded driver; ``None``: none is loaded. Raises ``Unreadable``."""
    text = files.text(root / "proc/driver/nvidia/version")
    return parse_driver(text) if text else None


def parse_driver(text: str) -> str:
    """Parse ``NVRM version: NVIDIA UNIX [Open Kernel Module for] x86_64  535.129.03 …``.

    Raises ``Unreadable``.
    """
    found = re.search(r"^NVRM version: .*?\s([0-9]{2,4}(?:\.[0-9]{1,4}){1,2})\s", f"{text}\n", re.M)
    if found is None:
        raise Unreadable(f"/proc/driver/nvidia/version says {text.strip()[:60]!r}")
    return found[1]
