"""Runs the measured child's verbs as processes: JSON in, JSON out, nothing imported from it."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import agent
from agent.contract import codec
from agent.contract.child_jobs import (
    Converted,
    ConvertJob,
    Probed,
    Referenced,
    ReferenceJob,
    TrialJob,
)
from agent.contract.failures import make_failure
from agent.contract.trial import Failure, TrialResult
from agent.worker.errors import ChildFailed, PackagesMissing
from agent.worker.isolation.child_process import CancelRequest, ChildEnd, ChildLimits, run_child

T = TypeVar("T")
log = logging.getLogger(__name__)

RUNNER = Path(agent.__file__).parent / "runner" / "__main__.py"
PROBE_BOUNDS = ChildLimits(wall_s=120.0, memory_mib=8192)
CANCEL_KINDS = {"cancelled": "cancelled", "lease": "lease_lost", "shutdown": "shutdown"}
"""The failure's kind, by the reason given to ``CancelRequest``."""
_CANCEL_MESSAGES = {
    "cancelled": "the controller cancelled it",
    "lease": "its lease ran out or was taken back",
    "shutdown": "the agent was stopped",
}


@dataclass(frozen=True)
class ChildOutcome:
    """A child's answer, or the failure: exactly one is set. ``end``: how the child ended."""

    end: ChildEnd | None
    answer: Any = None
    failure: Failure | None = None


class RunnerClient:
    """Starts the child under a given interpreter. ``mark`` identifies this agent's children."""

    def __init__(self, mark: str, path: Path = RUNNER) -> None:
        self._mark = mark
        self._path = path
        self._stopped = False
        self._probing: set[CancelRequest] = set()

    def stop_probing(self) -> None:
        """End running probes, and any that begins from now on."""
        self._stopped = True
        for cancel in list(self._probing):
            cancel.set("shutdown")

    def probe(self, python: str) -> Probed:
        """Find out which runtimes answer under an interpreter.

        Raises ``ChildFailed``, ``PackagesMissing``.
        """
        with (
            tempfile.TemporaryDirectory(prefix="benchfarm-probe-") as folder,
            CancelRequest() as cancel,
        ):
            self._probing.add(cancel)
            if self._stopped:
                cancel.set("shutdown")
            outcome = self._run(python, "probe", "{}", Probed, Path(folder), PROBE_BOUNDS, cancel)
            self._probing.discard(cancel)
        if outcome.failure is not None:
            tail = outcome.failure.log_tail.strip().splitlines()[-1:]
            lacks = bool(tail) and tail[0].startswith(ModuleNotFoundError.__name__)
            kind = PackagesMissing if lacks else ChildFailed
            raise kind(": ".join([f"{python}: {outcome.failure.message}", *tail]))
        answer: Probed = outcome.answer
        return answer

    def convert(
        self, python: str, job: ConvertJob, folder: Path, bounds: ChildLimits, cancel: CancelRequest
    ) -> ChildOutcome:
        """Run verb ``convert``; the answer is a ``Converted``."""
        text = codec.dumps(job)
        return self._run(python, "convert", text, Converted, folder, bounds, cancel)

    def trial(
        self, python: str, job: TrialJob, folder: Path, bounds: ChildLimits, cancel: CancelRequest
    ) -> ChildOutcome:
        """Run verb ``trial``; the answer is a ``TrialResult``."""
        text = codec.dumps(job)
        return self._run(python, "trial", text, TrialResult, folder, bounds, cancel)

    def reference(
        self,
        python: str,
        job: ReferenceJob,
        folder: Path,
        bounds: ChildLimits,
        cancel: CancelRequest,
    ) -> ChildOutcome:
        """Run verb ``reference``; the answer is a ``Referenced``."""
        text = codec.dumps(job)
        return self._run(python, "reference", text, Referenced, folder, bounds, cancel)

    def _run(
        self,
        python: str,
        verb: str,
        job: str,
        cls: type[T],
        folder: Path,
        bounds: ChildLimits,
        cancel: CancelRequest,
    ) -> ChildOutcome:
        command = [python, "-I", str(self._path), verb]
        try:
            end = run_child(
                command,
                job,
                folder=folder,
                bounds=bounds,
                cancel=cancel,
                mark=self._mark,
                log_name=f"{verb}.log",
            )
        except OSError as error:
            return ChildOutcome(None, failure=Failure("environment", "io", f"{python}: {error}"))
        return read_answer(end, cls, verb, bounds)


