"""The wire types between the controller, the agent and the measured child process.

Frozen dataclasses, standard library only, in Python 3.8 syntax: the measured child runs under the
interpreter that a board's vendor bindings need. Field names carry their units: ``_s`` seconds,
``_ms`` milliseconds, ``_ns`` nanoseconds, ``_mib`` mebibytes, ``_bytes`` bytes.
``agent.contract.codec`` turns them into JSON and back, and refuses keys that it does not know.

A sender writes every field, so a field can only be removed a release after nobody sends it: those
that are marked "not used" are kept for controllers and agents of 0.1, whose messages hold them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Optional, Tuple, Union

from agent.contract.codec import NEWER
from agent.contract.comparison import Check
from agent.contract.conversion_graph import Node
from agent.contract.scoring import Scoring

SCHEMA = 1
"""Version of this contract; a request of another version is refused with both numbers."""

PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8", "int4")
"""``fp32`` stands for wider floats too, ``int8`` for integers of 16 bits too. ``fp8`` and ``int4``
are precisions of files only: nothing here converts to them."""
STAGES = ("fetch", "environment", "convert", "load", "warm_up", "measure", "verify")
SAMPLES_ENCODING = "int64le+zstd"
"""How raw samples travel and are stored (``Samples.encoding``)."""
STATUSES = ("ok", "unsupported", "invalid", "failed", "cancelled")
"""``unsupported``: this runtime cannot run that model, which is a result. ``invalid``: it ran, but
its figures cannot be trusted (see ``Failure``). ``failed``: it did not run to the end."""

Option = Union[str, int, float, bool]
Options = Dict[str, Option]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        dtype: NumPy's name: ``float32``, ``int64``, ``uint8``.
        shape: -1 stands for a dimension that the source leaves free.
        layout: ``NCHW``, ``NHWC``, or empty where it is unknown; it is never guessed.
    """

    name: str
    dtype: str
    shape: Tuple[int, ...]
    layout: str = ""


@dataclass(frozen=True)
class ModelRef:
    """A source artifact.

    Attributes:
        inputs: the model's, as registered, in the form that its reference and data set have; their
            shapes are fixed, the controller has resolved every free dimension.
        outputs: likewise.
        own_inputs: the artifact's, in the model's order, where its names or layouts differ from the
            model's; empty: they are the same.
        own_outputs: likewise.
        precision: the file's; empty where it is to be read from the file.
        entry: the member to load of a blob that is an archive (``agent.formats.archive``); empty:
            the blob is the artifact.
        made: the steps that made it on another device.
    """

    name: str
    format: str
    sha256: str
    size_bytes: int
    inputs: Tuple[TensorSpec, ...]
    outputs: Tuple[TensorSpec, ...]
    own_inputs: Tuple[TensorSpec, ...] = ()
    own_outputs: Tuple[TensorSpec, ...] = ()
    precision: str = ""
    entry: str = ""
    made: Tuple[str, ...] = ()


@dataclass(frozen=True)
class RuntimeRef:
    """What to run a model with.

    Attributes:
        threads: 0 leaves the runtime's own default.
        format: which of the formats that the backend loads; empty: the one with the cheapest
            conversion path.
        via: converters that the path must pass, in this order.
    """

    backend: str
    version: str = ""
    target: str = "CPU"
    precision: str = "fp32"
    threads: int = 0
    options: Options = field(default_factory=dict)
    format: str = ""
    via: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Scenario:
    """The load on a session, and when a trial has enough samples (see ``agent.statistics``).

    Attributes:
        kind: one of ``agent.contract.scenarios.SCENARIO_KINDS``.
        batch_size: how many of the model's registered inputs are joined along axis 0.
        concurrency: always 1; a loop refuses any other number.
        target_qps: not used; kept for 0.1.
        latency_bound_ms: not used; kept for 0.1.
        percentile: the one whose relative confidence half-width must reach ``target_relative_ci``.
    """

    kind: str = "single_stream"
    batch_size: int = 1
    concurrency: int = 1
    target_qps: float = 0.0
    latency_bound_ms: float = 0.0
    min_duration_s: float = 1.0
    max_duration_s: float = 10.0
    warm_up_s: float = 0.3
    min_samples: int = 100
    percentile: float = 50.0
    target_relative_ci: float = 0.01


