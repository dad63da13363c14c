"""A sweep's YAML file: its keys, their types and defaults."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from agent.contract.scenarios import SCENARIO_KINDS
from agent.contract.trial import Limits, Scenario, Tolerance
from orchestrator.domain import names
from orchestrator.domain.errors import UserError
from orchestrator.domain.possible_limits import impossible_limits
from orchestrator.domain.yaml_file import ParsedYaml, StrictModel, YamlFile
from orchestrator.domain.yaml_source import KeyPath

T = TypeVar("T")
Precision = Literal["fp32", "fp16", "bf16", "int8", "fp8", "int4"]


def _require_name(value: str) -> str:
    why = names.mistake(value)
    if why:
        raise ValueError(why)
    return value


Name = Annotated[str, AfterValidator(_require_name)]
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=200)]
"""One printable line, because terminals show it and PostgreSQL stores no NUL."""

MAX_SPEC_BYTES = 256 * 1024


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


OptionValue = bool | int | float | Text
Many = Annotated[list[T], BeforeValidator(_as_list), Field(min_length=1)]
"""A scalar or a list; a list expands to a Cartesian product with the others."""


class ModelChoice(StrictModel):
    """A registered model. ``calibration``: the data that int8 is calibrated on."""

    name: Name
    calibration: Literal["dataset", "random"] = "dataset"


def _require_quotes(value: Any) -> Any:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise ValueError("quote it: without quotes YAML reads 1.30 as the number 1.3")
    return value


Version = Annotated[Text, BeforeValidator(_require_quotes)]
"""A runtime's version, or a prefix of it that ends at a dot; empty: the device's preferred one."""


Format = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{0,40}$")]
"""The format that the backend loads; empty: the one that is cheapest to make."""
Via = Annotated[str, StringConstraints(pattern=r"^([a-z0-9_]{1,40}(\+[a-z0-9_]{1,40}){0,7})?$")]
"""Converters that must be used, joined by ``+``."""


class RuntimeChoice(StrictModel):
    """One backend and its settings. ``runtime`` is an alias of the key ``backend``. Either may hold
    ``NAME==VERSION`` or a list of them: versions are a dimension like the others."""

    backend: Name
    version: Many[Version] = Field(default=[""])
    target: Many[Text] = Field(default=["CPU"])
    precision: Many[Precision] = Field(default=["fp32"])
    threads: Many[Annotated[int, Field(ge=0, le=4096)]] = Field(default=[0])
    format: Many[Format] = Field(default=[""])
    via: Many[Via] = Field(default=[""])
    options: dict[Text, Many[OptionValue]] = Field(default={})

    @model_validator(mode="before")
    @classmethod
    def _split_versions(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        entry = dict(value)
        if "runtime" in entry:
            if "backend" in entry:
                raise ValueError("runtime and backend are two names of one key; give one")
            entry["backend"] = entry.pop("runtime")
        names = _as_list(entry.get("backend"))
        if not names or not all(isinstance(name, str) for name in names):
            return entry  # the field's own check reports it
        backends, versions = zip(*map(_split, names), strict=True)
        if len(set(backends)) > 1:
            raise ValueError("one backend an entry; write an entry for each")
        entry["backend"] = backends[0]
        if any(versions):
            if "version" in entry:
                raise ValueError("the version is given twice: by == and by the key version")
            entry["version"] = list(versions)
        return entry


def _split(name: str) -> tuple[str, str]:
    backend, pinned, version = name.partition("==")
    if pinned and not version.strip():
        raise ValueError(f"{name}: a version is missing after ==")
    return backend.strip(), version.strip()


class DeviceChoice(StrictModel):
    """Devices by name and by label. If both are given, both must match; if none is, all match."""

    names: list[Name] = Field(default=[])
    select: dict[Text, Text] = Field(default={})


if TYPE_CHECKING:
    ScenarioKind = str
else:  # a type checker cannot read names that are found at run time
    ScenarioKind = Literal[SCENARIO_KINDS]


class ScenarioChoice(StrictModel):
    kind: ScenarioKind = "single_stream"
    min_duration_s: float = Field(default=1.0, ge=0, le=3600)
    max_duration_s: float = Field(default=10.0, gt=0, le=86400)
    warm_up_s: float = Field(default=0.3, ge=0, le=3600)
    min_samples: int = Field(default=100, ge=2, le=10_000_000)
    percentile: float = Field(default=50.0, gt=0, lt=100)
    target_relative_ci: float = Field(default=0.01, gt=0, lt=1)

    @model_validator(mode="after")
    def _minimum_below_maximum(self) -> ScenarioChoice:
        if self.min_duration_s > self.max_duration_s:
            raise ValueError(
                f"min_duration_s {self.min_duration_s:g} is above "
                f"max_duration_s {self.max_duration_s:g}"
            )
        return self

    @property
    def shortest_s(self) -> float:
        """What a trial takes at least, without loading and verifying."""
        return self.warm_up_s + self.min_duration_s

    def at_batch(self, batch_size: int) -> Scenario:
        return Scenario(batch_size=batch_size, **self.model_dump())


class LimitsChoice(StrictModel):
    convert_s: float = Field(default=600.0, gt=0)
    trial_s: float = Field(default=300.0, gt=0)
    memory_mib: int = Field(default=8192, ge=64)

    def wire(self) -> Limits:
        return Limits(**self.model_dump())


class ToleranceChoice(StrictModel):
    """How far the outputs of a precision may be from the reference's. What is left out of the last
    four has the default of that precision (``agent.contract.comparison.LIMITS``)."""

    min_cosine: float = Field(ge=-1, le=1)
    max_top1_drop: float = Field(ge=0, le=1)
    max_relative_error: float | None = Field(default=None, ge=0)
    min_psnr_db: float | None = Field(default=None, ge=0, le=1000)
    min_equal: float | None = Field(default=None, ge=0, le=1)
    min_overlap: float | None = Field(default=None, ge=0, le=1)

    def wire(self) -> Tolerance:
        return Tolerance(**self.model_dump())


DEFAULT_TOLERANCE: dict[str, ToleranceChoice] = {
    "fp32": ToleranceChoice(min_cosine=0.9999, max_top1_drop=0.001),
    "fp16": ToleranceChoice(min_cosine=0.999, max_top1_drop=0.005),
    "bf16": ToleranceChoice(min_cosine=0.99, max_top1_drop=0.01),
    "int8": ToleranceChoice(min_cosine=0.95, max_top1_drop=0.01),
    "fp8": ToleranceChoice(min_cosine=0.95, max_top1_drop=0.01),
    "int4": ToleranceChoice(min_cosine=0.95, max_top1_drop=0.01),
}


class SweepSpec(StrictModel):
    """A sweep: what to run, where, how often, and which deviation of outputs is tolerated.

    Each cell runs in ``trials`` fresh processes, interleaved on each device in an order drawn from
    ``seed``. ``attempts`` bounds the attempts of a trial after transient failures.
    """

    name: Name
    models: Annotated[list[ModelChoice], Field(min_length=1)]
    runtimes: Annotated[list[RuntimeChoice], Field(min_length=1)]
    devices: DeviceChoice = DeviceChoice()
    batch_size: Many[Annotated[int, Field(ge=1, le=65536)]] = Field(default=[1])
    scenario: ScenarioChoice = ScenarioChoice()
    trials: int = Field(default=5, ge=1, le=1000)
    attempts: int = Field(default=3, ge=1, le=100)
    baseline: dict[str, Text] = Field(default={})
    tolerance: dict[Precision, ToleranceChoice] = Field(default={})
    limits: LimitsChoice = LimitsChoice()
    seed: int = 0

    @field_validator("models", mode="before")
    @classmethod
    def _names_are_models(cls, value: Any) -> Any:
        return [{"name": v} if isinstance(v, str) else v for v in _as_list(value)]

    @field_validator("baseline", mode="before")
    @classmethod
    def _numbers_are_text(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {k: str(v) if isinstance(v, (int, float)) else v for k, v in value.items()}

    @field_validator("baseline")
    @classmethod
    def _known_axes(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        options = {name for choice in info.data.get("runtimes", ()) for name in choice.options}
        accepted = [*BASELINE_AXES, *sorted(options - set(BASELINE_AXES))]
        for key in value:
            if key not in accepted:
                raise ValueError(f"unknown key {key!r}; accepted: {', '.join(accepted)}")
        return value

    def tolerance_for(self, precision: str) -> Tolerance:
        chosen = next((t for p, t in self.tolerance.items() if p == precision), None)
        return (chosen or DEFAULT_TOLERANCE[precision]).wire()


BASELINE_AXES = (
    "device", "backend", "version", "target", "precision", "threads", "batch_size", "format", "via",
)  # fmt: skip
"""Keys of ``baseline``; options of the sweep's runtimes are accepted too."""


