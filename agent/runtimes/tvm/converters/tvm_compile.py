"""ONNX to a TVM library (Relax), with TVM's default schedules or with MetaSchedule's tuned ones.

Beside ``model.so`` lie ``model.json``, which describes its inputs and outputs, and ``tuning/``, a
MetaSchedule database. The engine cache keeps conversions side by side: a database for the same
network and target in a folder next to the job's is reused and extended.
"""

from __future__ import annotations

import glob
import hashlib
import importlib
import json
import os
import re
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Dict, Iterator, List, Sequence, Tuple

from agent.contract.child_jobs import ConvertJob
from agent.contract.conversion_graph import Edge
from agent.contract.failures import (
    BadModel,
    BadOption,
    ConversionFailed,
    RuntimeMissing,
    UnsupportedFormat,
    UnsupportedOperator,
    UnsupportedShape,
)
from agent.contract.trial import TensorSpec
from agent.formats.onnx_external_data import require_one_message
from agent.runtimes.backend import Options
from agent.runtimes.converter import (
    Calibration,
    ConvertedArtifact,
    ConverterBase,
    missing_modules,
    own_options,
)
from agent.runtimes.refusals import sentence
from agent.runtimes.tvm.linking import cross_linker, linker
from agent.runtimes.validation import chosen, require_shapes, require_target

OPTIONS: Dict[str, Tuple[str, ...]] = {
    "tuning": ("none", "metaschedule"),
    "tuning_trials": (),
    "opt": ("3", "2", "1", "0"),
    "cross": ("none", "aarch64"),
    "mcpu": (),
}
"""``opt`` is LLVM's optimisation level; ``tuning_trials`` a number of schedules to measure.

``cross``: compile for another architecture, on a builder; ``mcpu`` is then LLVM's name of the
board's CPU (``cortex-a72``); left out, the library runs on any CPU of that architecture.
"""

DEFAULT_TRIALS = 256
FEW_TRIALS = 64
"""Below this a learned cost model has too few data, and costs more than the trials."""
# A builder process first imports tvm.s_tir.tensor_intrin, which takes half a minute.
BUILD_TIMEOUT_S = 180
DATABASE = ("database_workload.json", "database_tuning_record.json")
_MCPU = re.compile(r"^[a-z][a-z0-9]*([-.+][a-z0-9]+){0,8}$")
_TUNING_NEEDS = ("psutil", "cloudpickle", "xgboost")


class TvmCompile(ConverterBase):
    name = "tvm_compile"
    edges = tuple(
        Edge("tvm_compile", ("onnx", precision), ("tvm_library", "fp32"))
        for precision in ("fp32", "int8")
    )
    modules = ("tvm", "onnx")
    keeps = ("layout", "names")
    where: ClassVar[Tuple[str, ...]] = ("device",)  # it compiles for the CPU that it runs on
    options: ClassVar[Options] = OPTIONS

    def __init__(self) -> None:
        super().__init__()
        self._options = chosen("tvm", OPTIONS, {})
        self._trials = 0
        self._neighbours = ""
        self._seed = 0

    def configure(self, job: ConvertJob) -> None:
        require_target("tvm", job.runtime.target, ("CPU",))
        self._options = own_options(self.name, OPTIONS, job)
        self._trials = checked(self._options)
        self._inputs = job.model.inputs
        self._neighbours = os.path.dirname(os.path.abspath(job.folder))
        self._seed = 1 + job.seed % (2**31 - 2)  # what MetaSchedule accepts

    def convert(self, source: Path, folder: Path, calibration: Calibration) -> ConvertedArtifact:  # noqa: ARG002
        import tvm

        require_one_message(source, self.name)
        tuned = self._options["tuning"] == "metaschedule"
        cross = self._options["cross"]
        compiler = linker() if cross == "none" else cross_linker(cross)
        if tuned:
            _require_tuner()
        module, inputs, outputs = _import(source, self._inputs)
        target = target_of(self._options)
        identity = _identity(source, target, inputs)
        about: Dict[str, Any] = {
            "identity": identity,
            "tvm": str(tvm.__version__),
            "target": target,
            "inputs": [vars(spec) for spec in inputs],
            "outputs": outputs,
            "tuning": self._options["tuning"],
            "records": 0,
            "tuned_functions": 0,
        }
        try:
            if tuned:
                known = _reuse_database(self._neighbours, identity, folder / "tuning")
                database = _tune(
                    module, target, folder / "tuning", self._trials - known, self._seed
                )
                about["records"], about["reused"] = len(database), known
                about["tuned_functions"] = _require_used(database, module, target)
                built = _build_tuned(database, module, target)
            else:
                built = tvm.compile(module, target=tvm.target.Target(target))
            artifact = folder / "model.so"
            compiler(built, artifact)
        except (MemoryError, RuntimeMissing, ConversionFailed):
            raise
        except Exception as error:  # TVM passes on what its C++ side threw
            raise _named(error) from error
        (folder / "model.json").write_text(json.dumps(about, indent=1), "utf-8")
        how = "default schedules"
        if tuned:
            how = "MetaSchedule, %(records)d records (%(reused)d reused)" % about
            how += ", %(tuned_functions)d functions tuned" % about
        if is_quantised(source):
            how += ", the file's int8 computed in fp32"
        where = target["mcpu"] if cross == "none" else "%(mtriple)s %(mcpu)s" % target
        step = "%s %s, %s, %s" % (self.name, about["tvm"], where, how)
        return ConvertedArtifact(artifact, step)