@dataclass(frozen=True)
class ReferenceRef:
    """The FP32 reference outputs of a model: an ``.npz`` blob with arrays ``input:NAME`` and
    ``output:NAME``, each of shape (feeds, *tensor shape), or one array for each feed
    (``agent.runner.feeds.save_reference``).

    ``origin`` says what computed it, e.g. ``onnxruntime 1.31.1, graph optimisation off``; ``top1``
    is the source model's score on the data set.
    """

    sha256: str
    size_bytes: int
    feeds: int
    origin: str
    top1: Optional[float] = None


@dataclass(frozen=True)
class DatasetRef:
    """A labelled data set: an ``.npz`` blob with ``inputs`` (samples, *one sample's shape),
    ``labels`` (samples,) or (samples, labels) of the held-out part, and ``calibration``
    (m, *one sample's shape); for several inputs ``inputs:NAME`` and ``calibration:NAME`` of each.

    ``scoring``: how outputs are scored against the labels; ``None``: by the arg-max of the first
    output, which is all that agents of 0.1 know.
    """

    name: str
    sha256: str
    size_bytes: int
    samples: int
    calibration_samples: int
    scoring: Optional[Scoring] = field(default=None, metadata=NEWER)


@dataclass(frozen=True)
class Tolerance:
    """When a cell's outputs still count as the same network (docs/decisions/0018).

    Against the FP32 reference, over all its inputs; shares are between 0 and 1, a drop of 0.01 is
    one point. ``None``: the default for the cell's precision (``agent.contract.comparison``).
    """

    min_cosine: float
    max_top1_drop: float
    max_relative_error: Optional[float] = field(default=None, metadata=NEWER)
    min_psnr_db: Optional[float] = field(default=None, metadata=NEWER)
    min_equal: Optional[float] = field(default=None, metadata=NEWER)
    min_overlap: Optional[float] = field(default=None, metadata=NEWER)


@dataclass(frozen=True)
class Limits:
    """Bounds of one attempt: wall time of conversion and of measurement, memory of each child."""

    convert_s: float = 600.0
    trial_s: float = 300.0
    memory_mib: int = 8192


@dataclass(frozen=True)
class TrialRequest:
    """What an agent needs to execute one attempt.

    Attributes:
        calibration: ``dataset``, ``random`` or empty.
        telemetry: not used; kept for 0.1.
        power_mode: not used; kept for 0.1.
        build: the (format, precision) to convert the model to for another device and to upload.
            Nothing is measured then; only the options and ``via`` of ``runtime`` apply.
    """

    schema: int
    attempt_id: str
    trial_id: str
    model: ModelRef
    runtime: RuntimeRef
    scenario: Scenario
    reference: ReferenceRef
    tolerance: Tolerance
    dataset: Optional[DatasetRef] = None
    calibration: str = ""
    telemetry: Tuple[str, ...] = ()
    power_mode: str = ""
    limits: Limits = field(default_factory=Limits)
    seed: int = 0
    build: Optional[Node] = None


@dataclass(frozen=True)
class Failure:
    """Why an attempt gave no figure: an error as data.

    ``kind`` is a short machine-readable word: ``unsupported_operator``, ``crash``, ``timeout``,
    ``out_of_memory``, ``runtime_missing``, ``bad_output``, ``clock``, ``io``, ``internal`` …
    ``transient``: another attempt may succeed.
    """

    stage: str
    kind: str
    message: str
    transient: bool = False
    log_tail: str = ""


@dataclass(frozen=True)
class Phases:
    """How long an attempt spent in each phase; ``None``: it did not get there.

    ``import_s`` is the import of the runtime, ``load_cold_s`` the first load in a fresh process,
    ``load_warm_s`` a second load in the same process; ``convert_s`` is 0.0 on an engine-cache hit.
    ``process_s`` is the wall time of the measured child from spawn to exit, as its parent sees it;
    ``total_s`` that of the attempt, from the doorbell to the result in the outbox.
    ``preprocess_ms`` is not used; it is kept for 0.1.
    """

    fetch_s: Optional[float] = None
    convert_s: Optional[float] = None
    import_s: Optional[float] = None
    load_cold_s: Optional[float] = None
    load_warm_s: Optional[float] = None
    first_inference_ms: Optional[float] = None
    warm_up_s: Optional[float] = None
    measure_s: Optional[float] = None
    verify_s: Optional[float] = None
    preprocess_ms: Optional[float] = None
    process_s: Optional[float] = None
    total_s: Optional[float] = None


@dataclass(frozen=True)
class Clock:
    """The clock's measured tick (greatest common divisor of observed steps) and cost of a call."""

    name: str
    tick_ns: int
    call_ns: float