def read_answer(end: ChildEnd, cls: type[Any], verb: str, bounds: ChildLimits) -> ChildOutcome:
    """The outcome of a child that ended. A complete answer counts even if the process crashed
    afterwards: vendor libraries do so while unloading."""
    stage = end.stage or ("convert" if verb == "convert" else "environment")
    if end.killed:
        return ChildOutcome(end, failure=_killed(end, stage, bounds))
    answer, wrong = None, "it answered nothing"
    if end.answer is not None:
        try:
            answer = codec.loads(cls, end.answer)
        except codec.ContractError as error:
            wrong = str(error)
    if answer is not None:
        if end.exit_code != 0:
            log.warning("%s answered, then ended with %s", verb, _how(end))
        return ChildOutcome(end, answer=answer)
    if end.signal_name:
        message = f"the child ({verb}) was ended by {end.signal_name}"
        return ChildOutcome(end, failure=make_failure(stage, "crash", message, end.log_tail))
    kind = "bad_answer" if end.exit_code == 0 else "crash"
    message = f"the child ({verb}) ended with {_how(end)}: {wrong}"
    return ChildOutcome(end, failure=make_failure(stage, kind, message, end.log_tail))


_DOING = {
    "environment": "starting the runtime",
    "convert": "converting the model",
    "load": "loading the model",
    "warm_up": "warming up",
    "measure": "measuring",
    "verify": "verifying the outputs",
}
_REMEDIES = {
    "convert": "raise it in the sweep, or choose another way by format or via",
    "measure": "raise it in the sweep, or lower scenario.max_duration_s; if neither helps, look at "
    "the board",
    "verify": "the samples are kept; raise it in the sweep, or register a smaller data set",
}
"""What to do about a time limit that ran out in a stage."""


def _killed(end: ChildEnd, stage: str, bounds: ChildLimits) -> Failure:
    tail = end.log_tail
    if end.killed == "timeout":
        return make_failure(stage, "timeout", _time_message(stage, bounds), tail)
    over = f"over its limit of {bounds.memory_mib} MiB"
    if bounds.wall_name:
        over += " (limits.memory_mib, or the share of the board's memory that its class allows)"
    if end.killed == "memory":
        message = f"{end.peak_seen_mib:.0f} MiB resident, {over}"
        return make_failure(stage, "out_of_memory", message, tail)
    if end.killed == "memory_group":
        message = f"the kernel ended it{_at(end)}, {over}"
        return make_failure(stage, "out_of_memory", message, tail)
    if end.killed == "memory_system":
        message = f"the kernel ended it{_at(end)}: its unit, or the board, had no memory left"
        return make_failure(stage, "out_of_memory", message, tail)
    return cancel_failure(end.killed, stage, tail)


def _time_message(stage: str, bounds: ChildLimits) -> str:
    """Which limit ran out, its value, during what, and what to do."""
    doing = _DOING.get(stage, stage)
    if not bounds.wall_name:
        return f"not done within its limit of {bounds.wall_s:g} s ({doing})"
    remedy = _REMEDIES.get(stage, "raise it in the sweep if the board is only slow, not stuck")
    return f"{bounds.wall_name} of {bounds.wall_s:g} s ran out while {doing}; {remedy}"


def _at(end: ChildEnd) -> str:
    return f" at {end.peak_seen_mib:.0f} MiB" if end.peak_seen_mib else ""


def cancel_failure(reason: str, stage: str, log_tail: str = "") -> Failure:
    """The failure of an attempt that was stopped for ``reason`` (see ``CancelRequest``)."""
    return make_failure(stage, CANCEL_KINDS[reason], _CANCEL_MESSAGES[reason], log_tail)


def _how(end: ChildEnd) -> str:
    return end.signal_name or f"exit code {end.exit_code}"
