"""Parses ``NAME[@VARIANT][==VERSION]`` into a recipe and the installation steps."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass, field
from pathlib import Path

from agent.contract.versions import fits, version_key
from agent.runtimes import registry
from agent.runtimes.manifest import Minor, Recipe, Runtime
from agent.worker.errors import BadInput

OLDEST_PYTHON: Minor = (3, 8)
"""The oldest Python that the runner's syntax allows."""

_REQUIREMENT = re.compile(
    r"([a-z0-9_-]{1,40})(?:@([a-z0-9_-]{1,40}))?(?:==([0-9][A-Za-z0-9.+!_-]{0,60}))?"
)


@dataclass(frozen=True)
class RuntimeRequirement:
    """A runtime's recipe, at a version, for a kind of machine (``x86_64``, ``aarch64``)."""

    runtime: Runtime
    recipe: Recipe
    version: str
    machine: str = field(default_factory=platform.machine)

    @property
    def backend(self) -> str:
        return self.runtime.name

    @property
    def label(self) -> str:
        """The text that ``parse`` reads: ``tflite@tflite-runtime==2.14.0``."""
        variant = f"@{self.recipe.variant}" if self.recipe.variant else ""
        return f"{self.backend}{variant}=={self.version}"

    @property
    def main(self) -> str:
        """The requirement of the runtime itself."""
        recipe = self.recipe
        return f"{recipe.on.get(self.machine, recipe.package)}=={self.version}"

    @property
    def beside(self) -> tuple[str, ...]:
        """The requirements beside it. Beside a version that they were not tested with, they lose
        their pins, with which they may conflict."""
        recipe = self.recipe
        if self.version == recipe.tested:
            return (*recipe.beside, *recipe.held)
        floating = map(_floating, recipe.beside)
        own = version_key(self.version)
        older = (r for below, some in recipe.older if own < version_key(below) for r in some)
        return (*floating, *older, *recipe.held)

    @property
    def lock(self) -> Path | None:
        """The lock file to install with; none for a version that was not tested."""
        if self.version != self.recipe.tested:
            return None
        return registry.lock_file(self.runtime, self.recipe)

    @property
    def steps(self) -> tuple[tuple[str, ...], ...]:
        """The requirements for each call of the package tool."""
        first = self.recipe.before or ((self.main,) if self.recipe.alone else ())
        steps = (first, (self.main, *self.beside), self.bare)
        return tuple(step for step in steps if step)

    @property
    def bare(self) -> tuple[str, ...]:
        """Requirements to install without their dependencies; pinned as those of ``beside``."""
        bare = self.recipe.bare
        return bare if self.version == self.recipe.tested else tuple(map(_floating, bare))

    @property
    def has_torch(self) -> bool:
        return any(r.split("==")[0] == "torch" for step in self.steps for r in step)


def _floating(requirement: str) -> str:
    return requirement if ";" in requirement else requirement.split("==")[0]


def parse(text: str, machine: str = "") -> RuntimeRequirement:
    """Parse ``NAME[@VARIANT][==VERSION]``, for ``machine`` (empty: this one).

    Raises:
        BadInput: not of that form, no such runtime or variant, or one that cannot be built; the
            message says what to do instead.
    """
    found = _REQUIREMENT.fullmatch(text.strip())
    if found is None:
        raise BadInput(
            f"runtime {text!r}: expected NAME, NAME==VERSION or NAME@VARIANT==VERSION, "
            "for example openvino==2026.4.1"
        )
    name, variant, version = found.group(1), found.group(2) or "", found.group(3) or ""
    _refuse_package(name)
    runtime = registry.RUNTIMES.get(name)
    if runtime is None or not (runtime.recipes or runtime.remedy):
        names = ", ".join(r.name for r in registry.RUNTIMES.values() if r.recipes)
        raise BadInput(f"unknown backend {name!r}; environments can be built for: {names}")
    if not runtime.recipes:
        raise BadInput(
            f"{name}: {runtime.remedy} run `benchfarm-agent runtimes add {name} "
            "--python PATH` with the interpreter that has the vendor's bindings"
        )
    recipe = _choose(runtime, variant, version)
    machine = machine or platform.machine()
    return RuntimeRequirement(runtime, recipe, version or recipe.tested, machine)


def _refuse_package(name: str) -> None:
    for runtime in registry.RUNTIMES.values():
        if name in runtime.refused:
            raise BadInput(f"{name}: {runtime.refused[name]}")


def _choose(runtime: Runtime, variant: str, version: str) -> Recipe:
    """The named variant; else the one tested at that version; else the runtime's first."""
    if variant:
        named = [r for r in runtime.recipes if r.variant == variant]
        if not named:
            variants = ", ".join(r.variant for r in runtime.recipes if r.variant) or "none"
            raise BadInput(f"{runtime.name} has no variant {variant!r}; it has: {variants}")
        return named[0]
    tested = [r for r in runtime.recipes if version and fits(r.tested, version)]
    return (tested or runtime.recipes)[0]


def is_default(backend: str, variant: str) -> bool:
    """Whether a variant is the one that is meant where none is named. True for a variant that is in
    no manifest any more."""
    runtime = registry.RUNTIMES.get(backend)
    variants = [recipe.variant for recipe in runtime.recipes] if runtime else []
    return variant not in variants or variants[0] == variant
