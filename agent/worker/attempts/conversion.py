"""Converts a model to what a runtime loads, in one child per environment on the way."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import agent
from agent.contract.child_jobs import Converted, ConvertJob, Referenced, ReferenceJob
from agent.contract.comparison import closeness
from agent.contract.conversion_graph import ConversionPath, Tool, segments, tools_on_path
from agent.contract.device import RuntimeFacts
from agent.contract.failures import ConverterFault, make_failure
from agent.contract.trial import (
    Failure,
    Limits,
    ModelRef,
    Options,
    RuntimeRef,
    TensorSpec,
    Tolerance,
    TrialRequest,
)
from agent.runtimes.formats import FORMATS, MIN_COSINE, told_by_file
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
    """The result of a conversion.

    ``outcome``: the last child's. ``converted``: its answer, with the steps of all children.
    ``seconds``: the children's run time. ``cached``: every part came from the engine cache.
    """

    outcome: ChildOutcome
    converted: Converted | None
    seconds: float
    cached: bool


@dataclass(frozen=True)
class ConversionRunner:
    """Runs conversions in children: ``run`` starts verb ``convert``, ``check`` ``reference``."""

    environments: Environments
    engines: EngineCache
    run: RunConvert
    check: RunReference
    fingerprint: str

    def convert(
        self, request: TrialRequest, plan: ConversionPlan, sources: ConversionInputs
    ) -> Conversion:
        """Follow the plan, one child for each environment on it, and cache what each one made."""
        if not plan.way:
            return as_it_is(request.model, sources.model)
        parts = segments(plan.way)
        done = Conversion(ChildOutcome(None), None, 0.0, True)
        model, artifact, key = self._in_batch(request, plan), sources.model, ""
        if model is not request.model:
            sources = replace(sources, reference=None)  # its inputs have batch size 1
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

    def _in_batch(self, request: TrialRequest, plan: ConversionPlan) -> ModelRef:
        """The model in the batch size that will be measured, where a converter fixes the shapes."""
        size = request.scenario.batch_size
        tools = tools_on_path(plan.way, self.environments.tools())
        if size == 1 or all("dynamic_shapes" in tool.keeps for tool in tools):
            return request.model
        model = request.model
        return replace(
            model,
            inputs=tuple(_joined(spec, size) for spec in model.inputs),
            own_inputs=tuple(_joined(spec, size) for spec in model.own_inputs),
        )

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
        else:  # independent of the runtime that the way leads to: shared in the cache
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
        """Everything that a part's artifact may depend on; ``before``: the key of the part before.

        The data set is in it only where it calibrates. The reference is in it where random inputs
        calibrate, which are drawn as its inputs were; else it only decides whether an artifact is
        kept, never what it is.
        """
        random = {"drawn": request.reference.sha256} if job.calibration == "random" else {}
        return {
            **random,
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
        """Convert, and check an artifact for which the converting child had no runtime. One that
        fails the check is not ``ok``, so that it is not cached."""
        bounds = ChildLimits(
            limits.convert_s, limits.memory_mib, swaps=True, wall_name="limits.convert_s"
        )
        outcome = self.run(self.environments.python(environment), job, folder, bounds)
        made: Converted | None = outcome.answer
        if made is None or made.status != "ok" or made.checked or job.runtime.backend:
            return outcome  # with a backend a trial follows, which verifies it
        checked = self._check(job, made, folder, bounds)
        return replace(outcome, answer=checked)

    def _check(
        self, job: ConvertJob, made: Converted, folder: Path, bounds: ChildLimits
    ) -> Converted:
        """Compare the artifact with the reference in another environment, where one runs it."""
        backend = FORMATS[made.format].backend if made.format in FORMATS else ""
        precision = job.way[-1].target[1]
        able = [
            facts.environment
            for facts in self.environments.facts()
            if facts.backend == backend and not facts.missing
        ]
        if job.reference is None:
            return _with_remark(made, "checked by the trial alone: the reference has batch size 1")
        if not able:
            return _with_remark(made, "not checked: nothing on this device loads it")
        check_folder = folder / "check"
        check_folder.mkdir()
        reference = ReferenceJob(
            model=replace(
                job.model,
                format=made.format,
                own_inputs=(),
                own_outputs=(),
                precision="" if told_by_file(made.format) else precision,
            ),
            source=made.artifact,
            folder=str(check_folder),
            expected=job.reference,
            tolerances={precision: Tolerance(MIN_COSINE[precision], 1.0)},
        )
        outcome = self.check(self.environments.python(able[0]), reference, check_folder, bounds)
        shutil.rmtree(check_folder, ignore_errors=True)
        found: Referenced = outcome.answer or Referenced(failure=outcome.failure)
        if found.fidelity is not None:
            close = closeness(found.fidelity.checks, found.fidelity.cosine)
            return _with_remark(made, f"checked by {backend}, {close}")
        failure = found.failure or make_failure("convert", "bad_answer", "the check gave no answer")
        if failure.kind.startswith("unsupported") or failure.kind in ("timeout", "out_of_memory"):
            # a check over its limits shows nothing; the board's trial verifies the outputs again
            return _with_remark(made, f"not checked: {failure.message}")
        who = job.way[-1].converter
        if failure.kind == "bad_model":
            failure = make_failure(
                "convert", "converter_fault", str(ConverterFault(who, failure.message))
            )
            return replace(made, status="failed", failure=failure)
        message = f"{who}: {failure.message}"
        failure = make_failure("convert", "off_reference", message)
        return replace(made, status="invalid", failure=failure)


def _joined(spec: TensorSpec, size: int) -> TensorSpec:
    """``spec`` with ``size`` of the model's inputs joined along axis 0; free ones stay free."""
    if not spec.shape or spec.shape[0] == -1:
        return spec
    return replace(spec, shape=(spec.shape[0] * size, *spec.shape[1:]))


def _with_remark(made: Converted, remark: str) -> Converted:
    """Add a remark to the last step."""
    last = ", ".join((*made.steps[-1:], remark))
    return replace(made, steps=(*made.steps[:-1], last))


def as_it_is(model: ModelRef, source: Path) -> Conversion:
    """The conversion where the runtime loads the source itself."""
    converted = Converted(
        artifact=str(source),
        format=model.format,
        size_bytes=model.size_bytes,
        inputs=model.own_inputs,
        outputs=model.own_outputs,
    )
    return Conversion(ChildOutcome(None, answer=converted), converted, 0.0, False)


def unknown_option(options: Options, facts: RuntimeFacts, tools: Sequence[Tool]) -> Failure | None:
    """The failure where neither the backend nor a converter on the way knows an option."""
    known = {*facts.options, *(key for tool in tools for key in tool.options)}
    for key in options:
        if key not in known:
            names = ", ".join(sorted(known)) or "none"
            message = f"{facts.backend} has no option {key!r} here; it has {names}"
            return make_failure("convert", "bad_option", message)
    return None


def _placed(job: ConvertJob, folder: Path) -> ConvertJob:
    return replace(job, folder=str(folder))


def _text(path: Path | None) -> str | None:
    return str(path) if path else None
