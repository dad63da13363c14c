"""One attempt: fetch, convert, measure in a fresh child, pack the samples. Any failure is data.

An attempt that builds for other devices ends with the conversion and packs its artifact.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import agent
from agent.contract.child_jobs import Converted, ConvertJob, ReferenceJob, TrialJob
from agent.contract.conversion_graph import Node, Tool, tools_on_path
from agent.contract.device import RuntimeFacts
from agent.contract.failures import FAILURE_KINDS, ConverterFault, make_failure
from agent.contract.trial import (
    SCHEMA,
    Failure,
    Options,
    Phases,
    Samples,
    TrialRequest,
    TrialResult,
)
from agent.worker.attempts.built_artifacts import pack_artifact, unpack_model
from agent.worker.attempts.conversion import ConversionInputs, ConversionRunner, unknown_option
from agent.worker.attempts.engine_cache import EngineCache
from agent.worker.attempts.measured_before import measured_before
from agent.worker.attempts.packed_samples import BadSamples, pack_samples
from agent.worker.environments.conversion_planning import (
    ConversionPlan,
    NoConversionPath,
    plan,
    plan_build,
)
from agent.worker.environments.environments import Environments, RuntimeEnvironment
from agent.worker.errors import AgentError
from agent.worker.isolation.child_process import CancelRequest, ChildLimits
from agent.worker.isolation.runner_client import ChildOutcome, RunnerClient, cancel_failure
from agent.worker.uplink.blob_cache import BlobCache, OpenRange, is_disk_full

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AttemptServices:
    """Caches, environments and the child process that an attempt uses.

    ``samples_dir`` keeps blobs until they are delivered: packed samples, built artifacts.
    """

    blobs: BlobCache
    engines: EngineCache
    environments: Environments
    runner: RunnerClient
    open_blob: OpenRange
    fingerprint: str
    samples_dir: Path
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True)
class FinishedAttempt:
    """A result ready for the outbox, and its blob on disk: packed samples or a built artifact."""

    result: TrialResult
    blob: Path | None = None


@dataclass(frozen=True)
class _Files:
    model: Path
    reference: Path
    dataset: Path | None


class _Ended(Exception):
    """The attempt ends here. ``status``: empty: that of the failure's kind."""

    def __init__(self, failure: Failure, status: str = "") -> None:
        super().__init__(failure.message)
        self.status = status or FAILURE_KINDS[failure.kind].status
        self.failure = failure


def failed_result(attempt_id: str, failure: Failure, status: str = "failed") -> TrialResult:
    """A result without figures."""
    return TrialResult(SCHEMA, attempt_id, status, agent.__version__, failure=failure)


def failed_to_begin(attempt_id: str, error: OSError) -> FinishedAttempt:
    """An attempt whose folder could not be made on this board."""
    return FinishedAttempt(failed_result(attempt_id, _unexpected("environment", error)))


def execute(
    request: TrialRequest,
    services: AttemptServices,
    cancel: CancelRequest,
    folder: Path,
    started_at: float,
) -> FinishedAttempt:
    """Run one attempt to its result; never raises.

    Args:
        cancel: ends the attempt at any point, with status ``cancelled``.
        folder: the attempt's own; the caller deletes it.
        started_at: reading of ``services.clock`` when the doorbell arrived.
    """
    run = _AttemptRun(request, services, cancel, folder)
    try:
        finished = run.run()
    except _Ended as ended:
        finished = FinishedAttempt(run.failed(ended.status, ended.failure))
    except Exception as error:
        log.exception("attempt %s broke", request.attempt_id)
        finished = FinishedAttempt(run.failed("failed", _unexpected(run.stage, error)))
    phases = replace(finished.result.phases, total_s=services.clock() - started_at)
    return replace(finished, result=replace(finished.result, phases=phases))


