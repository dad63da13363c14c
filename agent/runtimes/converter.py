"""What a conversion tool must offer. One file of this package per tool, found by its name.

A file holds one class ``CONVERTER`` and imports its tool inside functions only.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from typing import (
    ClassVar,
    Dict,
    List,
    NamedTuple,
    Optional,
    Protocol,
    Sequence,
    Tuple,
    runtime_checkable,
)

from agent.contract.child_jobs import ConvertJob
from agent.contract.conversion_graph import Edge
from agent.contract.failures import ConversionFailed
from agent.contract.trial import TensorSpec
from agent.runtimes.backend import Feeds, Options
from agent.runtimes.validation import chosen


class Calibration(NamedTuple):
    """Feeds of the model's own shapes to calibrate on, and where they come from."""

    feeds: Feeds
    origin: str


class ConvertedArtifact(NamedTuple):
    """``artifact``: what to load (a file with its companions beside it, or a folder). ``step``:
    what ran, for people.

    ``inputs`` and ``outputs``: how the artifact's own differ from the source's, in the source's
    order, under the artifact's names, with its shapes and layouts; ``None``: as the source's.
    """

    artifact: Path
    step: str
    inputs: Optional[Tuple[TensorSpec, ...]] = None
    outputs: Optional[Tuple[TensorSpec, ...]] = None


class Converter(Protocol):
    name: ClassVar[str]
    edges: ClassVar[Tuple[Edge, ...]]
    needs_calibration: ClassVar[bool]
    modules: ClassVar[Tuple[str, ...]]
    """Top-level modules it imports; all must be there for it to be used."""
    commands: ClassVar[Tuple[str, ...]]
    """Programs it starts; all must be found (see ``program``)."""
    keeps: ClassVar[Tuple[str, ...]]
    """What of the source is still so in the target: ``dynamic_shapes``, ``layout``, ``names``."""
    where: ClassVar[Tuple[str, ...]]
    """``device``: on the board that will run it; ``builder``: on another machine for it."""
    options: ClassVar[Options]
    """Those of a runtime's options that it reads, each with what it accepts."""

    def convert(self, source: Path, folder: Path, calibration: Calibration) -> ConvertedArtifact:
        """Write the target's files into ``folder`` and nothing anywhere else.

        Raises ``BadModel``, ``Unsupported…``, ``ConversionFailed``.
        """


@runtime_checkable
class Configurable(Protocol):
    """A converter whose result depends on the runtime's options, the target or the shapes."""

    def configure(self, job: ConvertJob) -> None:
        """Take what it needs from the job, before ``convert``. Raises ``BadOption``."""


def own_options(name: str, own: Options, job: ConvertJob) -> Dict[str, str]:
    """Of the job's options those that converter ``name`` knows, over its first accepted values.

    The others are the backend's business. Raises ``BadOption``.
    """
    return chosen(name, own, {k: v for k, v in job.runtime.options.items() if k in own})


def is_ours(error: BaseException) -> bool:
    """It has its name already: an error of this package's, or want of memory."""
    return type(error).__module__.startswith("agent.") or isinstance(error, MemoryError)


def failed(converter: str, error: BaseException) -> ConversionFailed:
    """What a tool raised that has no name of ours: its kind and the first line it says."""
    words = [line.strip() for line in str(error).splitlines() if line.strip()] or [repr(error)]
    return ConversionFailed("%s: %s: %s" % (converter, type(error).__name__, words[0][:400]))


def missing(converter: Converter) -> List[str]:
    """The modules and commands that are not there, without importing any."""
    commands = [name for name in converter.commands if not program(name)]
    return missing_modules(converter.modules) + commands


def missing_modules(modules: Sequence[str]) -> List[str]:
    """Those that are not installed, without importing any."""
    return [name for name in modules if importlib.util.find_spec(name) is None]


_USUAL_PLACES = {"trtexec": ("/usr/src/tensorrt/bin/trtexec",)}
"""Where a vendor's package puts a program without putting it on the path."""


def program(name: str) -> str:
    """The path of a program that a converter starts, empty where there is none."""
    usual = (path for path in _USUAL_PLACES.get(name, ()) if os.access(path, os.X_OK))
    return shutil.which(name) or next(usual, "")
