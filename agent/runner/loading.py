"""Loading and the first inference: where a runtime says that it does not take a model."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Sequence

from agent.contract.failures import RunnerError
from agent.contract.trial import RuntimeRef, TensorSpec
from agent.runtimes.backend import Backend, Session
from agent.runtimes.refusals import refusal


def load(
    backend: Backend, artifact: Path, runtime: RuntimeRef, inputs: Sequence[TensorSpec] = ()
) -> Session:
    """``backend.load``; a refusal that the backend has no name for is ``Unsupported``, too."""
    with refusals(backend.name):
        return backend.load(artifact, runtime, inputs)


@contextmanager
def refusals(runtime: str) -> Iterator[None]:
    """What the runtime raises inside about the model becomes ``Unsupported``, in its own sentence;
    errors that have names, and those of memory, disk and drivers, stay as they are."""
    try:
        yield
    except RunnerError:
        raise
    except Exception as error:  # each runtime raises its own
        named = refusal(runtime, error)
        if named is None:
            raise
        raise named from error
