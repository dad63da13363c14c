"""CUDA's runtime through NVIDIA's own bindings: one stream, and pairs of host and device memory.

``cuda.bindings.runtime`` (cuda-bindings 12 and newer) or ``cuda.cudart`` (cuda-python 11, which
Jetsons of JetPack 5 have): the same functions, each returning (error, *results).
"""

from __future__ import annotations

import ctypes
import importlib
from typing import Any, Callable, List

import numpy as np

from agent.contract.failures import RunnerError, RuntimeMissing

_MODULES = ("cuda.bindings.runtime", "cuda.cudart")


class CudaFailed(RunnerError):
    """A call of the CUDA runtime failed; another attempt may go better."""

    kind = "cuda"


class CudaOutOfMemory(RunnerError):
    """The device has not the memory that was asked for."""

    kind = "out_of_memory"


def runtime() -> Any:
    """The bindings' module. Raises ``RuntimeMissing``."""
    reasons = []
    for name in _MODULES:
        try:
            return importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - beside ImportError, whatever loading may raise
            reasons.append("%s: %s" % (name, error))
    raise RuntimeMissing(
        "CUDA's Python bindings cannot be imported (%s)" % "; ".join(reasons),
        "install cuda-bindings of the board's CUDA version",
    )


def require_device(cuda: Any) -> None:
    """Raises ``RuntimeMissing`` where no CUDA device answers."""
    error, *found = cuda.cudaGetDeviceCount()
    if error == cuda.cudaError_t.cudaSuccess and found[0] > 0:
        return
    worked = error == cuda.cudaError_t.cudaSuccess
    reason = "there is none" if worked else explained(cuda, error)
    raise RuntimeMissing("no CUDA device answers (%s)" % reason, "install NVIDIA's driver")


def explained(cuda: Any, error: Any) -> str:
    _, text = cuda.cudaGetErrorString(error)
    return text.decode() if isinstance(text, bytes) else str(text)


class Stream:
    """A CUDA stream and everything that was allocated through it; ``close`` frees it all.

    ``spin``: the host waits for the device busily (lower latency, one core lost) or asleep.
    """

    def __init__(self, spin: bool) -> None:
        self.cuda = runtime()
        self._closers: List[Callable[[], Any]] = []
        self._wait(spin)
        self.handle = int(self.check(self.cuda.cudaStreamCreate()))
        self._closers.append(lambda: self.cuda.cudaStreamDestroy(self.handle))

    def check(self, answer: Any) -> Any:
        """The result of a call. Raises ``CudaFailed``, ``CudaOutOfMemory``."""
        error, *results = answer
        if error != self.cuda.cudaError_t.cudaSuccess:
            message = "CUDA: %s" % explained(self.cuda, error)
            if error == self.cuda.cudaError_t.cudaErrorMemoryAllocation:
                raise CudaOutOfMemory(message)
            raise CudaFailed(message)
        return results[0] if results else None

    def _wait(self, spin: bool) -> None:
        wanted = (
            self.cuda.cudaDeviceScheduleSpin if spin else self.cuda.cudaDeviceScheduleBlockingSync
        )
        self.check(self.cuda.cudaSetDeviceFlags(wanted))

    def buffer(self, shape: Any, dtype: Any) -> Buffer:
        return Buffer(self, tuple(shape), np.dtype(dtype))

    def allocate(self, size: int) -> int:
        address = int(self.check(self.cuda.cudaMalloc(size)))
        self._closers.append(lambda: self.cuda.cudaFree(address))
        return address

    def allocate_host(self, size: int) -> int:
        """Page-locked: from pageable memory a copy is neither asynchronous nor of steady speed."""
        address = int(self.check(self.cuda.cudaHostAlloc(size, self.cuda.cudaHostAllocDefault)))
        self._closers.append(lambda: self.cuda.cudaFreeHost(address))
        return address

    def synchronise(self) -> None:
        error = self.cuda.cudaStreamSynchronize(self.handle)[0]
        if error != self.cuda.cudaError_t.cudaSuccess:
            self.check((error,))

    def captured(self, enqueue: Callable[[], None]) -> Callable[[], None]:
        """What ``enqueue`` enqueues, as one CUDA graph: the launch of it."""
        mode = self.cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.check(self.cuda.cudaStreamBeginCapture(self.handle, mode))
        enqueue()
        graph = self.check(self.cuda.cudaStreamEndCapture(self.handle))
        launchable = self.check(self.cuda.cudaGraphInstantiate(graph, 0))
        self._closers.append(lambda: self.cuda.cudaGraphDestroy(graph))
        self._closers.append(lambda: self.cuda.cudaGraphExecDestroy(launchable))
        return lambda: self.check(self.cuda.cudaGraphLaunch(launchable, self.handle))

    def close(self) -> None:
        while self._closers:
            self._closers.pop()()


class Buffer:
    """The same array on the host (``array``, page-locked) and on the device (``address``)."""

    def __init__(self, stream: Stream, shape: Any, dtype: Any) -> None:
        count = int(np.prod(shape, dtype=np.int64))
        self._bytes = count * dtype.itemsize
        room = max(1, self._bytes)  # the address of an empty tensor must not be null
        self._stream = stream
        self.address = stream.allocate(room)
        self._host = stream.allocate_host(room)
        raw = (ctypes.c_byte * room).from_address(self._host)
        self.array = np.frombuffer(raw, dtype, count).reshape(shape)

    def to_device(self) -> None:
        """Enqueue the copy."""
        self._copy(self.address, self._host, "cudaMemcpyHostToDevice")

    def to_host(self) -> None:
        """Enqueue the copy."""
        self._copy(self._host, self.address, "cudaMemcpyDeviceToHost")

    def _copy(self, to: int, source: int, kind: str) -> None:
        cuda = self._stream.cuda
        way = getattr(cuda.cudaMemcpyKind, kind)
        self._stream.check(cuda.cudaMemcpyAsync(to, source, self._bytes, way, self._stream.handle))
