"""What a runtime's folder declares: its formats, and how an environment for it is built.

Each folder of this package has a ``manifest.py`` with one ``RUNTIME``. Standard library only,
Python 3.8 syntax: the worker and the controller read manifests, and neither imports a backend.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Mapping, Optional, Tuple

from agent.contract.trial import Options

Minor = Tuple[int, int]

NUMPY = "numpy==2.4.6"
ONNX = "onnx==1.23.2"
"""Tested pins that several runtimes have beside them."""


@dataclass(frozen=True)
class Format:
    """A format that a model's file may be in.

    Attributes:
        suffix: how the names of such files end; runtimes go by it.
        backend: computes the FP32 reference of such a source; empty where no machine can.
        options: options of that backend that keep it from optimising anything away.
        how: these options in words.
        precisions: the precisions that such a file may be in.
        registered: whether a model may be registered from such a file.
        rank: where a model has files in several formats, the one of the lowest rank is preferred;
            it is also the one that a shared suffix means.
    """

    name: str
    suffix: str
    backend: str = ""
    options: Options = field(default_factory=dict)
    how: str = ""
    precisions: Tuple[str, ...] = ("fp32",)
    registered: bool = True
    rank: int = 5


@dataclass(frozen=True)
class Recipe:
    """How to build an environment in which one backend runs.

    Attributes:
        package: the package that the runtime's version is the version of.
        tested: the version that is installed where none is named.
        beside: further requirements, at the versions tested with it. They float beside another
            version of the package.
        older: requirements for versions of the package below a bound: ``((bound, requirements),)``.
        held: requirements that hold beside every version.
        variant: tells two recipes of one runtime apart (``NAME@VARIANT``).
        alone: the package is installed by pip, first and by itself.
        before: requirements that are installed by pip, before everything else.
        bare: requirements that are installed last, without their dependencies.
        newest_python: the newest Python that the package runs on.
        on: the package's name on other machines: ``{"aarch64": "tensorflow"}``.
        mib: about how much disk the environment takes.
        lock: the lock file in the runtime's folder that holds everything at the versions tested
            together. Another version of the package is not held to it: they may not go together.
    """

    package: str
    tested: str
    beside: Tuple[str, ...] = ()
    older: Tuple[Tuple[str, Tuple[str, ...]], ...] = ()
    held: Tuple[str, ...] = ()
    variant: str = ""
    alone: bool = False
    before: Tuple[str, ...] = ()
    bare: Tuple[str, ...] = ()
    newest_python: Optional[Minor] = None
    on: Mapping[str, str] = field(default_factory=dict)
    mib: int = 200
    lock: str = "requirements.lock"

    @property
    def pip_first(self) -> bool:
        """Whether pip takes the first step, whatever tool takes the others."""
        return self.alone or bool(self.before)


@dataclass(frozen=True)
class Runtime:
    """A runtime's manifest. ``name`` is its folder's name and its backend's.

    Attributes:
        formats: the formats that it brings in, those that only its converters make included.
        recipes: the environments that can be built for it; the first is the one meant where no
            variant is named. Empty: only the vendor installs it, and ``remedy`` says how.
        remedy: what to do where no environment can be built; ends before "run `benchfarm-agent …`".
        refused: packages that must never be installed for it, each with the reason and the remedy.
    """

    name: str
    formats: Tuple[Format, ...] = ()
    recipes: Tuple[Recipe, ...] = ()
    remedy: str = ""
    refused: Dict[str, str] = field(default_factory=dict)
