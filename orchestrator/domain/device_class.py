"""Device classes: the kinds of boards, how one is recognised from its facts, and what is installed
and expected there. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Strict,
    Tag,
    field_validator,
    model_validator,
)

from agent.contract.device import DeviceFacts
from agent.contract.power_modes import PowerCommands
from agent.contract.trial import Limits
from agent.telemetry.registry import SOURCES
from orchestrator.domain.yaml_file import StrictModel

T = TypeVar("T")
Many = Annotated[tuple[T, ...], Strict(False)]
"""A YAML list, kept as a tuple."""
Fact = Literal["machine", "cpu_model", "model", "soc", "accelerators"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
if TYPE_CHECKING:
    Telemetry = str
else:
    Telemetry = Literal[tuple(SOURCES)]
    """Names of telemetry sources, which are those of the files of ``agent/telemetry``."""


def _one_or_more(given: Any) -> Any:
    return given if isinstance(given, list | tuple) else (given,)


class HealthPolicy(StrictModel):
    """Bounds for a healthy board. ``backend`` runs the health check's model (empty: the first that
    answers). ``max_latency_ms`` bounds the canary's latency in addition to its history."""

    backend: str = ""
    max_temperature_c: float = 90.0
    min_free_mib: float = 512.0
    max_latency_ms: float | None = None


