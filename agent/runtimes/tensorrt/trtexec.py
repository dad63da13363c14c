"""``trtexec``, for boards whose TensorRT has no Python bindings for this interpreter.

Such are JetPack 4 and 5: the bindings of their TensorRT 8 belong to the system's Python. The flags
of a version are read from its ``--help``; every choice that matters and whose default changed
between versions is passed. Source of the flags: NVIDIA's ``samples/common/sampleOptions.cpp`` of
TensorRT 8 to 11.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import FrozenSet, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from agent.contract.failures import (
    BadModel,
    BadOption,
    RunnerError,
    RuntimeMissing,
    UnsupportedOperator,
    UnsupportedShape,
    UnsupportedTarget,
)
from agent.contract.trial import TensorSpec
from agent.runtimes.converter import program
from agent.runtimes.tensorrt.cuda import CudaOutOfMemory

PROGRAM = "trtexec"
WORKSPACE_MIB = 1024
"""Up to 8.3 the builder's default is 16 MiB, too little for the fast kernels."""
HELP_S = 60
_DRIVER = "install NVIDIA's driver"
_RESERVED = frozenset(":,'\"")
"""Characters with a meaning in a list of names and shapes."""


class TrtexecProgram(NamedTuple):
    """The program. ``flags``: those in its ``--help``, e.g. ``--useCudaGraph``."""

    path: str
    version: str
    flags: FrozenSet[str]


class TrtexecRun(NamedTuple):
    """A run that succeeded. ``peak_mib``: ``ru_maxrss`` of the program alone."""

    seconds: float
    peak_mib: float
    text: str


class TrtexecFailed(RunnerError):
    """The program failed, and no other error names the reason."""

    kind = "trtexec"


def find() -> Optional[TrtexecProgram]:
    """The program with its version and flags; ``None`` where it is not installed.

    Raises:
        RuntimeMissing: it does not answer, or is older than TensorRT 8, which prints no version.
    """
    path = program(PROGRAM)
    return _probed(path) if path else None


