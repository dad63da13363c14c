"""What to install for each backend: data, and the reading of ``NAME[@VARIANT][==VERSION]``."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.versions import fits, version_key
from agent.worker.errors import BadInput

Minor = tuple[int, int]
OLDEST_PYTHON: Minor = (3, 8)
"""What the runner's syntax allows."""


@dataclass(frozen=True)
class Recipe:
    """How to make an environment in which one backend runs.

    ``package`` is what its version is that of, ``tested`` the version taken where none is said.
    ``beside`` are further requirements at the versions tested with it: beside another version of
    the package they float. ``held`` hold beside every version. ``alone``: installed by pip, first
    and by itself; ``before``: so are these. ``bare``: installed last, without what they say that
    they need. ``on`` names the package on other machines. ``mib``: about what it takes.
    ``lock`` names the lock file that holds all else at the versions tested with it, none where
    another version is asked for: they may not go together.
    """

    backend: str
    package: str
    tested: str
    lock: str
    beside: tuple[str, ...] = ()
    older: tuple[tuple[str, tuple[str, ...]], ...] = ()
    held: tuple[str, ...] = ()
    variant: str = ""
    alone: bool = False
    before: tuple[str, ...] = ()
    bare: tuple[str, ...] = ()
    newest_python: Minor | None = None
    on: Mapping[str, str] = field(default_factory=dict)
    mib: int = 200

    @property
    def pip_first(self) -> bool:
        """Whether the first step is pip's, whatever tool takes the others."""
        return self.alone or bool(self.before)


NUMPY = "numpy==2.4.6"
TORCH = "2.13.0"
ONNX = "onnx==1.23.2"
XGBOOST = "xgboost-cpu; platform_machine == 'x86_64'"
TVM_BESIDE = (ONNX, NUMPY, "onnxruntime==1.31.1", "psutil", "cloudpickle", XGBOOST)

RECIPES: tuple[Recipe, ...] = (
    Recipe("onnxruntime", "onnxruntime", "1.31.1", "onnxruntime", (ONNX, NUMPY), mib=200),
    Recipe(
        *("openvino", "openvino", "2026.4.1", "openvino", ("nncf==3.4.0", ONNX, NUMPY)),
        older=(("2026", ("nncf<3",)),),  # nncf 3 names types that OpenVINO 2025 has not
        mib=550,
    ),
    # The first variant of a backend is the one meant where none is named.
    Recipe("tflite", "ai-edge-litert", "2.3.0", "litert", (NUMPY,), variant="litert", mib=150),
    # On numpy 2 it imports, and then dies in Interpreter().
    Recipe(
        *("tflite", "tflite-runtime", "2.14.0", "tflite-runtime"),
        held=("numpy<2",),
        variant="tflite-runtime",
        newest_python=(3, 11),
        mib=100,
    ),
    # ffi 0.1.15.post2 crashes in MetaSchedule; onnxruntime makes the int8 models that TVM takes.
    Recipe(
        *("tvm", "apache-tvm", "0.27.0", "tvm"),
        beside=TVM_BESIDE,
        held=("apache-tvm-ffi==0.1.14.post1",),
        mib=600,
    ),
    # The same with a linker for other architectures, which takes 400 MiB by itself.
    Recipe(
        *("tvm", "apache-tvm", "0.27.0", "tvm"),
        beside=(*TVM_BESIDE, "ziglang==0.17.0"),
        held=("apache-tvm-ffi==0.1.14.post1",),
        variant="cross",
        mib=1000,
    ),
    # Alone and by pip: so it takes the build that pip is configured for, and no CUDA build that
    # another requirement or tool would bring along.
    Recipe("pytorch", "torch", TORCH, "torch", (ONNX, NUMPY, "onnxscript"), alone=True, mib=900),
    # The same with the converter to TFLite, which needs jax and much else.
    Recipe(
        *("pytorch", "torch", TORCH, "torch", ("litert-torch==0.10.0", ONNX, NUMPY, "onnxscript")),
        variant="litert",
        alone=True,
        mib=1900,
    ),
    # Its wheels are linked to torch and do not say so.
    Recipe(
        *("executorch", "executorch", "1.5.1", "torch", (NUMPY,)),
        before=(f"torch=={TORCH}",),
        mib=1300,
    ),
    # pnnx says that it needs torch: its Python does, its program does not.
    Recipe("ncnn", "ncnn", "1.0.20261020", "ncnn", (NUMPY,), bare=("pnnx==20261020",), mib=200),
    Recipe(
        *("tensorflow", "tensorflow-cpu", "2.21.0", "tensorflow"),
        beside=("tf2onnx==1.17.0", ONNX, NUMPY),
        on={"aarch64": "tensorflow"},
        mib=1500,
    ),
)