class VendorRuntime(StrictModel):
    """A runtime whose bindings the vendor installs: nothing is built, an interpreter is chosen.

    ``python`` lists candidates: paths on the board, or names of backends above it, which stand for
    the interpreter of their environment. The first is taken that is Python 3.8 or newer and imports
    ``imports``. ``packages`` names what to install, for the message if there is none.
    """

    name: str = Field(pattern=r"^[a-z0-9_]{1,40}$")
    python: Annotated[Many[str], BeforeValidator(_one_or_more)] = Field(min_length=1)
    imports: Many[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$")]] = ()
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
"""An argument of ``benchfarm-agent runtimes add``, or a vendor's runtime. The discriminator keeps
pydantic from reporting a mistake once for each member of the union."""


class Power(StrictModel):
    """Commands that query and set the power mode, as argument vectors, never as shell text; see
    ``agent.contract.power_modes.PowerCommands``. ``needs_reboot``: modes that need a restart."""

    modes: Many[Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,40}$")]] = Field(min_length=1)
    query: Many[str] = Field(min_length=1)
    select: Many[str] = Field(min_length=2)
    listing: str = ""
    show: Many[str] = ()
    forget: Many[str] = ()
    store: Many[str] = ()
    lock: Many[str] = ()
    restore: Many[str] = ()
    needs_reboot: Many[str] = ()

    @field_validator("query", "select", "show", "forget", "store", "lock", "restore")
    @classmethod
    def _plain_words(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        """These words are written to a sudoers file verbatim."""
        for word in words:
            if not re.fullmatch(r"[A-Za-z0-9._/-]+|\{id\}|\{name\}", word):
                raise ValueError(f"{word!r}: expected letters, digits and . _ / - alone")
        if words and not words[0].startswith("/"):
            raise ValueError(f"{words[0]!r}: expected the program's whole path")
        return words

    @model_validator(mode="after")
    def _select_matches_listing(self) -> Power:
        if ("{id}" in self.select) != bool(self.listing):
            raise ValueError("{id} in select goes with a listing that gives the numbers")
        if not {"{id}", "{name}"} & set(self.select):
            raise ValueError("select: expected {id} or {name} among its words")
        unknown = set(self.needs_reboot) - set(self.modes)
        if unknown:
            raise ValueError(f"needs_reboot: {', '.join(sorted(unknown))} not among the modes")
        return self

    def commands(self) -> PowerCommands:
        return PowerCommands(**self.model_dump(exclude={"needs_reboot"}))


class ClassLimits(StrictModel):
    """Bounds for trials on such a board. ``memory_share``: of its memory, for one child process."""

    convert_s: float | None = Field(default=None, gt=0)
    trial_s: float | None = Field(default=None, gt=0)
    memory_share: float | None = Field(default=None, gt=0, le=1)

    def bound(self, limits: Limits, given: Collection[str], memory_mib: float | None) -> Limits:
        """A sweep's ``limits`` for a board with so much memory: the class's times replace those
        that the sweep did not give (``given``: fields that it did), and memory never exceeds the
        class's share."""
        times = {"convert_s": self.convert_s, "trial_s": self.trial_s}
        defaults = {k: v for k, v in times.items() if v is not None and k not in given}
        memory = limits.memory_mib
        if self.memory_share is not None and memory_mib:
            memory = min(memory, int(self.memory_share * memory_mib))
        return replace(limits, memory_mib=memory, **defaults)


class DeviceClass(StrictModel):
    """One ``inventory/classes/*.yaml``.

    ``recognise`` maps facts to regular expressions: all of a map must be found, and one of several
    maps is enough. ``examples`` are facts of boards of this class, for the tests. ``runtimes`` are
    installed on its boards: an argument of ``benchfarm-agent runtimes add``, or a vendor's runtime.
    ``groups`` are Unix groups that give the agent's user access to accelerators and sensors.
    ``steps`` are further steps of the installation (``playbooks.class_steps``). ``targets`` maps
    backend → target → precisions that such a board is expected to have if the backend answers.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    title: str
    priority: int = 0
    recognise: Annotated[Many[dict[Fact, str]], BeforeValidator(_one_or_more)] = ()
    examples: Many[dict[Fact, str]] = ()
    runtimes: Many[Runtime] = ()
    groups: Many[Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")]] = ()
    steps: Many[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]] = ()
    targets: dict[str, dict[str, Many[Precision]]] = Field(default={})
    telemetry: Many[Telemetry] = ()
    power: Power | None = None
    health: HealthPolicy = Field(default_factory=HealthPolicy)
    limits: ClassLimits = Field(default_factory=ClassLimits)

    @field_validator("recognise")
    @classmethod
    def _patterns(cls, rules: tuple[dict[Fact, str], ...]) -> tuple[dict[Fact, str], ...]:
        for pattern in (p for rule in rules for p in rule.values()):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return tuple(rule for rule in rules if rule)

    @model_validator(mode="after")
    def _examples_fit(self) -> DeviceClass:
        for number, example in enumerate(self.examples):
            if not self._matches(example):
                raise ValueError(f"examples.{number} is not recognised")
        return self

    @model_validator(mode="after")
    def _interpreters_are_built_before(self) -> DeviceClass:
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
        """Whether a device with these facts is of this class."""
        return self._matches({fact: _text(facts, fact) for fact in get_args(Fact)})

    def _matches(self, text: Mapping[Fact, str]) -> bool:
        return any(
            all(
                re.search(pattern, text.get(fact, ""), re.IGNORECASE | re.MULTILINE)
                for fact, pattern in rule.items()
            )
            for rule in self.recognise
        )

    def lacking(self, answering: Mapping[str, Mapping[str, Iterable[str]]]) -> list[str]:
        """What a board of this class should have and this one lacks, one line each. ``answering``:
        backend → target → precisions, for the backends that answer on the board."""
        lines = []
        for backend, targets in self.targets.items():
            if backend not in answering:
                if backend in self._installed():
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

    def _installed(self) -> set[str]:
        return {re.split("[@=]", r)[0] if isinstance(r, str) else r.name for r in self.runtimes}


def recognise(classes: Iterable[DeviceClass], facts: DeviceFacts) -> str:
    """The name of the most specific class that fits, or ``unknown``."""
    fitting = [c for c in classes if c.fits(facts)]
    return max(fitting, key=lambda c: (c.priority, c.name)).name if fitting else "unknown"


def _text(facts: DeviceFacts, fact: str) -> str:
    """A fact as the text that patterns are searched in; each accelerator is a line ``KIND BUS
    NAME``."""
    if fact == "accelerators":
        return "\n".join(f"{a.kind} {a.bus} {a.name}" for a in facts.accelerators)
    return str(getattr(facts, fact, None) or "")
