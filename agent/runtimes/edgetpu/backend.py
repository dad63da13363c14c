"""Coral's Edge TPU, through the libedgetpu delegate in either TFLite interpreter, or through
Coral's ``pycoral``. Not yet run on hardware."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar, Dict, List, Sequence, Tuple

from agent.contract.device import RuntimeFacts, TargetFacts
from agent.contract.failures import (
    RuntimeMissing,
    UnsupportedFormat,
    UnsupportedOperator,
    UnsupportedTarget,
)
from agent.contract.trial import RuntimeRef, TensorSpec
from agent.formats.tflite import EDGETPU_OPERATOR, TfliteFile, read_model
from agent.formats.tflite_analysis import float_operators, is_compiled_for_edgetpu
from agent.runtimes.backend import Options, Wants
from agent.runtimes.edgetpu.devices import LAYOUTS, EdgeTpu, devices, installed_build, require_build
from agent.runtimes.tflite.session import (
    TfliteSession,
    interpreter_module,
    package,
    raise_named,
    version,
)
from agent.runtimes.validation import chosen, facts_of, require_precision

LIBRARY = "libedgetpu.so.1"
PROBE_S = 20.0

_TARGET = re.compile(r"edgetpu:(\d{1,2})")
_HOW = (
    "install Coral's package libedgetpu1-std (or -max for the higher clock) from its Debian"
    " repository, see coral.ai/docs/accelerator/get-started"
)
# Run in its own process: a libedgetpu that does not match the interpreter crashes it.
_PROBE = """
import importlib, json, sys
module, library = sys.argv[1:3]
interpreter = importlib.import_module(module)
try:
    for address in sys.argv[3:]:
        interpreter.load_delegate(library, {"device": address})
    answer = ""
except Exception as error:
    answer = "%s: %s" % (type(error).__name__, error)
