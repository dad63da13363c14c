"""The child's four verbs: text in, text out. No exception leaves here: a failure is data."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any, Callable, Dict, Type

from agent.contract import codec
from agent.contract.child_jobs import Converted, ConvertJob, Referenced, ReferenceJob, TrialJob
from agent.contract.failures import BadRequest, RunnerError, make_failure
from agent.contract.trial import Failure, TrialResult
from agent.runner import convert, probe, reference, trial
from agent.runner.progress import Progress

LOG_TAIL = 4000
_OUT_OF_MEMORY = ("bad_alloc", "Failed to allocate memory", "can't allocate memory")


def do_probe(_: str) -> str:
    return codec.dumps(probe.run())


def do_convert(text: str) -> str:
    def failed(_job: Any, _progress: Progress, status: str, failure: Failure) -> Converted:
        return Converted(status=status, failure=failure)

    return _answer(ConvertJob, text, convert.run, failed)


def do_trial(text: str) -> str:
    def failed(job: Any, progress: Progress, status: str, failure: Failure) -> TrialResult:
        attempt_id = job.request.attempt_id if job else ""
        return trial.answer(attempt_id, status, progress, failure=failure)

    return _answer(TrialJob, text, trial.run, failed)


def do_reference(text: str) -> str:
    def failed(_job: Any, _progress: Progress, _status: str, failure: Failure) -> Referenced:
        return Referenced(failure=failure)

    return _answer(ReferenceJob, text, reference.run, failed, stage_file=False)


COMMANDS: Dict[str, Callable[[str], str]] = {
    "probe": do_probe,
    "convert": do_convert,
    "trial": do_trial,
    "reference": do_reference,
}


def _answer(
    cls: Type[Any],
    text: str,
    run: Callable[[Any, Progress], Any],
    failed: Callable[[Any, Progress, str, Failure], Any],
    stage_file: bool = True,
) -> str:
    job, progress = None, Progress()
    try:
        job = _parse(cls, text)
        progress = Progress(job.folder if stage_file else None)
        return codec.dumps(run(job, progress))
    except Exception as error:  # noqa: BLE001 - the edge: whatever it is becomes data
        traceback.print_exc()
        status = error.status if isinstance(error, RunnerError) else "failed"
        return codec.dumps(failed(job, progress, status, failure_of(error, progress.stage)))


def _parse(cls: Type[Any], text: str) -> Any:
    try:
        return codec.loads(cls, text)
    except codec.ContractError as error:
        raise BadRequest(str(error)) from error


def failure_of(error: Exception, stage: str) -> Failure:
    """The failure that ``error`` is. An unexpected one carries the end of its traceback."""
    message = str(error) or type(error).__name__
    if isinstance(error, RunnerError):
        return Failure(stage, error.kind, message, error.transient)
    if isinstance(error, MemoryError) or any(word in message for word in _OUT_OF_MEMORY):
        return make_failure(stage, "out_of_memory", message)
    tail = "".join(traceback.format_exception(type(error), error, error.__traceback__))[-LOG_TAIL:]
    if isinstance(error, OSError):
        return make_failure(stage, "io", message, tail)
    return make_failure(stage, "internal", "%s: %s" % (type(error).__name__, message), tail)


def answer_on_stdout(verb: str) -> None:
    """Do ``verb`` with the job on stdin and write the answer where stdout led.

    Descriptor 1 is pointed at stderr first: what a vendor's library prints, in Python or in C, must
    not end up in the answer. Leaves by ``os._exit``, for an answered job must not be spoilt by a
    library that crashes in its destructors.
    """
    answer_fd = os.dup(1)
    os.dup2(2, 1)
    text = sys.stdin.buffer.read().decode("utf-8", "replace")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    _write_all(answer_fd, (COMMANDS[verb](text) + "\n").encode("utf-8"))
    os.close(answer_fd)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
