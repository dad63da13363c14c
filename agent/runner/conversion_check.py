"""Compares a converted artifact's outputs with the model's reference."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from agent.contract.comparison import closeness, described
from agent.contract.conversion_graph import Node
from agent.contract.failures import BadModel, ConverterFault, OffReference, RunnerError
from agent.contract.trial import ModelRef, RuntimeRef, Tolerance
from agent.runner import fidelity, repeatability
from agent.runner.feeds import load_reference
from agent.runner.inference import infer
from agent.runner.loading import load, refusals
from agent.runner.tensor_mapping import TensorMapping
from agent.runtimes import registry
from agent.runtimes.backend import Backend
from agent.runtimes.formats import MIN_COSINE


def checker(node: Node, runtime: RuntimeRef) -> Optional[Backend]:
    """A backend in this interpreter that loads such artifacts, the job's own by preference."""
    names = sorted(registry.backend_names(), key=lambda name: (name != runtime.backend, name))
    for name in names:
        backend = registry.find_backend(name)
        if node not in backend.wants.get(node[1], ()):
            continue
        try:
            backend.import_runtime()
        except RunnerError:
            continue
        return backend
    return None


def check(
    backend: Backend, model: ModelRef, node: Node, artifact: Path, reference_file: Path, who: str
) -> str:
    """Run ``artifact`` on the reference's inputs; returns the result, for people.

    Args:
        model: its ``own_inputs`` and ``own_outputs`` are those of the artifact.
        who: the converter that made it.

    Raises:
        ConverterFault: the runtime cannot read the file. Unsupported…: it refuses the network.
        OffReference: names the first output that differs, and by how much.
    """
    tolerance = Tolerance(MIN_COSINE[node[1]], 1.0)
    mapping = TensorMapping(model.inputs, model.outputs, model.own_inputs, model.own_outputs)
    runtime = RuntimeRef(backend.name, precision=node[1])
    try:
        session = load(backend, artifact, runtime, mapping.specs(model.inputs))
    except BadModel as error:
        raise ConverterFault(who, str(error)) from error
    try:
        feeds = load_reference(reference_file, "input")
        expected = load_reference(reference_file, "output")
        with refusals(backend.name):
            given = [mapping.outputs(infer(session, mapping.feed(feed))) for feed in feeds]
        given, expected = repeatability.comparable(reference_file, session, given, expected)
    finally:
        session.close()
    if not expected:
        return "not checked: no output of this model can be compared"
    found = fidelity.compare(given, expected, tolerance, node[1])
    if not found.passed:
        raise OffReference(
            "%s: output %s is off the source's: %s; largest difference %.4g"
            % (who, found.worst_output, described(found.checks[0]), found.max_abs)
        )
    return "checked by %s, %s" % (backend.name, closeness(found.checks, found.cosine))
