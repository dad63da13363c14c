"""The protocol of a converter, and what converters share.

``agent/runtimes/NAME/converters/TOOL.py`` holds one class, named ``CONVERTER`` at its end; the file
is named like the converter. It imports its tool inside functions only.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import (
    ClassVar,
    Dict,
    Iterator,
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
from agent.runtimes.refusals import sentence
from agent.runtimes.validation import chosen


class Calibration(NamedTuple):
    """The inputs to calibrate on, and where they come from (for people)."""

    feeds: Feeds
    origin: str


class ConvertedArtifact(NamedTuple):
    """What a converter made.

    Attributes:
        artifact: what to load: a file, with its companions beside it, or a folder.
        step: what ran, for people.
        inputs: the artifact's, in the source's order, with the artifact's names, shapes and
            layouts; ``None``: the same as the source's.
        outputs: likewise.
    """

    artifact: Path
    step: str
    inputs: Optional[Tuple[TensorSpec, ...]] = None
    outputs: Optional[Tuple[TensorSpec, ...]] = None


class Converter(Protocol):
    """A conversion tool: from one (format, precision) to another."""

    name: ClassVar[str]
    edges: ClassVar[Tuple[Edge, ...]]
    needs_calibration: ClassVar[bool]
    modules: ClassVar[Tuple[str, ...]]
    """Top-level modules that it imports; all of them must be installed."""
    commands: ClassVar[Tuple[str, ...]]
    """Programs that it starts; all of them must be found by ``program``."""
    keeps: ClassVar[Tuple[str, ...]]
    """Properties of the source that the target still has: ``dynamic_shapes``, ``layout``,
    ``names``."""
    where: ClassVar[Tuple[str, ...]]
    """``device``: on the board that will run the result; ``builder``: on another machine."""
    options: ClassVar[Options]
    """The options of the runtime that it reads, with the values that they accept."""

    def convert(self, source: Path, folder: Path, calibration: Calibration) -> ConvertedArtifact:
        """Write the target's files into ``folder``, and nothing anywhere else.

        Raises ``BadModel``, ``Unsupported…``, ``ConversionFailed``.
        """


@runtime_checkable
class Configurable(Protocol):
    """A converter whose result depends on the job: options, target, shapes."""

    def configure(self, job: ConvertJob) -> None:
        """Read what it needs from the job, before ``convert``. Raises ``BadOption``."""


class ConverterBase:
    """Defaults of a converter: no calibration, no programs, any machine, no options.

    ``_options`` and ``_inputs`` are the job's: options in force, and the source's inputs.
    """

    name: ClassVar[str]
    needs_calibration = False
    commands: ClassVar[Tuple[str, ...]] = ()
    where: ClassVar[Tuple[str, ...]] = ("device", "builder")
    options: ClassVar[Options] = {}

    def __init__(self) -> None:
        self._options = chosen(self.name, self.options, {})
        self._inputs: Sequence[TensorSpec] = ()

    def configure(self, job: ConvertJob) -> None:
        """Raises ``BadOption``."""
        self._options = own_options(self.name, self.options, job)
        self._inputs = job.model.inputs


def own_options(name: str, own: Options, job: ConvertJob) -> Dict[str, str]:
    """The options of converter ``name`` in force: the job's, over the defaults.

    The job's other options are those of the backend. Raises ``BadOption``.
    """
    return chosen(name, own, {k: v for k, v in job.runtime.options.items() if k in own})


def is_ours(error: BaseException) -> bool:
    """Whether the error is one of this package, or ``MemoryError``: it is raised as it is."""
    return type(error).__module__.startswith("agent.") or isinstance(error, MemoryError)


def failed(converter: str, error: BaseException) -> ConversionFailed:
    """An error of a tool that we have no name for: its type, and the first line of its message."""
    words = [line.strip() for line in str(error).splitlines() if line.strip()] or [repr(error)]
    return ConversionFailed("%s: %s: %s" % (converter, type(error).__name__, sentence(words[0])))


@contextmanager
def conversion_errors(converter: str) -> Iterator[None]:
    """What a tool raises inside becomes ``ConversionFailed``, except ``MemoryError``."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # each tool, and the libraries below it, raise their own
        raise ConversionFailed("%s: %s" % (converter, sentence(error))) from error


def missing(converter: Converter) -> List[str]:
    """The converter's modules and programs that are not installed; imports none."""
    commands = [name for name in converter.commands if not program(name)]
    return missing_modules(converter.modules) + commands


def missing_modules(modules: Sequence[str]) -> List[str]:
    """The modules that are not installed; imports none."""
    return [name for name in modules if importlib.util.find_spec(name) is None]


_USUAL_PLACES = {"trtexec": ("/usr/src/tensorrt/bin/trtexec",)}
"""Where a vendor's package installs a program outside of the search path."""


def program(name: str) -> str:
    """The path of a program, empty where it is not installed."""
    found = (path for path in _USUAL_PLACES.get(name, ()) if os.access(path, os.X_OK))
    return shutil.which(name) or next(found, "")