def checked(options: Dict[str, str]) -> int:
    """Check that the options go together; the tuning budget. Raises ``BadOption``."""
    crossed = options["cross"] != "none"
    if crossed and options["tuning"] != "none":
        raise BadOption("tvm option tuning measures on this machine: it does not go with cross")
    if options["mcpu"] and not crossed:
        raise BadOption("tvm option mcpu goes with cross only: here it is this machine's")
    if options["mcpu"] and not _MCPU.match(options["mcpu"]):
        raise BadOption("tvm option mcpu is %r; it accepts e.g. cortex-a72" % options["mcpu"])
    return trials_of(options)


def target_of(options: Dict[str, str]) -> Dict[str, Any]:
    """The target to compile for, as TVM's configuration."""
    opt = int(options["opt"])
    if options["cross"] == "none":
        return host_target(opt)
    return {
        "kind": "llvm",
        "mtriple": "%s-linux-gnu" % options["cross"],
        "mcpu": options["mcpu"] or "generic",
        "opt-level": opt,
    }


def trials_of(options: Dict[str, str]) -> int:
    """The tuning budget. Raises ``BadOption``."""
    given = options.get("tuning_trials", "")
    if not given:
        return DEFAULT_TRIALS if options["tuning"] == "metaschedule" else 0
    if options["tuning"] == "none":
        raise BadOption("tvm option tuning_trials needs tuning: metaschedule")
    if not re.match(r"^[1-9][0-9]{0,6}$", given):
        raise BadOption("tvm option tuning_trials is %r; it accepts 1 to 9999999" % given)
    return int(given)


def host_target(opt: int = 3) -> Dict[str, Any]:
    """This machine as TVM's configuration of a target."""
    from tvm.target import codegen

    return {
        "kind": "llvm",
        "mtriple": str(codegen.llvm_get_system_triple()),
        "mcpu": str(codegen.llvm_get_system_cpu()),
        "num-cores": os.cpu_count() or 1,
        "opt-level": opt,
    }


def _require_tuner() -> None:
    absent = missing_modules(_TUNING_NEEDS)
    if absent:
        raise RuntimeMissing(
            "tuning with MetaSchedule needs %s" % ", ".join(absent),
            "install it with pip install %s" % " ".join(absent).replace("xgboost", "xgboost-cpu"),
        )


def _import(
    source: Path, wanted: Sequence[TensorSpec]
) -> Tuple[Any, List[TensorSpec], List[Dict[str, Any]]]:
    """The raw Relax module in the wanted shapes, its inputs, and descriptions of its outputs."""
    import onnx
    from tvm.relax.frontend.onnx import from_onnx

    try:
        model = onnx.load(str(source))
    except FileNotFoundError as error:
        raise BadModel("%s does not exist" % source.name) from error
    except Exception as error:  # protobuf raises its own
        raise BadModel("%s is not an ONNX model: %s" % (source.name, error)) from error
    if not model.graph.output:
        raise BadModel("%s is not an ONNX model: its graph has no output" % source.name)
    weights = {tensor.name for tensor in model.graph.initializer}
    own = [_onnx_spec(v) for v in model.graph.input if v.name not in weights]
    if wanted:
        require_shapes(wanted, own)
    shapes = {spec.name: spec.shape for spec in wanted}
    inputs = [TensorSpec(s.name, s.dtype, tuple(shapes.get(s.name, s.shape))) for s in own]
    for spec in inputs:
        if -1 in spec.shape:
            raise UnsupportedShape("tvm: input %s has a free dimension" % spec.name)
    try:
        module = from_onnx(
            model,
            shape_dict={s.name: list(s.shape) for s in inputs},
            dtype_dict={s.name: s.dtype for s in inputs},
            sanitize_input_names=True,
        )
    except MemoryError:
        raise
    except Exception as error:  # TVM passes on what its C++ side threw
        raise _named(error) from error
    return module, inputs, [{"name": value.name} for value in model.graph.output]


def is_quantised(source: Path) -> bool:
    """Whether the file has operators that change between real numbers and integers of 8 bits."""
    import onnx

    nodes = onnx.load(str(source), load_external_data=False).graph.node
    return any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in nodes)


