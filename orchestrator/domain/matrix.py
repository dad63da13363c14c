"""From a spec to configurations, and from cells to an order of trials. Pure."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TypeVar

from agent.contract.trial import Option
from agent.contract.versions import fits
from orchestrator.domain.spec import RuntimeChoice, SweepSpec

T = TypeVar("T")


@dataclass(frozen=True)
class Configuration:
    """One model under one runtime setting, on no device yet. ``options`` are sorted pairs.

    ``format``: what the runtime is to load, empty: what is cheapest to come by. ``via``: converters
    that must be on the way to it, joined by ``+``.
    """

    model: str
    backend: str
    version: str
    target: str
    precision: str
    threads: int
    batch_size: int
    options: tuple[tuple[str, Option], ...] = field(default=())
    calibration: str = ""
    format: str = ""
    via: str = ""

    @property
    def passes(self) -> tuple[str, ...]:
        """The converters of ``via``, in their order."""
        return tuple(self.via.split("+")) if self.via else ()

    @property
    def label(self) -> str:
        """``mobilenet_v2 onnxruntime int8 CPU threads=2``: how people read it."""
        parts = [self.model, self.backend + (f"=={self.version}" if self.version else "")]
        parts += [self.precision, self.target]
        parts += [f"threads={self.threads}"] if self.threads else []
        parts += [f"batch={self.batch_size}"] if self.batch_size != 1 else []
        parts += [f"format={self.format}"] if self.format else []
        parts += [f"via={self.via}"] if self.via else []
        return " ".join(parts + [f"{key}={value}" for key, value in self.options])


def expand(spec: SweepSpec) -> list[Configuration]:
    """Every configuration that ``spec`` names, in the order of the file, each once."""
    found = (
        configuration
        for model in spec.models
        for runtime in spec.runtimes
        for configuration in _of_runtime(spec, model.name, model.calibration, runtime)
    )
    # by text: to Python True == 1 == 1.0, to a runtime's option they differ
    return list({repr(configuration): configuration for configuration in found}.values())


def may_be_baseline(wanted: Mapping[str, str], configuration: Configuration, device: str) -> bool:
    """Whether a cell fits a spec's ``baseline``; the whole version only the device knows."""
    known = {**asdict(configuration), "device": device}
    version = wanted.get("version", "")
    return (
        not configuration.version
        or fits(configuration.version, version)
        or fits(version, configuration.version)
    ) and all(str(known[key]) == value for key, value in wanted.items() if key != "version")


def _of_runtime(
    spec: SweepSpec, model: str, calibration: str, runtime: RuntimeChoice
) -> Iterator[Configuration]:
    keys = sorted(runtime.options)
    axes = (
        *(runtime.version, runtime.target, runtime.precision, runtime.threads, spec.batch_size),
        *(runtime.format, runtime.via),
    )
    for version, target, precision, threads, batch_size, form, via in itertools.product(*axes):
        for values in itertools.product(*(runtime.options[key] for key in keys)):
            yield Configuration(
                model=model,
                backend=runtime.backend,
                version=version,
                target=target,
                precision=precision,
                threads=threads,
                batch_size=batch_size,
                options=tuple(zip(keys, values, strict=True)),
                calibration=calibration if precision == "int8" else "",
                format=form,
                via=via,
            )


def count(spec: SweepSpec) -> int:
    """How many configurations ``spec`` names before repeats are dropped, without expanding it."""
    total = 0
    for runtime in spec.runtimes:
        one = len(runtime.version) * len(runtime.target)
        one *= len(runtime.precision) * len(runtime.threads)
        one *= len(runtime.format) * len(runtime.via)
        for values in runtime.options.values():
            one *= len(values)
        total += one
    return total * len(spec.models) * len(spec.batch_size)


def interleave(cells: Sequence[T], trials: int, seed: str) -> list[tuple[T, int]]:
    """The order of one device's trials: in rounds, each round every cell once in random order.

    Order alone has produced a +36 % false regression (docs/measurement.md). Rounds spread a slow
    drift of the board over all cells, the shuffle keeps one cell from always following another.

    Returns:
        (cell, trial index) pairs, ``len(cells) * trials`` of them.
    """
    shuffle = random.Random(seed)
    order: list[tuple[T, int]] = []
    for index in range(trials):
        cells_of_round = list(cells)
        shuffle.shuffle(cells_of_round)
        order += [(cell, index) for cell in cells_of_round]
    return order
