"""TensorFlow: Keras files, SavedModels, frozen and optimised graphs, as traced functions.

The timed call is a concrete function on existing tensors, or a session's prepared call; never
Keras' ``predict`` or ``model(x)``, which take ten times as long on a small network.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Sequence

from agent.contract.device import RuntimeFacts, TargetFacts
from agent.contract.failures import BadOption
from agent.contract.trial import RuntimeRef, TensorSpec
from agent.runtimes.backend import Options, Session, Wants
from agent.runtimes.tensorflow import sessions
from agent.runtimes.tensorflow.converters import tftrt_convert
from agent.runtimes.tensorflow.models import import_tensorflow
from agent.runtimes.validation import chosen, facts_of, require_precision, require_target

# Fastest first: a graph whose weights are constants takes two thirds of the time of one that reads
# variables. Optimising it beforehand gains no more: TensorFlow does that when it loads a graph.
FORMATS = ("optimised_pb", "frozen_pb", "savedmodel", "keras", "h5")


class TensorFlow:
    name = "tensorflow"
    accepts = ("keras", "h5", "savedmodel", "frozen_pb", "optimised_pb")
    wants: ClassVar[Wants] = {
        "fp32": tuple((form, "fp32") for form in FORMATS),
        **{p: (("savedmodel", p),) for p in ("fp16", "int8")},  # converted by TF-TRT
    }
    options: ClassVar[Options] = {
        "call": ("function", "session"),
        "xla": ("off", "on"),
        "grappler": ("on", "off"),
    }

    def import_runtime(self) -> str:
        return str(import_tensorflow().__version__)

    def probe(self) -> RuntimeFacts:
        version = self.import_runtime()
        gpus = sessions.gpus()
        more = ("fp16", "int8") if gpus and not tftrt_convert.missing() else ()
        targets = [TargetFacts("CPU", ("fp32",), "TensorFlow's own kernels and oneDNN's")]
        targets += [TargetFacts(name, ("fp32", *more), words) for name, words in gpus.items()]
        return facts_of(self, version, targets)

    def load(
        self, artifact: Path, runtime: RuntimeRef, inputs: Sequence[TensorSpec] = ()
    ) -> Session:
        self.import_runtime()
        options = chosen(self.name, self.options, runtime.options)
        known = {target.name: target for target in self.probe().targets}
        require_target(self.name, runtime.target, known)
        require_precision(self.name, runtime.precision, known[runtime.target].precisions)
        grappler = options["grappler"] == "on"
        sessions.configure_process(runtime.target, runtime.threads, grappler)
        words = "%s, %s, grappler %s%s" % (
            runtime.target,
            options["call"],
            options["grappler"],
            ", XLA" if options["xla"] == "on" else "",
        )
        if options["call"] == "session":
            if options["xla"] == "on":
                raise BadOption("tensorflow option xla: on goes with call: function only")
            return sessions.GraphSession(artifact, inputs, runtime, words, grappler)
        return sessions.FunctionSession(
            artifact, inputs, runtime.target, words, options["xla"] == "on"
        )


BACKEND = TensorFlow
