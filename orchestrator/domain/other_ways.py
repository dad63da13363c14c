"""What would lead to a format that no converter leads to from a model's own files. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agent.contract.conversion_graph import Node, Tool, cheapest_path, missing_tools
from agent.runtimes import registry
from agent.runtimes.formats import SOURCES, precisions

MOST = 3
"""Ways that a message names."""


@dataclass(frozen=True)
class OtherWay:
    """A way from a file that the model does not have. ``lacks``: the tools to install for it."""

    source: Node
    converters: tuple[str, ...]
    lacks: tuple[Tool, ...]

    @property
    def words(self) -> str:
        """``from pt2 by litert_torch (lacks litert_torch: `benchfarm-agent runtimes add …`)``."""
        file_format, precision = self.source
        found = file_format + ("" if precision == "fp32" else f" in {precision}")
        if not self.converters:
            return f"the {found} itself"
        found = f"from {found} by {', '.join(self.converters)}"
        return found + (f" ({lacking(self.lacks)})" if self.lacks else "")


def lacking(tools: Iterable[Tool]) -> str:
    """``lacks litert_torch: `benchfarm-agent runtimes add pytorch@litert```."""
    tools = list(tools)
    modules = ", ".join(dict.fromkeys(name for tool in tools for name in tool.missing))
    return f"lacks {modules}: {adding(tools)}"


def adding(tools: Iterable[Tool]) -> str:
    """The command that adds the environments that have the tools, as far as these are known."""
    names = dict.fromkeys(name for tool in tools if (name := environment_with(tool)))
    return f"`{' '.join(['benchfarm-agent runtimes add', *names])}`"


def environment_with(tool: Tool) -> str:
    """The environment to add for a tool, as ``runtimes add`` names it; empty where none can be
    built, or the tool is not of this release."""
    runtime = registry.RUNTIMES.get(registry.runtime_of_converter(tool.name))
    if runtime is None or not runtime.recipes:
        return ""
    wanted = {name.replace("_", "-") for name in tool.missing}
    for recipe in runtime.recipes:
        required = {
            text.split("==")[0].replace("_", "-")
            for text in (recipe.package, *recipe.beside, *recipe.bare)
        }
        if wanted <= required:
            return runtime.name + (f"@{recipe.variant}" if recipe.variant else "")
    return runtime.name


def other_ways(
    tools: Sequence[Tool], have: Iterable[Node], goals: Sequence[Node]
) -> list[OtherWay]:
    """The ways from files that a model could also be registered from, those with the least to
    install first."""
    have = set(have)
    starts = [(form, held) for form in SOURCES for held in precisions(form)]
    found = []
    for start in starts:
        if start in have:
            continue
        lacks = missing_tools(tools, (start,), goals)
        if lacks is None:
            continue
        edges = [edge for tool in tools if not tool.missing or tool in lacks for edge in tool.edges]
        path = cheapest_path(edges, (start,), goals)
        if path is not None:
            converters = tuple(edge.converter for edge in path)
            found.append(OtherWay(start, converters, lacks))
    found.sort(key=lambda way: (len(way.lacks), len(way.converters)))  # then as in SOURCES
    return found


def in_words(tools: Sequence[Tool], have: Iterable[Node], goals: Sequence[Node]) -> str:
    """The nearest ways, as the end of a refusal; empty where there is none."""
    ways = other_ways(tools, have, goals)[:MOST]
    if not ways:
        return ""
    return "; it would go with another file of the model: " + "; or ".join(w.words for w in ways)
