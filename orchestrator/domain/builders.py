"""Devices that convert for others: which one makes what, where a device has no way itself. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from agent.contract.conversion_graph import (
    BUILDER,
    ConversionPath,
    Node,
    Tool,
    made_elsewhere,
    missing_tools,
    needs,
    path_cost,
    split_path,
    usable,
)

TAG, YES, NO = "builder", "yes", "no"
"""A device tagged ``builder=yes`` is one."""


@dataclass(frozen=True)
class BuilderDevice:
    """``ready``: online, and not known to be ill; others are asked only where none of those can."""

    name: str
    tools: tuple[Tool, ...]
    ready: bool = True


@dataclass(frozen=True)
class PlannedBuild:
    """``builder`` makes ``node`` by ``way``, walked on it; ``rest`` is walked by the device."""

    builder: str
    node: Node
    way: ConversionPath
    rest: ConversionPath

    @property
    def source(self) -> Node:
        return self.way[0].source

    @property
    def via(self) -> tuple[str, ...]:
        """The converters on the builder's way."""
        return tuple(edge.converter for edge in self.way)

    @property
    def described(self) -> str:
        """``x86-01: keras → tflite in int8 → edgetpu_tflite in int8``."""
        nodes = [self.source, *(edge.target for edge in self.way)]
        return f"{self.builder}: {' → '.join(map(words, nodes))}"


def words(node: Node) -> str:
    """``onnx``, ``onnx in int8``."""
    form, held = node
    return form if held == "fp32" else f"{form} in {held}"


def is_builder(labels: Mapping[str, str], enabled: bool) -> bool:
    return enabled and labels.get(TAG) == YES


def build(
    builders: Iterable[BuilderDevice],
    here: Sequence[Tool],
    starts: Sequence[Node],
    goals: Sequence[Node],
    via: Sequence[str] = (),
    home: str = "",
    machine: str = "",
) -> PlannedBuild | None:
    """The cheapest split of the work between a builder and a device that has the tools ``here`` and
    is a ``machine``.

    Of builders that cost the same the first by name; those that are not ready only where none of
    the others can.
    """
    found: list[tuple[bool, float, str, PlannedBuild]] = []
    for builder in builders:
        ways = split_path(
            usable(builder.tools, BUILDER, machine), usable(here), starts, goals, via, home
        )
        if ways is not None and ways[0]:
            way, rest = ways
            made = PlannedBuild(builder.name, way[-1].target, way, rest)
            found.append((not builder.ready, path_cost(way) + path_cost(rest), builder.name, made))
    return min(found, key=lambda f: f[:3])[3] if found else None


def why_not(
    builders: Sequence[BuilderDevice],
    here: Sequence[Tool],
    starts: Sequence[Node],
    goals: Sequence[Node],
    via: Sequence[str] = (),
) -> str:
    """Which tool is missing on which builder, where ``build`` found none."""
    if not builders:
        return "no other device is tagged as a builder (`benchfarm device tag NAME builder=yes`)"
    return "; ".join(
        f"builder {builder.name} {_lack(builder, here, starts, goals, via)}" for builder in builders
    )


def _lack(
    builder: BuilderDevice,
    here: Sequence[Tool],
    starts: Sequence[Node],
    goals: Sequence[Node],
    via: Sequence[str],
) -> str:
    theirs = [tool for tool in builder.tools if made_elsewhere(tool)]
    lacks = missing_tools([*theirs, *here], starts, goals, via)
    needed = [tool for tool in lacks or () if made_elsewhere(tool)]
    if needed:
        return f"lacks a tool: {needs(needed)}"
    return "cannot help: what is missing can only be made on the device that runs it"
