"""Stands for ``tensorrt`` and CUDA's bindings where there is no GPU: the small model in NumPy.

Its members are those, and only those, that the vendor's bindings have in the version played
(``tests/fixtures/tensorrt/signatures.jsonl``): asking for another raises ``AttributeError``.
"""

from __future__ import annotations

import ctypes
import enum
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from support.runner_child import expected

RECORDED = Path(__file__).parents[1] / "fixtures" / "tensorrt" / "signatures.jsonl"
BY_VERSION: dict[str, dict[str, dict[str, list[str] | None]]] = {
    line["version"]: line["members"]
    for line in map(json.loads, RECORDED.read_text("utf-8").splitlines())
}


class FakeCuda:
    """Device memory is host memory; a stream runs at once, or records while it is captured."""

    cudaDeviceScheduleSpin, cudaDeviceScheduleBlockingSync, cudaHostAllocDefault = 1, 4, 0

    class cudaError_t(enum.IntEnum):
        cudaSuccess = 0
        cudaErrorMemoryAllocation = 2
        cudaErrorNoDevice = 100

    class cudaMemcpyKind(enum.IntEnum):
        cudaMemcpyHostToDevice = 1
        cudaMemcpyDeviceToHost = 2

    class cudaStreamCaptureMode(enum.IntEnum):
        cudaStreamCaptureModeThreadLocal = 1

    def __init__(self, devices: int = 1, room: int = 1 << 30) -> None:
        self.devices, self.room = devices, room
        self.flags: list[int] = []
        self.memory: dict[int, Any] = {}
        self.streams = 0
        self.copies = 0
        self.launches = 0
        self.recording: list[Callable[[], None]] | None = None

    def _ok(self, *results: Any) -> tuple[Any, ...]:
        return (self.cudaError_t.cudaSuccess, *results)

    def cudaGetDeviceCount(self) -> Any:
        return (
            self._ok(self.devices) if self.devices else (self.cudaError_t.cudaErrorNoDevice, None)
        )

    def cudaGetErrorString(self, error: Any) -> Any:
        return self._ok(error.name.encode())

    def cudaSetDeviceFlags(self, flags: int) -> Any:
        self.flags.append(flags)
        return self._ok()

    def cudaStreamCreate(self) -> Any:
        self.streams += 1
        return self._ok(7)

    def cudaStreamDestroy(self, stream: int) -> Any:
        self.streams -= 1
        return self._ok()

    def cudaStreamSynchronize(self, stream: int) -> Any:
        assert stream == 7
        return self._ok()

    def cudaMalloc(self, size: int) -> Any:
        if size > self.room:
            return (self.cudaError_t.cudaErrorMemoryAllocation, None)
        block = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(block)] = block
        return self._ok(ctypes.addressof(block))

    def cudaHostAlloc(self, size: int, flags: int) -> Any:
        assert flags == self.cudaHostAllocDefault
        return self.cudaMalloc(size)

    def cudaFree(self, address: int) -> Any:
        del self.memory[address]
        return self._ok()

    cudaFreeHost = cudaFree

    def cudaMemcpyAsync(self, to: int, source: int, size: int, kind: Any, stream: int) -> Any:
        assert to in self.memory
        assert source in self.memory

        def copy() -> None:
            self.copies += 1
            ctypes.memmove(to, source, size)

        self.enqueue(copy)
        return self._ok()

    def enqueue(self, work: Callable[[], None]) -> None:
        work() if self.recording is None else self.recording.append(work)

    def cudaStreamBeginCapture(self, stream: int, mode: Any) -> Any:
        self.recording = []
        return self._ok()

    def cudaStreamEndCapture(self, stream: int) -> Any:
        graph, self.recording = self.recording, None
        return self._ok(graph)

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> Any:
        return self._ok(graph)

    def cudaGraphLaunch(self, graph: Any, stream: int) -> Any:
        self.launches += 1
        for work in graph:
            work()
        return self._ok()

    def cudaGraphDestroy(self, graph: Any) -> Any:
        return self._ok()

    cudaGraphExecDestroy = cudaGraphDestroy


class Strict(SimpleNamespace):
    """An object of given members: no other can be read, and none added."""

    def __setattr__(self, member: str, value: Any) -> None:
        if not hasattr(self, member):
            raise AttributeError(member)
        super().__setattr__(member, value)


def strict(version: str, of: str, /, **members: Any) -> Strict:
    """An object of exactly these members, each of which the class ``of`` has in ``version``."""
    have = BY_VERSION[version][of]
    for member in members:
        assert have.get(member) is not None, f"{version} {of} has no {member}"
    return Strict(**members)


