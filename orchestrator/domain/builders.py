"""Builders: devices that convert models for devices without the tools to do so. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from agent.contract.conversion_graph import (
    BUILDER,
    Node,
    Tool,
    Way,
    cost,
    lacking,
    made_elsewhere,
    needs,
    split,
    usable,
)

TAG, YES, NO = "builder", "yes", "no"
"""The tag ``builder=yes`` makes a device a builder."""


@dataclass(frozen=True)
class BuilderDevice:
    """``ready``: online and not unhealthy. Other builders are used only if no ready one can
    build."""

    name: str
    tools: tuple[Tool, ...]
    ready: bool = True


@dataclass(frozen=True)
class PlannedBuild:
    """``builder`` converts along ``way`` up to ``node``; the device converts the ``rest``."""

    builder: str
    node: Node
    way: Way
    rest: Way

    @property
    def source(self) -> Node:
        return self.way[0].source

    @property
    def via(self) -> tuple[str, ...]:
        """The converters that the builder runs."""
        return tuple(edge.converter for edge in self.way)

    @property
    def described(self) -> str:
        """``x86-01: keras → tflite in int8 → edgetpu_tflite in int8``."""
        nodes = [self.source, *(edge.target for edge in self.way)]
        return f"{self.builder}: {' → '.join(map(words, nodes))}"


def words(node: Node) -> str:
    """``onnx``, ``onnx in int8``."""
    file_format, precision = node
    return file_format if precision == "fp32" else f"{file_format} in {precision}"


def is_builder(labels: Mapping[str, str], enabled: bool) -> bool:
    return enabled and labels.get(TAG) == YES


def build(
    builders: Iterable[BuilderDevice],
    own_tools: Sequence[Tool],
    starts: Sequence[Node],
    goals: Sequence[Node],
    via: Sequence[str] = (),
    home: str = "",
    machine: str = "",
) -> PlannedBuild | None:
    """The cheapest split of a conversion between a builder and a device (of processor ``machine``)
    that has ``own_tools``; ``None`` if there is none.

    Ready builders come first, then the cheapest, then the first by name.
    """
    found: list[tuple[bool, float, str, PlannedBuild]] = []
    for builder in builders:
        ways = split(
            usable(builder.tools, BUILDER, machine), usable(own_tools), starts, goals, via, home
        )
        if ways is not None and ways[0]:
            way, rest = ways
            planned = PlannedBuild(builder.name, way[-1].target, way, rest)
            found.append((not builder.ready, cost(way) + cost(rest), builder.name, planned))
    return min(found, key=lambda f: f[:3])[3] if found else None


def why_not(
    builders: Sequence[BuilderDevice],
    own_tools: Sequence[Tool],
    starts: Sequence[Node],
    goals: Sequence[Node],
    via: Sequence[str] = (),
) -> str:
    """Why ``build`` found no builder: the tools that each of them lacks."""
    if not builders:
        return "no other device is tagged as a builder (`benchfarm device tag NAME builder=yes`)"
    return "; ".join(
        f"builder {builder.name} {_shortfall(builder, own_tools, starts, goals, via)}"
        for builder in builders
    )


def _shortfall(
    builder: BuilderDevice,
    own_tools: Sequence[Tool],
    starts: Sequence[Node],
    goals: Sequence[Node],
    via: Sequence[str],
) -> str:
    offered = [tool for tool in builder.tools if made_elsewhere(tool)]
    lacks = lacking([*offered, *own_tools], starts, goals, via)
    needed = [tool for tool in lacks or () if made_elsewhere(tool)]
    if needed:
        return f"lacks a tool: {needs(needed)}"
    return "cannot help: what is missing can only be made on the device that runs it"
