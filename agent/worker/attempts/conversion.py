"""From a source to what a runtime loads, through as many environments as the way leads through."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import agent
from agent.contract.child_jobs import Converted, ConvertJob, Referenced, ReferenceJob
from agent.contract.conversion_graph import ConversionPath, Tool, segments, tools_on_path
from agent.contract.device import RuntimeFacts
from agent.contract.trial import (
    Failure,
    Limits,
    ModelRef,
    Options,
    RuntimeRef,
    Tolerance,
    TrialRequest,
)
from agent.runtimes.formats import FORMATS, MIN_COSINE
from agent.worker.attempts.engine_cache import EngineCache, engine_key
from agent.worker.environments.conversion_planning import ConversionPlan
from agent.worker.environments.environments import Environments
from agent.worker.isolation.child_process import ChildLimits
from agent.worker.isolation.runner_client import ChildOutcome

RunConvert = Callable[[str, ConvertJob, Path, ChildLimits], ChildOutcome]
"""``run(python, job, folder, bounds)``: the child's verb ``convert``."""
RunReference = Callable[[str, ReferenceJob, Path, ChildLimits], ChildOutcome]
"""The same for its verb ``reference``."""


@dataclass(frozen=True)
class ConversionInputs:
    """The files that a conversion may read."""

    model: Path
    reference: Path | None = None
    dataset: Path | None = None


@dataclass(frozen=True)
class Conversion:
    """``outcome`` is the last child's, ``converted`` its answer with the steps of all; ``seconds``
    is what the children took, 0 where every part was kept from before (``cached``)."""

    outcome: ChildOutcome
    converted: Converted | None
    seconds: float
    cached: bool


