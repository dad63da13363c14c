"""TensorFlow Lite models under ``ai-edge-litert`` (LiteRT) or the older ``tflite-runtime``.

Both count as versions of this one backend. The last tflite-runtime was 2.14; where a version number
could be either's, the target's description and the placement name the package.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar, Dict, List, Mapping, Sequence, Tuple

from agent.contract.device import RuntimeFacts, TargetFacts
from agent.contract.failures import BadOption, RuntimeMissing, UnsupportedPrecision
from agent.contract.trial import Option, RuntimeRef, TensorSpec
from agent.formats.tflite import read_model
from agent.formats.tflite_analysis import kind, precision
from agent.runtimes.backend import Options, Wants
from agent.runtimes.tflite.session import (
    TfliteSession,
    interpreter_module,
    package,
    raise_named,
    version,
)
from agent.runtimes.validation import chosen, facts_of, require_precision, require_target

DELEGATE = re.compile(
    r"(?:/(?:usr|usr/local|opt)/(?:[A-Za-z0-9_+-][A-Za-z0-9._+-]*/)*)?"
    r"lib[A-Za-z0-9_+-]*delegate[A-Za-z0-9_+-]*\.so(?:\.[0-9]+)*",
    re.IGNORECASE,
)
"""Loading a delegate runs its code, so only libraries are accepted that an administrator installed
where the system's loader or a vendor's package looks for them."""

_RESOLVERS = {
    ("on", "optimised"): "AUTO",
    ("off", "optimised"): "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    ("off", "reference"): "BUILTIN_REF",
}
_KINDS = {"dynamic_range": ", int8 weights and float activations", "mixed": ", partly int8"}


class Tflite:
    name = "tflite"
    accepts = ("tflite",)
    wants: ClassVar[Wants] = {p: (("tflite", p),) for p in ("fp32", "fp16", "int8")}
    options: ClassVar[Options] = {
        "xnnpack": ("on", "off"),
        "kernels": ("optimised", "reference"),
        "delegate": (),
    }

    def import_runtime(self) -> str:
        return version(interpreter_module())

    def probe(self) -> RuntimeFacts:
        module = interpreter_module()
        if not hasattr(module, "OpResolverType"):
            raise RuntimeMissing("%s is too old" % package(module), "install 2.5 or newer")
        words = "%s %s" % (package(module), version(module))
        return facts_of(self, version(module), (TargetFacts("CPU", tuple(self.wants), words),))

    def load(
        self, artifact: Path, runtime: RuntimeRef, inputs: Sequence[TensorSpec] = ()
    ) -> TfliteSession:
        module = interpreter_module()
        options, resolver = _options(runtime.options)
        require_precision(self.name, runtime.precision, tuple(self.wants))
        require_target(self.name, runtime.target, ("CPU",))
        graph = read_model(artifact)
        if precision(graph) != runtime.precision:
            raise UnsupportedPrecision("this file", runtime.precision, (precision(graph),))
        try:
            interpreter = module.Interpreter(
                model_path=str(artifact),
                experimental_delegates=_delegates(module, options["delegate"]),
                num_threads=runtime.threads or None,
                experimental_op_resolver_type=getattr(module.OpResolverType, resolver),
            )
        except (RuntimeError, ValueError) as error:
            raise_named(self.name, error)
        words = "CPU, %s %s, XNNPACK %s%s%s%s" % (
            package(module),
            version(module),
            options["xnnpack"],
            ", reference kernels" if options["kernels"] == "reference" else "",
            ", delegate %s" % options["delegate"] if options["delegate"] else "",
            _KINDS.get(kind(graph), ""),
        )
        return TfliteSession(self.name, interpreter, graph, inputs, words)


def _options(given: Mapping[str, Option]) -> Tuple[Dict[str, str], str]:
    """The options in force, and the op resolver for them.

    Raises:
        BadOption: an unknown key or value, two that exclude each other, or a library elsewhere than
            ``DELEGATE`` allows.
    """
    found = chosen(Tflite.name, Tflite.options, given)
    if found["kernels"] == "reference" and "xnnpack" not in given:
        found["xnnpack"] = "off"
    resolver = _RESOLVERS.get((found["xnnpack"], found["kernels"]))
    if resolver is None:
        raise BadOption("tflite option kernels: reference goes with xnnpack: off only")
    delegate = found["delegate"]
    if delegate and (not DELEGATE.fullmatch(delegate) or ".." in delegate):
        raise BadOption(
            "tflite option delegate is %r; it accepts a library called lib…delegate….so, by its"
            " name alone or below /usr or /opt" % delegate
        )
    return found, resolver


def _delegates(module: Any, library: str) -> List[Any]:
    if not library:
        return []
    try:
        return [module.load_delegate(library)]
    except (OSError, ValueError, AttributeError) as error:  # absent, refused, no delegate at all
        raise RuntimeMissing(
            "the delegate %s cannot be loaded (%s)" % (library, error),
            "install its vendor's package, or check the accelerator",
        ) from error


BACKEND = Tflite