def _onnx_spec(value: Any) -> TensorSpec:
    from onnx import helper

    tensor = value.type.tensor_type
    dims = tuple(
        d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else -1 for d in tensor.shape.dim
    )
    try:
        dtype = str(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except (KeyError, TypeError):
        dtype = ""
    if not dtype or dtype == "object":  # texts
        raise UnsupportedFormat("%s has ONNX element type %s" % (value.name, tensor.elem_type))
    return TensorSpec(value.name, dtype, dims)


def _identity(source: Path, target: Dict[str, Any], inputs: Sequence[TensorSpec]) -> str:
    """Hash of what tuning records are valid for: file, shapes and target."""
    digest = hashlib.sha256(source.read_bytes())
    digest.update(json.dumps([target, [vars(s) for s in inputs]], sort_keys=True).encode())
    return digest.hexdigest()


def _reuse_database(neighbours: str, identity: str, folder: Path) -> int:
    """Copy the largest database of ``identity`` below ``neighbours`` into ``folder``; the number of
    its records."""
    folder.mkdir()
    best, records = "", 0
    for path in glob.glob(os.path.join(glob.escape(neighbours), "*", "step*", "model.json")):
        try:
            about = json.loads(Path(path).read_text("utf-8"))
        except (OSError, ValueError):
            continue
        if about.get("identity") == identity and int(about.get("records", 0)) > records:
            best, records = os.path.join(os.path.dirname(path), "tuning"), int(about["records"])
    if not best or not all(os.path.isfile(os.path.join(best, name)) for name in DATABASE):
        return 0
    for name in DATABASE:
        shutil.copy(os.path.join(best, name), str(folder))
    return records


def _legalised(module: Any) -> Any:
    """The module with operators lowered to loops, to be tuned; ``compile_relax`` takes the raw
    one."""
    from tvm import relax

    return relax.get_pipeline("zero")(module)


def _tune(module: Any, target: Dict[str, Any], folder: Path, trials: int, seed: int) -> Any:
    """A database with up to ``trials`` more records, kept in ``folder``."""
    from tvm.s_tir import meta_schedule
    from tvm.s_tir.meta_schedule.builder import LocalBuilder

    # Names of tuning functions moved with every release; this module has the present ones.
    relax_integration = importlib.import_module("tvm.s_tir.meta_schedule.relax_integration")
    if trials > 0:
        legalised = _legalised(module)
        tasks = len(relax_integration.extract_tasks(legalised, _target(target)))
        if not tasks:
            raise ConversionFailed("tvm_compile: MetaSchedule found nothing to tune")
        with _temporaries():
            relax_integration.tune_relax(
                legalised,
                {},
                _target(target),
                work_dir=str(folder),
                max_trials_global=trials,
                num_trials_per_iter=max(1, min(64, trials // tasks)),
                builder=LocalBuilder(timeout_sec=BUILD_TIMEOUT_S),
                cost_model="random" if trials < FEW_TRIALS else "xgb",
                seed=seed,
            )
        shutil.rmtree(str(folder / "logs"), ignore_errors=True)
    return meta_schedule.database.JSONDatabase(work_dir=str(folder))


@contextmanager
def _temporaries() -> Iterator[None]:
    """Pass this process's temporary folder on to the tuner's builder and runner processes."""
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = tempfile.gettempdir()
    try:
        yield
    finally:
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before


def _target(target: Dict[str, Any]) -> Any:
    import tvm

    return tvm.target.Target(target)


def _require_used(database: Any, module: Any, target: Dict[str, Any]) -> int:
    """How many functions of the network the database has a schedule for.

    Raises:
        ConversionFailed: none; the library would not be tuned at all.
    """
    import tvm
    from tvm import relax

    with _target(target), database, tvm.transform.PassContext(opt_level=3):
        applied = relax.transform.MetaScheduleApplyDatabase()(_legalised(module))
    used = sum(
        bool(function.attrs and function.attrs.get("tirx.is_scheduled", False))
        for function in applied.functions.values()
    )
    if not used:
        raise ConversionFailed(
            "tvm_compile: none of %d tuning records applies to this network; give it more"
            " tuning_trials, or tuning: none" % len(database)
        )
    return used


def _build_tuned(database: Any, module: Any, target: Dict[str, Any]) -> Any:
    from tvm.s_tir.meta_schedule.relax_integration import compile_relax

    return compile_relax(database, module, _target(target), {})


def _named(error: Exception) -> Exception:
    """The named error that an error of TVM means."""
    message = str(error)
    match = re.search(r"operators are not supported for frontend ONNX: (.*)", message)
    if match:
        return UnsupportedOperator("tvm", match.group(1).strip())
    last = [line for line in message.strip().splitlines() if line.strip()] or [repr(error)]
    kind = type(error).__name__
    return ConversionFailed("tvm_compile: %s: %s" % (kind, sentence(" ".join(last[-4:]))))


CONVERTER = TvmCompile