def _is_text(path: KeyPath, value: str) -> bool:
    """Tags are text, as in a fleet file (``builder: yes``), and so are ``on`` and ``off`` of an
    option: words of the runtimes, which YAML 1.1 reads as booleans."""
    is_option = path[:1] == ("runtimes",) and "options" in path[2:3]
    return path[:2] == ("devices", "select") or (is_option and value in ("on", "off"))


_FILE = YamlFile(SweepSpec, is_text=_is_text, max_mistakes=20)


def parse(text: str, source: str, name: str = "") -> SweepSpec:
    """The spec in ``text``; see ``parse_with_lines``. Raises ``UserError``."""
    return parse_with_lines(text, source, name).value


def parse_with_lines(text: str, source: str, name: str = "") -> ParsedYaml[SweepSpec]:
    """Check a sweep's YAML. ``source`` names the file in messages; ``name`` replaces the file's.

    Raises:
        UserError: not YAML, not a mapping, an unknown key, a value of the wrong kind; a line for
            each mistake names the file, the line, the key, what was found and what is accepted.
    """
    if len(text.encode()) > MAX_SPEC_BYTES:
        raise UserError(f"{source}: larger than {MAX_SPEC_BYTES // 1024} KiB; split the sweep")
    parsed = _FILE.parse(text, source, override={"name": name} if name else None)
    limits, given = parsed.value.limits, parsed.value.limits.model_fields_set
    shortest_s = parsed.value.scenario.shortest_s
    mistakes = [
        f"{parsed.where('limits', key)}: limits.{key}: {why}"
        for key, why in impossible_limits(limits.wire(), given, shortest_s).items()
    ]
    if mistakes:
        raise UserError("\n".join(mistakes))
    return parsed


def read(path: Path) -> tuple[SweepSpec, str]:
    """The spec in ``path`` and its text. Raises ``UserError``."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; a sweep is a YAML file") from None
    return parse(text, str(path)), text