@dataclass(frozen=True)
class ConversionRunner:
    """What conversions are made with."""

    environments: Environments
    engines: EngineCache
    run: RunConvert
    check: RunReference
    fingerprint: str

    def convert(
        self, request: TrialRequest, plan: ConversionPlan, sources: ConversionInputs
    ) -> Conversion:
        """Walk the plan, one child for each environment on it, and keep what each one made."""
        if not plan.way:
            return as_it_is(request.model, sources.model)
        parts = segments(plan.way)
        done = Conversion(ChildOutcome(None), None, 0.0, True)
        model, artifact, key = request.model, sources.model, ""
        for number, part in enumerate(parts):
            job = self._job(request, part, number == len(parts) - 1, model, artifact, sources)
            described = self._key(request, job, key)
            key = engine_key(described)
            engine = self.engines.get(
                described,
                partial(_placed, job),
                partial(self._run, part[0].environment, request.limits),
            )
            end = engine.outcome.end
            spent = 0.0 if engine.cached or end is None else end.duration_s
            made = engine.converted
            before = done.converted.steps if done.converted else ()
            done = Conversion(
                outcome=engine.outcome,
                converted=replace(made, steps=(*before, *made.steps)) if made else None,
                seconds=done.seconds + spent,
                cached=done.cached and engine.cached,
            )
            if made is None or made.status != "ok":
                break
            artifact = Path(made.artifact)
            model = replace(
                model, format=made.format, own_inputs=made.inputs, own_outputs=made.outputs
            )
        return done

    def _job(
        self,
        request: TrialRequest,
        part: ConversionPath,
        last: bool,
        model: ModelRef,
        artifact: Path,
        sources: ConversionInputs,
    ) -> ConvertJob:
        tools = tools_on_path(part, self.environments.tools())
        calibrates = any(tool.needs_calibration for tool in tools)
        known = {key for tool in tools for key in tool.options}
        options = {key: value for key, value in request.runtime.options.items() if key in known}
        if last:
            runtime = replace(
                request.runtime, version="", threads=0, format="", via=(), options=options
            )
        else:  # the same for every runtime that the way goes on to
            runtime = RuntimeRef(backend="", precision=part[-1].target[1], options=options)
        return ConvertJob(
            model=model,
            runtime=runtime,
            source=str(artifact),
            folder="",
            way=part,
            calibration=request.calibration if calibrates else "",
            dataset=_text(sources.dataset if calibrates else None),
            reference=_text(sources.reference),
            seed=request.seed if calibrates else 0,
        )

    def _key(self, request: TrialRequest, job: ConvertJob, before: str) -> dict[str, Any]:
        """Everything that a part may depend on; ``before`` is the key of the part before it.

        Of the data set only what calibrates counts. The reference is not in it: it decides whether
        a result is kept, never what it is.
        """
        return {
            "source": request.model.sha256,
            "model": [
                [asdict(spec) for spec in specs]
                for specs in (job.model.inputs, job.model.own_inputs, job.model.own_outputs)
            ],
            "before": before,
            "way": [[e.converter, e.source, e.target] for e in job.way],
            "environment": self.environments.identity(job.way[0].environment),
            "runtime": asdict(job.runtime),
            "calibration": job.calibration,
            "dataset": request.dataset.sha256 if job.dataset and request.dataset else "",
            "seed": job.seed,
            "agent": agent.__version__,
            "device": self.fingerprint,
        }

    def _run(self, environment: str, limits: Limits, job: ConvertJob, folder: Path) -> ChildOutcome:
        """Convert, and check what the converting child had no runtime for; what is off is no
        success, so that nobody keeps it."""
        bounds = ChildLimits(limits.convert_s, limits.memory_mib, swaps=True)
        outcome = self.run(self.environments.python(environment), job, folder, bounds)
        made: Converted | None = outcome.answer
        if made is None or made.status != "ok" or made.checked or job.runtime.backend:
            return outcome  # with a backend a trial follows, which verifies it
        checked = self._check(job, made, folder, bounds)
        return replace(outcome, answer=checked)

    def _check(
        self, job: ConvertJob, made: Converted, folder: Path, bounds: ChildLimits
    ) -> Converted:
        """Held against the reference in another environment, where one runs it."""
        backend = FORMATS[made.format].backend if made.format in FORMATS else ""
        precision = job.way[-1].target[1]
        able = [
            facts.environment
            for facts in self.environments.facts()
            if facts.backend == backend and not facts.missing
        ]
        if not able or job.reference is None:
            return _said(made, "not checked: nothing on this device loads it")
        where = folder / "check"
        where.mkdir()
        reference = ReferenceJob(
            model=replace(job.model, format=made.format, own_inputs=(), own_outputs=()),
            source=made.artifact,
            folder=str(where),
            expected=job.reference,
            tolerances={precision: Tolerance(MIN_COSINE[precision], 1.0)},
        )
        outcome = self.check(self.environments.python(able[0]), reference, where, bounds)
        shutil.rmtree(where, ignore_errors=True)
        found: Referenced = outcome.answer or Referenced(failure=outcome.failure)
        if found.fidelity is not None:
            return _said(made, f"checked by {backend}, cosine {found.fidelity.cosine:.6f}")
        failure = found.failure or Failure("convert", "bad_answer", "the check gave no answer")
        if failure.kind.startswith("unsupported"):
            return _said(made, f"not checked: {failure.message}")
        message = f"{job.way[-1].converter}: {failure.message}"
        return replace(made, status="invalid", failure=Failure("convert", "off_reference", message))


def _said(made: Converted, words: str) -> Converted:
    """With a word on its last step."""
    last = ", ".join((*made.steps[-1:], words))
    return replace(made, steps=(*made.steps[:-1], last))


def as_it_is(model: ModelRef, source: Path) -> Conversion:
    """Where nothing has to be done."""
    converted = Converted(
        artifact=str(source),
        format=model.format,
        size_bytes=model.size_bytes,
        inputs=model.own_inputs,
        outputs=model.own_outputs,
    )
    return Conversion(ChildOutcome(None, answer=converted), converted, 0.0, False)


def unknown_option(options: Options, facts: RuntimeFacts, tools: Sequence[Tool]) -> Failure | None:
    """Why an option means nothing on this way, to the backend or to a converter."""
    known = {*facts.options, *(key for tool in tools for key in tool.options)}
    for key in options:
        if key not in known:
            names = ", ".join(sorted(known)) or "none"
            message = f"{facts.backend} has no option {key!r} here; it has {names}"
            return Failure("convert", "bad_option", message)
    return None


def _placed(job: ConvertJob, folder: Path) -> ConvertJob:
    return replace(job, folder=str(folder))


def _text(path: Path | None) -> str | None:
    return str(path) if path else None
