"""What a file ``tests/contract/runtimes/test_NAME.py`` declares: the runtime's cases for the common
suites of backends and converters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from support.runner_child import write_onnx


def write_onnx_pair(folder: Path) -> tuple[Path, Path]:
    """The small model as ONNX: of free batch, and of batch 1."""
    return write_onnx(folder / "free.onnx", "N"), write_onnx(folder / "fixed.onnx", 1)


@dataclass(frozen=True)
class BackendCase:
    """A backend in the common suite.

    Attributes:
        form: a format that it loads as it is.
        module: what it imports; sessions are tested in process where that is installed.
        option: one of its options, and a value of it.
        write: writes the small model in that format: of free batch, and of batch 1.
        own_latency: the runtime reports a latency itself.
        reshapes_fixed: a model of batch 1 takes other batches too.
        own_names: the format names tensors as it likes, so inputs are taken in order.
        environment: ``NAME@VARIANT``, where several packages have the backend.
    """

    backend: str
    form: str
    module: str
    option: tuple[str, str]
    write: Callable[[Path], tuple[Path, Path]] = write_onnx_pair
    own_latency: bool = False
    reshapes_fixed: bool = False
    own_names: bool = False
    environment: str = ""

    @property
    def key(self) -> str:
        """The environment that it is tested in."""
        return self.environment or self.backend


@dataclass(frozen=True)
class ConverterCase:
    """A converter in the common suite of its source format, ``onnx`` or ``pt2``.

    Attributes:
        backend: runs what it makes, in ``precision`` and ``form``.
        files: what the artifact's folder holds.
        calibrated: it needs calibration data.
        tools: the environment that has the converter, where it is not the backend's.
        lacks: what it calls the operator ``lgamma``, which it does not have.
    """

    converter: str
    backend: str
    precision: str
    form: str
    files: frozenset[str]
    calibrated: bool = False
    source: str = "onnx"
    tools: str = ""
    lacks: str = "aten.lgamma"


@dataclass(frozen=True)
class RuntimeContract:
    """``other_converters``: those of the runtime that have tests of their own and no case of the
    common suite."""

    backends: tuple[BackendCase, ...] = ()
    converters: tuple[ConverterCase, ...] = ()
    other_converters: frozenset[str] = frozenset()