_VENDORS = {
    "tensorrt": "TensorRT's libraries come from NVIDIA (JetPack, or its tensorrt packages), not "
    "from a package index: install them there, then",
    "edgetpu": "the Edge TPU needs Coral's libedgetpu1-std and a Python interpreter that has "
    "tflite-runtime or Coral's own pycoral: install them from Coral, then",
}
_REFUSED = {
    "pycoral": "the package of that name in the public index is another project and is never "
    "installed; Coral's own comes from Coral's package source: install it there, then run "
    "`benchfarm-agent runtimes add edgetpu --python PATH`",
}
_ORDER = re.compile(
    r"([a-z0-9_-]{1,40})(?:@([a-z0-9_-]{1,40}))?(?:==([0-9][A-Za-z0-9.+!_-]{0,60}))?"
)


@dataclass(frozen=True)
class Order:
    """A recipe and the version asked for."""

    recipe: Recipe
    version: str
    machine: str = field(default_factory=platform.machine)

    @property
    def label(self) -> str:
        """``tflite@tflite-runtime==2.14.0``: what ``read`` gives this order for."""
        variant = f"@{self.recipe.variant}" if self.recipe.variant else ""
        return f"{self.recipe.backend}{variant}=={self.version}"

    @property
    def main(self) -> str:
        """The requirement that gives the runtime itself."""
        recipe = self.recipe
        return f"{recipe.on.get(self.machine, recipe.package)}=={self.version}"

    @property
    def beside(self) -> tuple[str, ...]:
        """What goes beside it. Tested pins are dropped beside a version they were not tested with:
        they may not go together."""
        recipe = self.recipe
        if self.version == recipe.tested:
            return (*recipe.beside, *recipe.held)
        floating = map(_floating, recipe.beside)
        own = version_key(self.version)
        older = (r for below, some in recipe.older if own < version_key(below) for r in some)
        return (*floating, *older, *recipe.held)

    @property
    def lock(self) -> str:
        """The lock file that it is held to; empty for a version that was not tested."""
        return self.recipe.lock if self.version == self.recipe.tested else ""

    @property
    def steps(self) -> tuple[tuple[str, ...], ...]:
        """Requirements, one tuple for each call of the package tool."""
        first = self.recipe.before or ((self.main,) if self.recipe.alone else ())
        steps = (first, (self.main, *self.beside), self.bare)
        return tuple(step for step in steps if step)

    @property
    def bare(self) -> tuple[str, ...]:
        """What is installed without its dependencies; floats as ``beside`` does."""
        bare = self.recipe.bare
        return bare if self.version == self.recipe.tested else tuple(map(_floating, bare))

    @property
    def has_torch(self) -> bool:
        return any(r.split("==")[0] == "torch" for step in self.steps for r in step)


def _floating(requirement: str) -> str:
    return requirement if ";" in requirement else requirement.split("==")[0]


def read(text: str, machine: str = "") -> Order:
    """``NAME[@VARIANT][==VERSION]`` as an order.

    Raises:
        BadInput: not of that form, no such backend or variant, or one that cannot be built here;
        the message says what to do instead.
    """
    found = _ORDER.fullmatch(text.strip())
    if found is None:
        raise BadInput(
            f"runtime {text!r}: expected NAME, NAME==VERSION or NAME@VARIANT==VERSION, "
            "for example openvino==2026.4.1"
        )
    backend, variant, version = found.group(1), found.group(2) or "", found.group(3) or ""
    if backend in _REFUSED:
        raise BadInput(f"{backend}: {_REFUSED[backend]}")
    if backend in _VENDORS:
        raise BadInput(
            f"{backend}: {_VENDORS[backend]} run `benchfarm-agent runtimes add {backend} "
            "--python PATH` with the interpreter that has the vendor's bindings"
        )
    recipe = _choose(backend, variant, version)
    return Order(recipe, version or recipe.tested, machine or platform.machine())


def _choose(backend: str, variant: str, version: str) -> Recipe:
    """The named variant; else the one tested at that version; else the backend's first."""
    known = [r for r in RECIPES if r.backend == backend]
    if not known:
        names = ", ".join(dict.fromkeys(r.backend for r in RECIPES))
        raise BadInput(f"unknown backend {backend!r}; environments can be built for: {names}")
    if variant:
        named = [r for r in known if r.variant == variant]
        if not named:
            variants = ", ".join(r.variant for r in known if r.variant) or "none"
            raise BadInput(f"{backend} has no variant {variant!r}; it has: {variants}")
        return named[0]
    tested = [r for r in known if version and fits(r.tested, version)]
    return (tested or known)[0]


def is_first(recipe: Recipe) -> bool:
    """Whether a recipe is what its backend means where no variant is named."""
    return next(r for r in RECIPES if r.backend == recipe.backend) == recipe