class _AttemptRun:
    """The state of one attempt under way."""

    def __init__(
        self, request: TrialRequest, services: AttemptServices, cancel: CancelRequest, folder: Path
    ) -> None:
        self._request = request
        self._services = services
        self._cancel = cancel
        self._folder = folder
        self._phases = Phases()
        self._environment: RuntimeEnvironment | None = None
        self._converted: Converted | None = None
        self._convert_cached = False
        self._backend_options: Options = {}
        self.stage = "environment"

    def run(self) -> FinishedAttempt:
        if self._request.schema != SCHEMA:
            message = f"the request has schema {self._request.schema}, this agent speaks {SCHEMA}"
            raise _Ended(make_failure("environment", "schema", message))
        with contextlib.ExitStack() as blobs_in_use:
            if self._request.build is not None:
                return self._build(self._request.build, self._fetch(blobs_in_use))
            environment = self._resolve_environment()
            files = self._fetch(blobs_in_use)
            converted = self._convert(environment, files)
            return self._measure(environment, files, converted)

    def failed(self, status: str, failure: Failure) -> TrialResult:
        return self._complete(failed_result(self._request.attempt_id, failure, status))

    def _resolve_environment(self) -> RuntimeEnvironment:
        runtime = self._request.runtime
        with self._in_stage("environment"):
            self._environment = self._services.environments.resolve(
                runtime.backend, runtime.version
            )
        return self._environment

    def _fetch(self, blobs_in_use: contextlib.ExitStack) -> _Files:
        request, started_at = self._request, self._services.clock()

        def fetch(sha256: str, size_bytes: int) -> Path:
            blob = self._services.blobs.in_use(sha256, size_bytes, self._open_blob)
            return blobs_in_use.enter_context(blob)

        with self._in_stage("fetch"):
            blob = fetch(request.model.sha256, request.model.size_bytes)
            source, size = unpack_model(request.model, blob, self._folder / "source")
            self._request = replace(request, model=replace(request.model, size_bytes=size))
            files = _Files(
                model=source,
                reference=fetch(request.reference.sha256, request.reference.size_bytes),
                dataset=fetch(request.dataset.sha256, request.dataset.size_bytes)
                if request.dataset
                else None,
            )
        self._phases = replace(self._phases, fetch_s=self._services.clock() - started_at)
        return files

    @contextlib.contextmanager
    def _open_blob(self, sha256: str, offset: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        """``AttemptServices.open_blob``; a cancel ends it between two chunks."""
        self._check_cancel()
        with self._services.open_blob(sha256, offset) as (start, chunks):

            def until_cancelled() -> Iterator[bytes]:
                for chunk in chunks:
                    self._check_cancel()
                    yield chunk

            yield start, until_cancelled()

    def _convert(self, environment: RuntimeEnvironment, files: _Files) -> Converted:
        model, runtime = self._request.model, self._request.runtime
        with self._in_stage("convert"):
            facts = self._services.environments.facts_in(environment)
            tools = self._services.environments.tools()
            with _planning():
                planned = plan(files.model, model.format, runtime, facts, tools, model.precision)
            self._backend_options = {
                key: value for key, value in runtime.options.items() if key in facts.options
            }
            return self._run_conversion(planned, facts, tools, files)

    def _build(self, node: Node, files: _Files) -> FinishedAttempt:
        model, via = self._request.model, self._request.runtime.via
        with self._in_stage("convert"):
            tools = self._services.environments.tools()
            with _planning():
                planned = plan_build(files.model, model.format, node, via, tools, model.precision)
            no_backend = RuntimeFacts("what leads there", "", "")
            converted = self._run_conversion(planned, no_backend, tools, files)
            source = self._services.blobs.path(model.sha256)
            built, blob = pack_artifact(converted, node[1], source, self._services.samples_dir)
        result = TrialResult(SCHEMA, "", "ok", "", built=built)
        return FinishedAttempt(self._complete(result), blob)

    def _run_conversion(
        self, planned: ConversionPlan, facts: RuntimeFacts, tools: Sequence[Tool], files: _Files
    ) -> Converted:
        request, services = self._request, self._services
        mistake = unknown_option(request.runtime.options, facts, tools_on_path(planned.way, tools))
        if mistake:
            raise _Ended(mistake)
        conversion_runner = ConversionRunner(
            services.environments,
            services.engines,
            self._convert_in_child,
            self._reference_in_child,
            services.fingerprint,
        )
        inputs = ConversionInputs(files.model, files.reference, files.dataset)
        conversion = conversion_runner.convert(request, planned, inputs)
        self._phases = replace(self._phases, convert_s=conversion.seconds)
        self._convert_cached = conversion.cached
        converted = conversion.converted
        if converted is None:
            raise _ended(conversion.outcome)
        if converted.status != "ok":
            no_reason = make_failure("convert", "internal", "no reason was given")
            raise _Ended(converted.failure or no_reason, converted.status)
        self._converted = converted
        return converted

    def _convert_in_child(
        self, python: str, job: ConvertJob, folder: Path, bounds: ChildLimits
    ) -> ChildOutcome:
        self._check_cancel()
        return self._services.runner.convert(python, job, folder, bounds, self._cancel)

    def _reference_in_child(
        self, python: str, job: ReferenceJob, folder: Path, bounds: ChildLimits
    ) -> ChildOutcome:
        self._check_cancel()
        return self._services.runner.reference(python, job, folder, bounds, self._cancel)

    def _measure(
        self, environment: RuntimeEnvironment, files: _Files, converted: Converted
    ) -> FinishedAttempt:
        self._check_cancel()
        self.stage = "load"
        folder = self._folder / "trial"
        folder.mkdir(exist_ok=True)
        job = self._trial_job(files, converted, folder)
        limits = self._request.limits
        bounds = ChildLimits(limits.trial_s, limits.memory_mib, wall_name="limits.trial_s")
        outcome = self._services.runner.trial(environment.python, job, folder, bounds, self._cancel)
        process_s = outcome.end.duration_s if outcome.end else None
        self._phases = replace(self._phases, process_s=process_s)
        result: TrialResult | None = outcome.answer
        if outcome.failure is not None:
            result = measured_before(folder, outcome.failure)
        if result is None:
            raise _ended(outcome)
        self.stage = "measure"
        self._check_memory(result)
        result = _not_the_models_fault(self._complete(result))
        if result.samples is None:
            if result.status == "ok":
                message = "the child reports success without samples"
                raise _Ended(make_failure("measure", "bad_answer", message))
            return FinishedAttempt(result)
        return self._pack(folder / "samples.i64", result, result.samples)

    def _pack(self, raw: Path, result: TrialResult, samples: Samples) -> FinishedAttempt:
        try:
            packed, blob = pack_samples(raw, samples, self._services.samples_dir)
        except BadSamples as error:
            raise _Ended(make_failure("measure", error.failure_kind, str(error))) from error
        return FinishedAttempt(replace(result, samples=packed), blob)

    def _trial_job(self, files: _Files, converted: Converted, folder: Path) -> TrialJob:
        runtime = replace(self._request.runtime, options=self._backend_options)
        return TrialJob(
            request=replace(self._request, runtime=runtime),
            artifact=converted.artifact,
            artifact_format=converted.format,
            artifact_size_bytes=converted.size_bytes,
            reference=str(files.reference),
            folder=str(folder),
            dataset=str(files.dataset) if files.dataset else None,
            own_inputs=converted.inputs,
            own_outputs=converted.outputs,
        )

    def _check_memory(self, result: TrialResult) -> None:
        """Hold the child's own peak against its limit: between two looks of its parent it can pass
        the limit and end."""
        limit_mib = self._request.limits.memory_mib
        if result.memory is not None and result.memory.peak_rss_mib > limit_mib:
            message = (
                f"its peak was {result.memory.peak_rss_mib:.0f} MiB resident, "
                f"over its limit of {limit_mib} MiB"
            )
            raise _Ended(make_failure("measure", "out_of_memory", message))

    def _complete(self, result: TrialResult) -> TrialResult:
        """Add what only the worker knows."""
        converted, environment = self._converted, self._environment
        return replace(
            result,
            schema=SCHEMA,
            attempt_id=self._request.attempt_id,
            agent_version=agent.__version__,
            phases=replace(
                result.phases,
                fetch_s=self._phases.fetch_s,
                convert_s=self._phases.convert_s,
                process_s=self._phases.process_s,
            ),
            environment=environment.name if environment else "",
            runtime_version=result.runtime_version or (environment.version if environment else ""),
            convert_cached=self._convert_cached,
            conversion=(*self._request.model.made, *(converted.steps if converted else ())),
            artifact_format=converted.format if converted else "",
            artifact_size_bytes=converted.size_bytes if converted else None,
        )

    def _check_cancel(self) -> None:
        if self._cancel.reason:
            raise _Ended(cancel_failure(self._cancel.reason, self.stage))

    @contextlib.contextmanager
    def _in_stage(self, stage: str) -> Iterator[None]:
        """Inside, this is the stage, and an agent's error becomes the attempt's failure."""
        self._check_cancel()
        self.stage = stage
        try:
            yield
        except AgentError as error:
            failure = Failure(stage, error.failure_kind, str(error), transient=error.transient)
            raise _Ended(failure) from error
        self._check_cancel()


def _not_the_models_fault(result: TrialResult) -> TrialResult:
    """A file that a runtime cannot read is the converter's fault where a converter made it."""
    failure = result.failure
    if failure is None or failure.kind != "bad_model" or not result.conversion:
        return result
    converter = result.conversion[-1].split()[0].rstrip(",")
    error = ConverterFault(converter, failure.message)
    return replace(result, failure=replace(failure, kind=error.kind, message=str(error)))


@contextlib.contextmanager
def _planning() -> Iterator[None]:
    try:
        yield
    except NoConversionPath as error:
        raise _Ended(error.failure) from error


def _ended(outcome: ChildOutcome) -> _Ended:
    assert outcome.failure is not None
    return _Ended(outcome.failure)


def _unexpected(stage: str, error: Exception) -> Failure:
    if isinstance(error, OSError) and is_disk_full(error):
        return make_failure(stage, "disk_full", f"no space left on this device: {error}")
    kind = "io" if isinstance(error, OSError) else "internal"
    return make_failure(stage, kind, f"{type(error).__name__}: {error}")