class FakeTensorRt:
    """The module. ``cores``: DLA cores. ``parse_error``: (operator, text) the parser answers.

    ``built``: what the last build was told. An engine is bytes that name the input shape.
    """

    def __init__(self, version: str, cuda: FakeCuda, cores: int = 0) -> None:
        self.__version__, self._cuda, self._cores = version, cuda, cores
        self.parse_error: tuple[str, str] | None = None
        self.free = False
        self.built: dict[str, Any] = {}
        self.Logger = lambda severity: ("logger", severity)
        self.Logger.ERROR, self.Logger.WARNING = 1, 2  # type: ignore[attr-defined]
        self.BuilderFlag = self._enum("BuilderFlag")
        self.TensorIOMode = self._enum("TensorIOMode")
        self.DeviceType = self._enum("DeviceType")
        self.NetworkDefinitionCreationFlag = self._enum("NetworkDefinitionCreationFlag")

    def _enum(self, name: str) -> Any:
        have = BY_VERSION[self.__version__][name]
        return enum.IntEnum(name, [m for m, s in sorted(have.items()) if s is not None], start=0)

    def init_libnvinfer_plugins(self, logger: Any, namespace: str) -> bool:
        return True

    def nptype(self, kind: Any) -> Any:
        if kind == "bf16":
            raise TypeError("no equivalent")
        return np.float32

    def _strict(self, of: str, /, **members: Any) -> Any:
        return strict(self.__version__, of, **members)

    # --- building ---

    def Builder(self, logger: Any) -> Any:
        def create_network(flags: int) -> Any:
            self.built = {"creation": flags, "flags": set(), "shapes": {}}
            shape = (-1 if self.free else 1, 3, 6, 6)
            return self._strict(
                "INetworkDefinition",
                num_inputs=1,
                get_input=lambda index: self._strict("ITensor", name="x", shape=shape),
                num_layers=3,
                get_layer=lambda index: index,
            )

        def build(network: Any, config: Any) -> Any:
            self.built["device"], self.built["core"] = config.default_device_type, config.DLA_core
            return b"ENGINE" + (b" core" if config.DLA_core >= 0 else b"")

        return self._strict(
            "Builder",
            num_DLA_cores=self._cores,
            create_network=create_network,
            create_builder_config=self._config,
            create_optimization_profile=self._profile,
            build_serialized_network=build,
        )

    def _profile(self) -> Any:
        def set_shape(name: str, low: Any, best: Any, high: Any) -> None:
            assert low == best == high
            self.built["shapes"][name] = best

        return self._strict("IOptimizationProfile", set_shape=set_shape)

    def _config(self) -> Any:
        timings: list[Any] = []

        def set_timing_cache(cache: Any, ignore_mismatch: bool) -> bool:
            assert ignore_mismatch is False
            timings.append(cache)
            return True

        def create_timing_cache(data: bytes) -> Any:
            self.built["timings"] = data
            return self._strict("ITimingCache", serialize=lambda: b"TIMINGS")

        return self._strict(
            "IBuilderConfig",
            default_device_type=self.DeviceType.GPU,
            DLA_core=-1,
            set_flag=lambda flag: self.built["flags"].add(flag.name),
            clear_flag=lambda flag: self.built["flags"].add("no " + flag.name),
            can_run_on_DLA=lambda layer: layer < 2,
            add_optimization_profile=lambda profile: 0,
            create_timing_cache=create_timing_cache,
            set_timing_cache=set_timing_cache,
            get_timing_cache=lambda: timings[-1],
        )

    def OnnxParser(self, network: Any, logger: Any) -> Any:
        operator, text = self.parse_error or ("", "")
        error = self._strict("ParserError", desc=lambda: text, node_operator=lambda: operator)
        return self._strict(
            "OnnxParser",
            parse_from_file=lambda path: self.parse_error is None,
            num_errors=0 if self.parse_error is None else 1,
            get_error=lambda index: error,
        )

    # --- running ---

    def Runtime(self, logger: Any) -> Any:
        return self._strict(
            "Runtime",
            DLA_core=-1,
            deserialize_cuda_engine=lambda data: (
                self._engine() if bytes(data).startswith(b"ENGINE") else None
            ),
        )

    def _engine(self) -> Any:
        modes = {"x": self.TensorIOMode.INPUT, "y": self.TensorIOMode.OUTPUT}
        return self._strict(
            "ICudaEngine",
            num_io_tensors=2,
            get_tensor_name=lambda index: ("y", "x")[index],
            get_tensor_mode=modes.__getitem__,
            get_tensor_dtype=lambda name: "fp32",
            create_execution_context=self._context,
        )

    def _context(self) -> Any:
        shapes = {"x": (1, 3, 6, 6), "y": (1, 5)}
        addresses: dict[str, int] = {}

        def view(name: str) -> Any:
            count = int(np.prod(shapes[name]))
            raw = (ctypes.c_float * count).from_address(addresses[name])
            return np.ctypeslib.as_array(raw).reshape(shapes[name])

        def execute(stream: int) -> bool:
            def work() -> None:
                view("y")[...] = expected(view("x"))

            self._cuda.enqueue(work)
            return True

        return self._strict(
            "IExecutionContext",
            get_tensor_shape=shapes.__getitem__,
            set_input_shape=lambda name, shape: tuple(shape) == shapes[name],
            set_tensor_address=lambda name, to: addresses.update({name: to}) is None,
            execute_async_v3=execute,
        )