@dataclass(frozen=True)
class Samples:
    """The raw samples blob: little-endian int64, shape (len(series), count), nanoseconds.

    ``series[0]`` is always ``caller``: the latency that the calling code saw. ``runtime``, where
    present, is the latency that the runtime itself reports for the same inferences.
    ``calls_per_sample`` > 1: each sample is the mean of that many back-to-back calls (clock guard).
    ``stopped_by``: ``precision`` or ``max_duration``. ``wall_s`` is the loop's outer wall time.
    """

    sha256: str
    size_bytes: int
    count: int
    series: Tuple[str, ...]
    encoding: str
    calls_per_sample: int
    batch_size: int
    stopped_by: str
    wall_s: float


@dataclass(frozen=True)
class Memory:
    """Peak resident set of the measured child (``VmHWM``, reset before the load)."""

    peak_rss_mib: float
    after_import_rss_mib: float
    source: str


@dataclass(frozen=True)
class Usage:
    """Processor use over the measured loop; ``cpu_percent`` 200 means two cores busy."""

    cpu_percent: float
    voluntary_switches: int
    involuntary_switches: int


@dataclass(frozen=True)
class Fidelity:
    """Outputs against the FP32 reference on the same inputs: the worst output over all feeds.

    ``psnr_db`` is ``None`` where the outputs are identical: it would be infinite. ``cosine`` is the
    share that is right where no output has a direction. ``checks``: each criterion on each
    output, the one that decides first; empty from agents of 0.1.
    """

    max_abs: float
    max_rel: float
    cosine: float
    psnr_db: Optional[float]
    feeds: int
    worst_output: str
    passed: bool
    checks: Tuple[Check, ...] = field(default=(), metadata=NEWER)


@dataclass(frozen=True)
class Accuracy:
    """Share of held-out samples that are predicted right (``agent.contract.scoring``);
    ``reference_top1`` is the source's. ``remark``: what makes the figure doubtful, such as an
    accuracy that is no better than chance."""

    top1: float
    samples: int
    reference_top1: Optional[float]
    passed: bool
    remark: str = field(default="", metadata=NEWER)


@dataclass(frozen=True)
class Fingerprint:
    """The board's condition just before or after a measurement; ``None``: it could not be read.

    ``pressure_cpu_some_us`` is the cumulated stall time of ``some`` in ``/proc/pressure/cpu``.
    """

    at_unix_ns: int
    load_average_1m: Optional[float] = None
    cpu_mhz: Optional[float] = None
    governor: Optional[str] = None
    temperature_c: Optional[float] = None
    pressure_cpu_some_us: Optional[int] = None
    memory_available_mib: Optional[float] = None


@dataclass(frozen=True)
class Built:
    """An artifact that was built for other devices and uploaded; ``entry`` as in ``ModelRef``.

    ``inputs`` and ``outputs`` are its own, empty where they equal the model's; ``steps`` made it.
    """

    format: str
    precision: str
    sha256: str
    size_bytes: int
    entry: str = ""
    inputs: Tuple[TensorSpec, ...] = ()
    outputs: Tuple[TensorSpec, ...] = ()
    steps: Tuple[str, ...] = ()


@dataclass(frozen=True)
class TrialResult:
    """The result of an attempt.

    ``failure`` is set exactly when ``status`` is not ``ok``; otherwise ``samples`` is set, or
    ``built`` where the request was to build.

    ``runtime_version`` and ``environment`` say what ran, ``placement`` where (provider or device in
    the runtime's words), ``artifact_format`` and ``artifact_size_bytes`` what was loaded,
    ``conversion`` the steps that made it. ``telemetry`` is not filled by any agent so far.
    """

    schema: int
    attempt_id: str
    status: str
    agent_version: str
    phases: Phases = field(default_factory=Phases)
    failure: Optional[Failure] = None
    samples: Optional[Samples] = None
    memory: Optional[Memory] = None
    usage: Optional[Usage] = None
    fidelity: Optional[Fidelity] = None
    accuracy: Optional[Accuracy] = None
    clock: Optional[Clock] = None
    runtime_version: str = ""
    environment: str = ""
    placement: str = ""
    artifact_format: str = ""
    artifact_size_bytes: Optional[int] = None
    conversion: Tuple[str, ...] = ()
    convert_cached: bool = False
    telemetry: Dict[str, float] = field(default_factory=dict)
    fingerprint_before: Optional[Fingerprint] = None
    fingerprint_after: Optional[Fingerprint] = None
    built: Optional[Built] = None
