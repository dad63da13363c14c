"""A sweep's YAML file: its keys, their defaults, and errors that name file, key and remedy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from agent.contract.scenarios import SCENARIO_KINDS
from agent.contract.trial import Limits, Scenario, Tolerance
from orchestrator.domain.errors import UserError

T = TypeVar("T")
Precision = Literal["fp32", "fp16", "bf16", "int8"]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=200)]
"""One printable line: terminals show it, and PostgreSQL takes no NUL."""

MAX_SPEC_BYTES = 256 * 1024


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


OptionValue = bool | int | float | Text
Many = Annotated[list[T], BeforeValidator(_as_list), Field(min_length=1)]
"""A scalar or a list; a list expands to a Cartesian product with the others."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ModelChoice(Strict):
    """A registered model. ``calibration`` says what int8 is calibrated on."""

    name: Name
    calibration: Literal["dataset", "random"] = "dataset"


def _quoted(value: Any) -> Any:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise ValueError("quote it: without quotes YAML reads 1.30 as the number 1.3")
    return value


Version = Annotated[Text, BeforeValidator(_quoted)]
"""A runtime's version or a prefix of it at a dot; empty: the one that the device prefers."""


Format = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{0,40}$")]
"""Which of a backend's formats it loads; empty: the one that is cheapest to come by."""
Via = Annotated[str, StringConstraints(pattern=r"^([a-z0-9_]{1,40}(\+[a-z0-9_]{1,40}){0,7})?$")]
"""Converters on the way there, joined by ``+``."""


