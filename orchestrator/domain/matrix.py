"""Expands a spec into configurations, and orders the trials of cells. Pure."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TypeVar

from agent.contract import versions
from agent.contract.trial import Option
from orchestrator.domain import baseline
from orchestrator.domain.spec import RuntimeChoice, SweepSpec

T = TypeVar("T")


@dataclass(frozen=True)
class Configuration:
    """One model under one runtime setting, without a device. ``options`` are sorted pairs.

    ``format``: the format that the runtime loads; empty: the one that is cheapest to make. ``via``:
    converters that must be used, joined by ``+``.
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
        """The configuration as text: ``mobilenet_v2 onnxruntime int8 CPU threads=2``."""
        parts = [self.model, self.backend + (f"=={self.version}" if self.version else "")]
        parts += [self.precision, self.target]
        parts += [f"threads={self.threads}"] if self.threads else []
        parts += [f"batch={self.batch_size}"] if self.batch_size != 1 else []
        parts += [f"format={self.format}"] if self.format else []
        parts += [f"via={self.via}"] if self.via else []
        return " ".join(parts + [f"{key}={value}" for key, value in self.options])


def expand(spec: SweepSpec) -> list[Configuration]:
    """All distinct configurations of ``spec``, in the order of the file."""
    found = (
        configuration
        for model in spec.models
        for runtime in spec.runtimes
        for configuration in _runtime_configurations(spec, model.name, model.calibration, runtime)
    )
    # compared by repr: in Python True == 1 == 1.0, but as a runtime's options they differ
    return list({repr(configuration): configuration for configuration in found}.values())


def may_be_baseline(wanted: Mapping[str, str], configuration: Configuration, device: str) -> bool:
    """Whether a cell may be the ``baseline``. Only the device knows its full version, so a prefix
    in either direction fits."""
    cell = compared("", device, configuration, configuration.version)
    version = wanted.get("version", "")
    return (
        not configuration.version
        or versions.fits(configuration.version, version)
        or versions.fits(version, configuration.version)
    ) and all(baseline.fits(cell, key, value) for key, value in wanted.items() if key != "version")


def compared(
    cell_id: str, device: str, configuration: Configuration, version: str
) -> baseline.ComparedCell:
    """A configuration on a device, as baselines are found; ``version``: what the device has."""
    known = {key: value for key, value in asdict(configuration).items() if key != "options"}
    return baseline.ComparedCell(
        **{
            **known,
            "cell_id": cell_id,
            "device": device,
            "version": version or configuration.version,
            "workload": f"batch {configuration.batch_size}",
            "options": dict(configuration.options),
        }
    )


def _runtime_configurations(
    spec: SweepSpec, model: str, calibration: str, runtime: RuntimeChoice
) -> Iterator[Configuration]:
    keys = sorted(runtime.options)
    axes = (
        *(runtime.version, runtime.target, runtime.precision, runtime.threads, spec.batch_size),
        *(runtime.format, runtime.via),
    )
    for version, target, precision, threads, batch_size, file_format, via in itertools.product(
        *axes
    ):
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
                format=file_format,
                via=via,
            )


def count(spec: SweepSpec) -> int:
    """Number of configurations of ``spec``, with duplicates, without expanding them."""
    total = 0
    for runtime in spec.runtimes:
        combinations = len(runtime.version) * len(runtime.target)
        combinations *= len(runtime.precision) * len(runtime.threads)
        combinations *= len(runtime.format) * len(runtime.via)
        for values in runtime.options.values():
            combinations *= len(values)
        total += combinations
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