sys.stdout.write("\\n" + json.dumps(answer) + "\\n")
sys.stdout.flush()
import os
os._exit(0)
"""


class EdgeTpuBackend:
    name = "edgetpu"
    accepts = ("edgetpu_tflite", "tflite")
    wants: ClassVar[Wants] = {"int8": (("edgetpu_tflite", "int8"),)}
    options: ClassVar[Options] = {
        "frequency": ("installed", "std", "max"),
        "interface": ("delegate", "pycoral"),
    }

    def import_runtime(self) -> str:
        return version(interpreter_module())

    def probe(self) -> RuntimeFacts:
        module = interpreter_module()
        found = devices()
        _try_library(module.__name__, [device.address for device in found])
        if not found:
            raise RuntimeMissing(
                "libedgetpu is there, but no Edge TPU is attached (none in /sys/class/apex, no USB"
                " device 1a6e:089a or 18d1:9302)",
                "plug it in; in a container, pass /dev/apex_0 or /dev/bus/usb through",
            )
        words = "libedgetpu %s, %s %s" % (installed_build(), package(module), version(module))
        return facts_of(
            self,
            version(module),
            tuple(
                TargetFacts("edgetpu:%d" % n, ("int8",), "%s, %s" % (device.description, words))
                for n, device in enumerate(found)
            ),
        )

    def load(
        self, artifact: Path, runtime: RuntimeRef, inputs: Sequence[TensorSpec] = ()
    ) -> TfliteSession:
        module = interpreter_module()
        options = chosen(self.name, self.options, runtime.options)
        require_precision(self.name, runtime.precision, tuple(self.wants))
        build = installed_build()
        require_build(options["frequency"], build)
        graph = read_model(artifact)
        require_compiled(graph)
        found = devices()
        device = _device(runtime.target, found)
        interpreter = _interpreter(module, artifact, device, options["interface"], runtime.threads)
        left = [op.name for op in graph.operators if op.name != EDGETPU_OPERATOR]
        words = "%s (%s), libedgetpu %s, %s %s by %s, %s on the CPU" % (
            runtime.target,
            device.description,
            build,
            package(module),
            version(module),
            options["interface"],
            "operators %s" % ", ".join(left) if left else "no operator",
        )
        layouts = compiled_layouts(artifact, graph)
        return TfliteSession(self.name, interpreter, graph, inputs, words, layouts)


def require_compiled(graph: TfliteFile) -> None:
    """Check that ``edgetpu_compiler`` made the file, and that it computes on integers only.

    Raises:
        UnsupportedFormat, UnsupportedOperator.
    """
    if not is_compiled_for_edgetpu(graph):
        raise UnsupportedFormat(
            "this file was not compiled for the Edge TPU (it has no %s); make one of a fully"
            " quantised .tflite with edgetpu_compiler, on an x86-64 builder" % EDGETPU_OPERATOR
        )
    floats = float_operators(graph)
    if floats:
        raise UnsupportedOperator(
            "edgetpu", floats[0], "it computes on floats; the network must be fully quantised"
        )


def compiled_layouts(artifact: Path, graph: TfliteFile) -> Dict[int, str]:
    """Tensor → layout, from the converter's notes: the compiled graph is a single operator, which
    hides the ones that tell. Empty for a file without notes."""
    try:
        noted = json.loads((artifact.resolve().parent / LAYOUTS).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return {}
    tensors = [*graph.inputs, *graph.outputs]
    return dict(zip(tensors, [*noted["inputs"], *noted["outputs"]]))  # noqa: B905 - newer than 3.8


def _device(target: str, found: Sequence[EdgeTpu]) -> EdgeTpu:
    match = _TARGET.fullmatch(target)
    if match is None or int(match.group(1)) >= len(found):
        known = ["edgetpu:%d" % n for n in range(len(found))]
        raise UnsupportedTarget("edgetpu", target, known)
    return found[int(match.group(1))]


def _interpreter(module: Any, artifact: Path, device: EdgeTpu, interface: str, threads: int) -> Any:
    if interface == "pycoral":
        return _pycoral().make_interpreter(str(artifact), device=device.address)
    try:
        delegate = module.load_delegate(LIBRARY, {"device": device.address})
    except (OSError, ValueError) as error:
        raise _missing(str(error)) from error
    try:
        return module.Interpreter(
            model_path=str(artifact),
            experimental_delegates=[delegate],
            num_threads=threads or None,
        )
    except (RuntimeError, ValueError) as error:
        raise_named("edgetpu", error)


def vendor_pycoral() -> bool:
    """Whether the installed ``pycoral`` is Coral's, by its files. Another project has that name in
    the public index: it is never imported, not even to check."""
    spec = importlib.util.find_spec("pycoral")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    return any(
        (Path(folder) / "utils" / "edgetpu.py").is_file()
        and any((Path(folder) / "pybind").glob("_pywrap_coral*"))
        for folder in folders
    )


def _pycoral() -> Any:
    """Coral's module. Raises ``RuntimeMissing``: there is none, or only the other project's."""
    if not vendor_pycoral():
        other = importlib.util.find_spec("pycoral") is not None
        raise RuntimeMissing(
            "the pycoral here is another project's" if other else "Coral's pycoral is not here",
            "install python3-pycoral from Coral's Debian repository (never pip install pycoral),"
            " or choose interface: delegate",
        )
    try:
        return importlib.import_module("pycoral.utils.edgetpu")
    except ImportError as error:
        raise _missing("Coral's pycoral cannot be imported (%s)" % error) from error


def _try_library(module: str, addresses: Sequence[str], library: str = LIBRARY) -> None:
    """Load the library for each device, in a child process, within ``PROBE_S`` seconds.

    Raises:
        RuntimeMissing: it is absent, was refused, hung or crashed; says which, and what to do.
    """
    code, answer = _run_probe([module, library, *(addresses or [":0"])])
    if code is None:
        raise _missing("loading %s did not end in %g s" % (library, PROBE_S))
    if code < 0:
        raise RuntimeMissing(
            "%s crashed %s with %s" % (library, module, signal.Signals(-code).name),
            "the two do not go together: take the libedgetpu built for this interpreter's"
            " TensorFlow version (stock 16.0 crashes tflite-runtime 2.12 and newer)",
        )
    if code:
        raise _missing("loading %s failed: %s" % (library, answer[-300:]))
    reason = _answer(answer)
    if reason and (addresses or not reason.startswith("ValueError")):
        # Without a device a present library refuses with a ValueError.
        raise _missing(reason)


def _answer(text: str) -> str:
    """The probe's answer, a JSON text; libraries may print before it and, at their end, after it.

    Raises:
        RuntimeMissing: there is none.
    """
    for line in reversed(text.splitlines()):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, str):
            return found
    raise _missing("loading it gave no answer: %s" % (text.strip()[-300:] or "nothing was said"))


def _run_probe(arguments: List[str]) -> Tuple[Any, str]:
    """Exit status (``None``: time-out) and its output: stdout, or stderr where it failed."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _PROBE, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=PROBE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, ""
    text = done.stderr if done.returncode else done.stdout
    return done.returncode, text.decode("utf-8", "replace")


def _missing(what: str) -> RuntimeMissing:
    return RuntimeMissing("no Edge TPU runtime: %s" % what, _HOW)


BACKEND = EdgeTpuBackend