@functools.lru_cache(maxsize=None)
def _probed(path: str) -> TrtexecProgram:
    remedy = "install JetPack's package tensorrt, or the libnvinfer-bin of your TensorRT"
    try:
        ended = subprocess.run(
            [path, "--help"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=HELP_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise RuntimeMissing("%s does not answer (%s)" % (path, error), remedy) from error
    text = ended.stdout.decode("utf-8", "replace")
    version = version_in(text)
    flags = frozenset(re.findall(r"^\s+(--\w+)", text, re.MULTILINE))
    if not version or "--loadEngine" not in flags:
        last_line = text.strip().splitlines()[-1:] or ["nothing"]
        raise RuntimeMissing(
            "%s is no trtexec of TensorRT 8 or newer; it says: %s" % (path, last_line[0][:200]),
            remedy,
        )
    return TrtexecProgram(path, version, flags)


def version_in(text: str) -> str:
    """The version in the banner, ``[TensorRT v8201]`` or ``[TensorRT v101602]``; empty: none."""
    found = re.search(r"TensorRT\.trtexec \[TensorRT v(\d{4,6})\]", text)
    if not found:
        return ""
    number = int(found.group(1))
    hundreds, patch = divmod(number, 100)
    # The minor number has two digits from version 10 on, one before.
    major, minor = divmod(hundreds, 10 if number < 10_000 else 100)
    return "%d.%d.%d" % (major, minor, patch)


def build_command(
    tool: TrtexecProgram,
    source: Path,
    engine: Path,
    timing_cache: Path,
    inputs: Sequence[TensorSpec],
    precision: str,
    *,
    dla_core: int = -1,
    tf32: bool = True,
    free: Sequence[str] = (),
) -> List[str]:
    """The command that builds ``engine`` without running it.

    ``free``: the inputs whose shape the file leaves free. A precision is a flag in versions that
    have one; in others the file's own types decide. Raises ``UnsupportedShape``.
    """
    has = tool.flags
    command = [tool.path, "--onnx=%s" % source, "--saveEngine=%s" % engine]
    command.append("--skipInference" if "--skipInference" in has else "--buildOnly")
    if "--timingCacheFile" in has:
        command.append("--timingCacheFile=%s" % timing_cache)
    if "--memPoolSize" not in has:
        command.append("--workspace=%d" % WORKSPACE_MIB)
    if "--%s" % precision in has:
        command.append("--%s" % precision)
    command += () if tf32 else ("--noTF32",)
    command += _device(tool, dla_core)
    named = [spec for spec in inputs if spec.name in free]
    if named:
        command += ["--%sShapes=%s" % (which, _shapes(named)) for which in ("min", "opt", "max")]
    return command


def run_command(
    tool: TrtexecProgram,
    engine: Path,
    feeds: Mapping[str, str],
    *,
    outputs: str = "",
    times: str = "",
    free: Sequence[TensorSpec] = (),
    warm_up_ms: int = 0,
    duration_s: int = 0,
    dla_core: int = -1,
    cuda_graph: bool = False,
    spin_wait: bool = False,
    data_transfers: bool = True,
) -> List[str]:
    """The command that runs ``engine`` on raw little-endian input files, one query after the other,
    at least one.

    Raises:
        UnsupportedShape: an input's name cannot be written in a flag.
        BadOption: a switch that this version lacks.
    """
    command = [
        tool.path,
        "--loadEngine=%s" % engine,
        "--warmUp=%d" % warm_up_ms,
        "--duration=%d" % duration_s,
        "--iterations=1",
        "--infStreams=1" if "--infStreams" in tool.flags else "--streams=1",
        "--exposeDMA",  # queries do not overlap, so that each has its own latency
        *_device(tool, dla_core),
        *_switch(tool, "cuda_graph", cuda_graph, "--useCudaGraph", "--noCudaGraph"),
        *_switch(tool, "spin_wait", spin_wait, "--useSpinWait", "--noSpinWait"),
        *_switch(tool, "data_transfers", data_transfers, "--includeDataTransfers", ""),
    ]
    if not data_transfers and "--includeDataTransfers" not in tool.flags:
        command += _switch(tool, "data_transfers: off", True, "--noDataTransfers", "")
    if free:
        command.append("--shapes=%s" % _shapes(free))
    if feeds:
        pairs = ("%s:%s" % (_word(name), path) for name, path in feeds.items())
        command.append("--loadInputs=%s" % ",".join(pairs))
    command += ["--exportOutput=%s" % outputs] if outputs else []
    command += ["--exportTimes=%s" % times] if times else []
    return command


def _switch(tool: TrtexecProgram, option: str, wanted: bool, on: str, off: str) -> Tuple[str, ...]:
    """The flags for a switch. Each version has a flag only for the opposite of its default: what is
    off by default up to 10 is on in 11."""
    if off and off in tool.flags:
        return () if wanted else (off,)
    if not wanted:
        return ()
    if on in tool.flags:
        return (on,)
    if on == "--includeDataTransfers":
        return ()  # versions without this flag include them
    raise BadOption("trtexec %s has no %s, which tensorrt's %s needs" % (tool.version, on, option))


def _device(tool: TrtexecProgram, dla_core: int) -> Sequence[str]:
    if dla_core < 0:
        return ()
    fallback = ("--allowGPUFallback",) if "--allowGPUFallback" in tool.flags else ()
    return ("--useDLACore=%d" % dla_core, *fallback)


def _shapes(specs: Sequence[TensorSpec]) -> str:
    for spec in specs:
        if -1 in spec.shape:
            raise UnsupportedShape("trtexec: input %s has a free dimension" % spec.name)
    return ",".join("%s:%s" % (_word(s.name), "x".join(map(str, s.shape))) for s in specs)


def _word(name: str) -> str:
    """An input's name in a list of names, quoted where it holds a colon, as ``trtexec`` needs."""
    if not _RESERVED & set(name):
        return name
    if set(name) & _RESERVED != {":"}:
        raise UnsupportedShape("trtexec cannot be told of an input named %r" % name)
    return "'%s'" % name


def run(tool: TrtexecProgram, command: Sequence[str], folder: Path) -> TrtexecRun:
    """Run a command in ``folder``; its output goes to this process's log.

    Raises:
        RunnerError: see ``failure``.
    """
    log = folder / "trtexec.log"
    start = time.perf_counter()
    with open(str(log), "wb") as out:
        child = subprocess.Popen(
            list(command),
            cwd=str(folder),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(child.pid, 0)  # the only call that gives the peak of one child
        child.returncode = -(status & 0x7F) or status >> 8
    seconds = time.perf_counter() - start
    text = log.read_text("utf-8", "replace")
    sys.stderr.write(text)
    if child.returncode != 0:
        raise failure(tool, text, child.returncode)
    return TrtexecRun(seconds, usage.ru_maxrss / 1024.0, text)


def failure(tool: TrtexecProgram, text: str, code: int) -> RunnerError:
    """The named error that the output of a failed run means."""
    errors = [line.split("[E]", 1)[1].strip() for line in text.splitlines() if "[E]" in line]
    # The first lines hold the reason; the last ones only repeat that it failed.
    reason = "; ".join(errors)[:400] or "it ended with %d and no error" % code
    operator = re.search(r"While parsing node number \d+ \[(\S+)", text)
    if operator and ("Plugin not found" in text or "No importer registered" in text):
        return UnsupportedOperator("tensorrt", operator.group(1), errors[-1] if errors else "")
    if "Failed to parse onnx file" in text:
        return BadModel("TensorRT %s cannot read the model: %s" % (tool.version, reason))
    if re.search(r"Cannot create DLA engine, \d+ not available", text):
        return UnsupportedTarget("tensorrt", "DLA", ("GPU",))
    if re.search(r"[Oo]ut of memory|OutOfMemory", text):
        return CudaOutOfMemory("trtexec ran out of the device's memory: %s" % reason)
    if re.search(r"Static dimension mismatch|Static model does not take explicit shapes", text):
        return UnsupportedShape("trtexec: %s" % reason)
    if "deserialization failed" in text.lower() or "not compatible" in text:
        return BadModel(
            "TensorRT %s cannot load the engine: damaged, or built for another version or GPU: %s"
            % (tool.version, reason)
        )
    if re.search(r"no CUDA-capable device|CUDA driver version is insufficient", text):
        return RuntimeMissing("no CUDA device answers", _DRIVER)
    if code < 0:
        return TrtexecFailed("trtexec was ended by signal %d: %s" % (-code, reason))
    return TrtexecFailed("trtexec failed: %s" % reason)


def cuda_devices() -> int:
    """How many devices CUDA's driver sees. Raises ``RuntimeMissing`` where there is no driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise RuntimeMissing("no CUDA device answers (%s)" % error, _DRIVER) from error
    count = ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def require_device() -> None:
    """Raises ``RuntimeMissing`` where there is no GPU to run on."""
    if cuda_devices() < 1:
        raise RuntimeMissing("no CUDA device answers (there is none)", _DRIVER)
