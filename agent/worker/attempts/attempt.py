"""One attempt: fetch, convert, measure in a fresh child, pack the samples. Any failure is data.

One that is to build ends with the conversion, and packs that.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import zstandard

import agent
from agent.contract.child_jobs import Converted, ConvertJob, ReferenceJob, TrialJob
from agent.contract.conversion_graph import Node, Tool, tools_on_path
from agent.contract.device import RuntimeFacts
from agent.contract.trial import (
    SCHEMA,
    Failure,
    Options,
    Phases,
    Samples,
    TrialRequest,
    TrialResult,
)
from agent.system.durable import sync_folder
from agent.worker.attempts.built_artifacts import NotPacked, NotUnpacked, hand_in, unpacked
from agent.worker.attempts.conversion import ConversionInputs, ConversionRunner, unknown_option
from agent.worker.attempts.engine_cache import EngineCache
from agent.worker.environments.conversion_planning import (
    ConversionPlan,
    NoConversionPath,
    plan,
    plan_build,
)
from agent.worker.environments.environments import Environments, RuntimeEnvironment
from agent.worker.errors import AgentError, BlobCorrupt, BlobMissing, DiskFull, EnvironmentMissing
from agent.worker.isolation.child_process import CancelRequest, ChildLimits
from agent.worker.isolation.runner_client import ChildOutcome, RunnerClient, cancel_failure
from agent.worker.uplink.blob_cache import BlobCache, OpenRange, is_disk_full

log = logging.getLogger(__name__)

PACKED_ENCODING = "int64le+zstd"
_ZSTD_LEVEL = 3
_KINDS: dict[type[AgentError], str] = {
    BlobMissing: "blob_missing",
    BlobCorrupt: "blob_corrupt",
    DiskFull: "disk_full",
    NotPacked: "bad_artifact",
    NotUnpacked: "bad_model",
    EnvironmentMissing: "runtime_missing",
}


@dataclass(frozen=True)
class AttemptServices:
    """What an attempt works with. ``samples_dir`` keeps blobs until they are delivered: packed
    samples, what was built."""

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
    """A result ready for the outbox, and its blob on disk: packed samples, or what was built."""

    result: TrialResult
    blob: Path | None = None


@dataclass(frozen=True)
class _Files:
    model: Path
    reference: Path
    dataset: Path | None


class _Ended(Exception):
    """The attempt ends here, with ``status`` and ``failure``."""

    def __init__(self, status: str, failure: Failure) -> None:
        super().__init__(failure.message)
        self.status = status
        self.failure = failure


def failed(attempt_id: str, failure: Failure, status: str = "failed") -> TrialResult:
    """A result without figures."""
    return TrialResult(SCHEMA, attempt_id, status, agent.__version__, failure=failure)


def broken(attempt_id: str, error: OSError) -> FinishedAttempt:
    """An attempt that could not even begin on this board."""
    return FinishedAttempt(failed(attempt_id, _internal("environment", error)))


def execute(
    request: TrialRequest, tools: AttemptServices, cancel: CancelRequest, folder: Path, began: float
) -> FinishedAttempt:
    """Run one attempt to its result; never raises. ``folder`` is its own, and stays to be deleted.

    ``cancel`` ends it at any point: status ``cancelled``. ``began`` is when ``tools.clock`` read as
    the doorbell arrived.
    """
    course = _Course(request, tools, cancel, folder)
    try:
        finished = course.run()
    except _Ended as ended:
        finished = FinishedAttempt(course.failed(ended.status, ended.failure))
    except Exception as error:
        log.exception("attempt %s broke", request.attempt_id)
        finished = FinishedAttempt(course.failed("failed", _internal(course.stage, error)))
    phases = replace(finished.result.phases, total_s=tools.clock() - began)
    return replace(finished, result=replace(finished.result, phases=phases))


class _Course:
    """The state of one attempt under way."""

    def __init__(
        self, request: TrialRequest, tools: AttemptServices, cancel: CancelRequest, folder: Path
    ) -> None:
        self._request = request
        self._tools = tools
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
            raise _Ended("failed", Failure("environment", "schema", message))
        with contextlib.ExitStack() as stack:
            if self._request.build is not None:
                return self._build(self._request.build, self._fetch(stack))
            environment = self._resolve()
            files = self._fetch(stack)
            converted = self._convert(environment, files)
            return self._measure(environment, files, converted)

    def failed(self, status: str, failure: Failure) -> TrialResult:
        return self._complete(failed(self._request.attempt_id, failure, status))

    def _resolve(self) -> RuntimeEnvironment:
        runtime = self._request.runtime
        with self._named("environment"):
            self._environment = self._tools.environments.resolve(runtime.backend, runtime.version)
        return self._environment

    def _fetch(self, stack: contextlib.ExitStack) -> _Files:
        request, began = self._request, self._tools.clock()

        def held(sha256: str, size_bytes: int) -> Path:
            opened = self._tools.blobs.held(sha256, size_bytes, self._open)
            return stack.enter_context(opened)

        with self._named("fetch"):
            blob = held(request.model.sha256, request.model.size_bytes)
            source, size = unpacked(request.model, blob, self._folder / "source")
            self._request = replace(request, model=replace(request.model, size_bytes=size))
            files = _Files(
                model=source,
                reference=held(request.reference.sha256, request.reference.size_bytes),
                dataset=held(request.dataset.sha256, request.dataset.size_bytes)
                if request.dataset
                else None,
            )
        self._phases = replace(self._phases, fetch_s=self._tools.clock() - began)
        return files

    @contextlib.contextmanager
    def _open(self, sha256: str, offset: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        """``AttemptServices.open_blob``, ended by a cancel between two chunks."""
        self._check_cancel()
        with self._tools.open_blob(sha256, offset) as (start, chunks):

            def watched() -> Iterator[bytes]:
                for chunk in chunks:
                    self._check_cancel()
                    yield chunk

            yield start, watched()

    def _convert(self, environment: RuntimeEnvironment, files: _Files) -> Converted:
        model, runtime = self._request.model, self._request.runtime
        with self._named("convert"):
            facts = self._tools.environments.facts_in(environment)
            known = self._tools.environments.tools()
            with _planning():
                planned = plan(files.model, model.format, runtime, facts, known, model.precision)
            self._backend_options = {
                key: value for key, value in runtime.options.items() if key in facts.options
            }
            return self._walk(planned, facts, known, files)

    def _build(self, node: Node, files: _Files) -> FinishedAttempt:
        model, via = self._request.model, self._request.runtime.via
        with self._named("convert"):
            known = self._tools.environments.tools()
            with _planning():
                planned = plan_build(files.model, model.format, node, via, known)
            no_backend = RuntimeFacts("what leads there", "", "")
            converted = self._walk(planned, no_backend, known, files)
            source = self._tools.blobs.path(model.sha256)
            built, blob = hand_in(converted, node[1], source, self._tools.samples_dir)
        result = TrialResult(SCHEMA, "", "ok", "", built=built)
        return FinishedAttempt(self._complete(result), blob)

    def _walk(
        self, planned: ConversionPlan, facts: RuntimeFacts, known: Sequence[Tool], files: _Files
    ) -> Converted:
        request, tools = self._request, self._tools
        wrong = unknown_option(request.runtime.options, facts, tools_on_path(planned.way, known))
        if wrong:
            raise _Ended("failed", wrong)
        workshop = ConversionRunner(
            tools.environments, tools.engines, self._child, self._checker, tools.fingerprint
        )
        sources = ConversionInputs(files.model, files.reference, files.dataset)
        done = workshop.convert(request, planned, sources)
        self._phases = replace(self._phases, convert_s=done.seconds)
        self._convert_cached = done.cached
        if done.converted is None:
            raise _ended(done.outcome)
        if done.converted.status != "ok":
            failure = done.converted.failure
            failure = failure or Failure("convert", "internal", "no reason was given")
            raise _Ended(done.converted.status, failure)
        self._converted = done.converted
        return done.converted

    def _child(
        self, python: str, job: ConvertJob, folder: Path, bounds: ChildLimits
    ) -> ChildOutcome:
        self._check_cancel()
        return self._tools.runner.convert(python, job, folder, bounds, self._cancel)

    def _checker(
        self, python: str, job: ReferenceJob, folder: Path, bounds: ChildLimits
    ) -> ChildOutcome:
        self._check_cancel()
        return self._tools.runner.reference(python, job, folder, bounds, self._cancel)

    def _measure(
        self, environment: RuntimeEnvironment, files: _Files, converted: Converted
    ) -> FinishedAttempt:
        self._check_cancel()
        self.stage = "load"
        folder = self._folder / "trial"
        folder.mkdir(exist_ok=True)
        runtime = replace(self._request.runtime, options=self._backend_options)
        job = TrialJob(
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
        bounds = ChildLimits(self._request.limits.trial_s, self._request.limits.memory_mib)
        outcome = self._tools.runner.trial(environment.python, job, folder, bounds, self._cancel)
        process_s = outcome.end.duration_s if outcome.end else None
        self._phases = replace(self._phases, process_s=process_s)
        if outcome.failure is not None:
            raise _ended(outcome)
        self.stage = "measure"
        result: TrialResult = outcome.answer
        self._require_memory(result)
        result = self._complete(result)
        if result.samples is None:
            if result.status == "ok":
                message = "the child reports success without samples"
                raise _Ended("failed", Failure("measure", "bad_answer", message))
            return FinishedAttempt(result)
        samples, packed = pack(folder / "samples.i64", result.samples, self._tools.samples_dir)
        return FinishedAttempt(replace(result, samples=samples), packed)

    def _require_memory(self, result: TrialResult) -> None:
        """A child can pass its limit and end between two looks at it: its own peak tells."""
        limit_mib = self._request.limits.memory_mib
        if result.memory is not None and result.memory.peak_rss_mib > limit_mib:
            message = (
                f"its peak was {result.memory.peak_rss_mib:.0f} MiB resident, "
                f"over its limit of {limit_mib} MiB"
            )
            raise _Ended("failed", Failure("measure", "out_of_memory", message))

    def _complete(self, result: TrialResult) -> TrialResult:
        """With what only the worker knows."""
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
            raise _Ended("cancelled", cancel_failure(self._cancel.reason, self.stage))

    @contextlib.contextmanager
    def _named(self, stage: str) -> Iterator[None]:
        """Within it this is the stage, and the agent's errors become the attempt's failure."""
        self._check_cancel()
        self.stage = stage
        try:
            yield
        except AgentError as error:
            kind = _KINDS.get(type(error), "io")
            failure = Failure(stage, kind, str(error), transient=error.transient)
            raise _Ended("failed", failure) from error
        self._check_cancel()


@contextlib.contextmanager
def _planning() -> Iterator[None]:
    try:
        yield
    except NoConversionPath as error:
        raise _Ended(error.status, error.failure) from error


def pack(raw: Path, samples: Samples, folder: Path) -> tuple[Samples, Path]:
    """Compress the child's samples into ``folder``, durably; named by their SHA-256.

    ``raw`` holds little-endian int64, shape (len(series), count), nanoseconds.
    """
    expected = 8 * samples.count * len(samples.series)
    size = raw.stat().st_size if raw.is_file() else -1
    if size != expected or not expected:
        message = f"samples.i64 has {size} bytes, but {expected} were announced"
        raise _Ended("failed", Failure("measure", "bad_answer", message))
    packed = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(raw.read_bytes())
    sha256 = hashlib.sha256(packed).hexdigest()
    path = folder / f"{sha256}.zst"
    try:
        with path.open("wb") as file:
            file.write(packed)
            file.flush()
            os.fsync(file.fileno())
    except OSError:  # a full disk: nobody would miss the half, and nobody ever take it away
        path.unlink(missing_ok=True)
        raise
    sync_folder(folder)
    filled = replace(samples, sha256=sha256, size_bytes=len(packed), encoding=PACKED_ENCODING)
    return filled, path


def _ended(outcome: ChildOutcome) -> _Ended:
    assert outcome.failure is not None
    return _Ended(outcome.status, outcome.failure)


def _internal(stage: str, error: Exception) -> Failure:
    if isinstance(error, OSError) and is_disk_full(error):
        message = f"no space left on this device: {error}"
        return Failure(stage, "disk_full", message, transient=True)
    kind = "io" if isinstance(error, OSError) else "internal"
    return Failure(stage, kind, f"{type(error).__name__}: {error}", transient=kind == "io")
