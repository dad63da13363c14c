"""Device classes: what kind of board this is, recognised from its facts, and what it is expected to
have and to be given. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from agent.contract.device import DeviceFacts
from agent.contract.power_modes import PowerCommands
from agent.contract.trial import Limits
from agent.telemetry.registry import SOURCES

Fact = Literal["machine", "cpu_model", "model", "soc", "accelerators"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
if TYPE_CHECKING:
    Telemetry = str
else:
    Telemetry = Literal[tuple(SOURCES)]
    """Names of telemetry sources, which are those of the files of ``agent/telemetry``."""


def _one_or_more(given: Any) -> Any:
    return given if isinstance(given, list | tuple) else (given,)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class HealthPolicy(Strict):
    """What a board of the class must keep to be healthy. ``backend``: runs the health check's model
    (empty: whichever answers first). ``max_latency_ms``: the canary's, whatever the history."""

    backend: str = ""
    max_temperature_c: float = 90.0
    min_free_mib: float = 512.0
    max_latency_ms: float | None = None


class VendorRuntime(Strict):
    """A runtime whose bindings the vendor installs: nothing is built, an interpreter is named.

    ``python``: paths on the board, or backends built before it, whose interpreter is then meant;
    the first counts that is Python 3.8 or newer and imports ``imports``. ``packages``: what gives
    the board those bindings, for the message where none does.
    """

    name: str = Field(pattern=r"^[a-z0-9_]{1,40}$")
    python: Annotated[tuple[str, ...], BeforeValidator(_one_or_more)] = Field(min_length=1)
    imports: tuple[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$")], ...] = ()
    packages: str = ""

    @field_validator("python")
    @classmethod
    def _path_or_backend(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for text in given:
            if not re.fullmatch(r"/[A-Za-z0-9._/+-]+|[a-z0-9_]{1,40}", text):
                raise ValueError(f"{text!r}: expected an absolute path or a backend's name")
        return given


Runtime = Annotated[
    Annotated[str, Tag("text")] | Annotated[VendorRuntime, Tag("vendor")],
    Discriminator(lambda given: "text" if isinstance(given, str) else "vendor"),
]
"""As ``benchfarm-agent runtimes add`` takes it, or a vendor's. Told apart before they are checked,
so that a mistake is said once."""


class Power(Strict):
    """How the power mode is asked for and set; argument vectors, never a shell's text.
    See ``agent.contract.power_modes.PowerCommands``. ``needs_reboot``: modes that only a restart
    brings."""

    modes: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,40}$")], ...] = Field(min_length=1)
    query: tuple[str, ...] = Field(min_length=1)
    select: tuple[str, ...] = Field(min_length=2)
    listing: str = ""
    show: tuple[str, ...] = ()
    forget: tuple[str, ...] = ()
    store: tuple[str, ...] = ()
    lock: tuple[str, ...] = ()
    restore: tuple[str, ...] = ()
    needs_reboot: tuple[str, ...] = ()

    @field_validator("query", "select", "show", "forget", "store", "lock", "restore")
    @classmethod
    def _plain_words(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        """They stand in a sudoers file as they are."""
        for word in words:
            if not re.fullmatch(r"[A-Za-z0-9._/-]+|\{id\}|\{name\}", word):
                raise ValueError(f"{word!r}: expected letters, digits and . _ / - alone")
        if words and not words[0].startswith("/"):
            raise ValueError(f"{words[0]!r}: expected the program's whole path")
        return words

    @model_validator(mode="after")
    def _goes_together(self) -> Power:
        if ("{id}" in self.select) != bool(self.listing):
            raise ValueError("{id} in select goes with a listing that gives the numbers")
        if not {"{id}", "{name}"} & set(self.select):
            raise ValueError("select: expected {id} or {name} among its words")
        strange = set(self.needs_reboot) - set(self.modes)
        if strange:
            raise ValueError(f"needs_reboot: {', '.join(sorted(strange))} not among the modes")
        return self

    def commands(self) -> PowerCommands:
        return PowerCommands(**self.model_dump(exclude={"needs_reboot"}))


class ClassLimits(Strict):
    """Bounds that make sense on such a board. ``memory_share``: of its memory, for one child."""

    convert_s: float | None = Field(default=None, gt=0)
    trial_s: float | None = Field(default=None, gt=0)
    memory_share: float | None = Field(default=None, gt=0, le=1)

    def bound(self, asked: Limits, said: Collection[str], memory_mib: float | None) -> Limits:
        """``asked`` as it shall be on a board with so much memory: the class's times where the
        sweep did not say any (``said``: the fields that it did), and never more than the share."""
        times = {"convert_s": self.convert_s, "trial_s": self.trial_s}
        ours = {k: v for k, v in times.items() if v is not None and k not in said}
        memory = asked.memory_mib
        if self.memory_share is not None and memory_mib:
            memory = min(memory, int(self.memory_share * memory_mib))
        return replace(asked, memory_mib=memory, **ours)


class DeviceClass(Strict):
    """One ``inventory/classes/*.yaml``. ``recognise`` maps facts to regular expressions, all of
    which must be found; of several such maps one is enough. ``runtimes``: what its boards are
    given, as ``benchfarm-agent runtimes add`` takes it, or a vendor's. ``groups``: those of the
    board in which the agent's user reaches its accelerators and sensors. ``steps``: what its
    installation takes besides (``playbooks.class_steps``). ``targets``: backend → target →
    precisions that such a board is expected to have, where the backend answers at all."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    title: str
    priority: int = 0
    recognise: Annotated[tuple[dict[Fact, str], ...], BeforeValidator(_one_or_more)] = ()
    runtimes: tuple[Runtime, ...] = ()
    groups: tuple[Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")], ...] = ()
    steps: tuple[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")], ...] = ()
    targets: dict[str, dict[str, tuple[Precision, ...]]] = {}
    telemetry: tuple[Telemetry, ...] = ()
    power: Power | None = None
    health: HealthPolicy = Field(default_factory=HealthPolicy)
    limits: ClassLimits = Field(default_factory=ClassLimits)

    @field_validator("recognise")
    @classmethod
    def _patterns(cls, ways: tuple[dict[Fact, str], ...]) -> tuple[dict[Fact, str], ...]:
        for pattern in (p for way in ways for p in way.values()):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return tuple(way for way in ways if way)

    @model_validator(mode="after")
    def _named_before(self) -> DeviceClass:
        built: set[str] = set()
        for runtime in self.runtimes:
            if isinstance(runtime, str):
                built.add(re.split("[@=]", runtime)[0])
                continue
            unknown = [p for p in runtime.python if not p.startswith("/") and p not in built]
            if unknown:
                raise ValueError(
                    f"runtimes: {runtime.name} names the interpreter of {unknown[0]!r}, "
                    "which is not built before it"
                )
        return self

    def fits(self, facts: DeviceFacts) -> bool:
        return any(
            all(
                re.search(pattern, _text(facts, fact), re.IGNORECASE | re.MULTILINE)
                for fact, pattern in way.items()
            )
            for way in self.recognise
        )

    def lacking(self, answering: Mapping[str, Mapping[str, Iterable[str]]]) -> list[str]:
        """What such a board is expected to have and this one does not, a line each.
        ``answering``: backend → target → precisions, of the backends that answer there."""
        lines = []
        for backend, targets in self.targets.items():
            if backend not in answering:
                if backend in self._given():
                    lines.append(f"{backend} does not answer")
                continue
            for target, precisions in targets.items():
                here = answering[backend].get(target)
                missing = [p for p in precisions if p not in (here or ())]
                if here is None:
                    lines.append(f"{backend} has no {target}")
                elif missing:
                    lines.append(f"{backend} on {target} lacks {', '.join(missing)}")
        return lines

    def _given(self) -> set[str]:
        return {re.split("[@=]", r)[0] if isinstance(r, str) else r.name for r in self.runtimes}


def recognise(classes: Iterable[DeviceClass], facts: DeviceFacts) -> str:
    """The name of the most specific class that fits, or ``unknown``."""
    fitting = [c for c in classes if c.fits(facts)]
    return max(fitting, key=lambda c: (c.priority, c.name)).name if fitting else "unknown"


def _text(facts: DeviceFacts, fact: str) -> str:
    """A fact to look for a pattern in; each accelerator is a line ``KIND BUS NAME``."""
    if fact == "accelerators":
        return "\n".join(f"{a.kind} {a.bus} {a.name}" for a in facts.accelerators)
    return str(getattr(facts, fact, None) or "")