class RuntimeChoice(Strict):
    """One backend. ``runtime`` is another name of the key ``backend``, and either may hold
    ``NAME==VERSION``, or a list of such: versions are a dimension like the others."""

    backend: Name
    version: Many[Version] = [""]
    target: Many[Text] = ["CPU"]
    precision: Many[Precision] = ["fp32"]
    threads: Many[Annotated[int, Field(ge=0, le=4096)]] = [0]
    format: Many[Format] = [""]
    via: Many[Via] = [""]
    options: dict[Text, Many[OptionValue]] = {}

    @model_validator(mode="before")
    @classmethod
    def _pinned(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        given = dict(value)
        if "runtime" in given:
            if "backend" in given:
                raise ValueError("runtime and backend are two names of one key; give one")
            given["backend"] = given.pop("runtime")
        names = _as_list(given.get("backend"))
        if not names or not all(isinstance(name, str) for name in names):
            return given  # the field's own check explains it
        backends, versions = zip(*map(_split, names), strict=True)
        if len(set(backends)) > 1:
            raise ValueError("one backend an entry; write an entry for each")
        given["backend"] = backends[0]
        if any(versions):
            if "version" in given:
                raise ValueError("the version is given twice: by == and by the key version")
            given["version"] = list(versions)
        return given


def _split(name: str) -> tuple[str, str]:
    backend, pinned, version = name.partition("==")
    if pinned and not version.strip():
        raise ValueError(f"{name}: a version is missing after ==")
    return backend.strip(), version.strip()


class DeviceChoice(Strict):
    """Devices by name and by label; both given: those that satisfy both. None given: all."""

    names: list[Name] = []
    select: dict[Text, Text] = {}


if TYPE_CHECKING:
    ScenarioKind = str
else:  # a type checker cannot read names that are found at run time
    ScenarioKind = Literal[SCENARIO_KINDS]


class ScenarioChoice(Strict):
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

    def at_batch(self, batch_size: int) -> Scenario:
        return Scenario(batch_size=batch_size, **self.model_dump())


class LimitsChoice(Strict):
    convert_s: float = Field(default=600.0, gt=0)
    trial_s: float = Field(default=300.0, gt=0)
    memory_mib: int = Field(default=8192, ge=64)

    def wire(self) -> Limits:
        return Limits(**self.model_dump())


class ToleranceChoice(Strict):
    min_cosine: float = Field(ge=-1, le=1)
    max_top1_drop: float = Field(ge=0, le=1)

    def wire(self) -> Tolerance:
        return Tolerance(**self.model_dump())


DEFAULT_TOLERANCE: dict[str, ToleranceChoice] = {
    "fp32": ToleranceChoice(min_cosine=0.9999, max_top1_drop=0.001),
    "fp16": ToleranceChoice(min_cosine=0.999, max_top1_drop=0.005),
    "bf16": ToleranceChoice(min_cosine=0.99, max_top1_drop=0.01),
    "int8": ToleranceChoice(min_cosine=0.95, max_top1_drop=0.01),
}


class SweepSpec(Strict):
    """What to run, where, how often, and when its outputs still count as the same network.

    ``trials`` fresh processes a cell, randomised and interleaved on each device by ``seed``;
    ``attempts`` bounds how often one trial is tried again after a transient failure.
    """

    name: Name
    models: Annotated[list[ModelChoice], Field(min_length=1)]
    runtimes: Annotated[list[RuntimeChoice], Field(min_length=1)]
    devices: DeviceChoice = DeviceChoice()
    batch_size: Many[Annotated[int, Field(ge=1, le=65536)]] = [1]
    scenario: ScenarioChoice = ScenarioChoice()
    trials: int = Field(default=5, ge=1, le=1000)
    attempts: int = Field(default=3, ge=1, le=100)
    baseline: dict[str, Text] = {}
    tolerance: dict[Precision, ToleranceChoice] = {}
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
        return {k: str(v) if type(v) is int else v for k, v in value.items()}

    @field_validator("baseline")
    @classmethod
    def _known_axes(cls, value: dict[str, str]) -> dict[str, str]:
        for key in value:
            if key not in BASELINE_AXES:
                raise ValueError(f"unknown key {key!r}; accepted: {', '.join(BASELINE_AXES)}")
        return value

    def tolerance_for(self, precision: str) -> Tolerance:
        chosen = next((t for p, t in self.tolerance.items() if p == precision), None)
        return (chosen or DEFAULT_TOLERANCE[precision]).wire()


BASELINE_AXES = ("device", "backend", "version", "target", "precision", "threads", "batch_size")


def parse(text: str, source: str, name: str = "") -> SweepSpec:
    """Check a sweep's YAML. ``source`` names the file in messages; ``name`` replaces the file's.

    Raises:
        UserError: not YAML, not a mapping, an unknown key, a value of the wrong kind; the message
            names the file, the key, what was found and what would be accepted.
    """
    if len(text.encode()) > MAX_SPEC_BYTES:
        raise UserError(f"{source}: larger than {MAX_SPEC_BYTES // 1024} KiB; split the sweep")
    try:
        data = yaml.load(text, _Loader)
    except Exception as error:  # noqa: BLE001  a value such as 2025-99-99 raises what it likes
        raise UserError(f"{source}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise UserError(f"{source}: expected a mapping with name, models and runtimes at the top")
    try:
        return SweepSpec.model_validate({**data, "name": name} if name else data)
    except ValidationError as error:
        raise UserError("\n".join(_explain(source, e) for e in error.errors()[:5])) from None


class _Loader(yaml.SafeLoader):
    """YAML less its traps: an alias can make a kilobyte stand for gigabytes, and of a key that is
    given twice the first value would vanish without a word."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise ComposerError(None, None, "aliases (*name) are not accepted; write it out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise ConstructorError(
                        None, None, f"key {key.value!r} is given twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read(path: Path) -> tuple[SweepSpec, str]:
    """The spec in ``path`` and its text. Raises ``UserError``."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; a sweep is a YAML file") from None
    return parse(text, str(path)), text


def _explain(source: str, error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"]) or "(top)"
    match error["type"]:
        case "extra_forbidden":
            accepted = ", ".join(_keys_at(error["loc"][:-1]))
            return f"{source}: unknown key {where!r}; accepted here: {accepted}"
        case "missing":
            return f"{source}: key {where!r} is missing"
        case _:
            message = error["msg"].removeprefix("Value error, ")
            return f"{source}: {where}: {message} (found {_short(error['input'])})"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _keys_at(loc: tuple[Any, ...]) -> list[str]:
    """The keys that the model at ``loc`` accepts, found by walking the field types."""
    model: type[BaseModel] = SweepSpec
    for part in loc:
        if isinstance(part, str) and part in NESTED:
            model = NESTED[part]
    return list(model.model_fields)


NESTED: dict[str, type[BaseModel]] = {
    "models": ModelChoice,
    "runtimes": RuntimeChoice,
    "devices": DeviceChoice,
    "scenario": ScenarioChoice,
    "limits": LimitsChoice,
    "tolerance": ToleranceChoice,
}
