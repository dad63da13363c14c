"""Writes the lock files with uv: `make lock`. Locked versions that fit stay; --upgrade renews them.

The controller's lock files have hashes. The agent's have none: a board takes its torch, and what
its vendor builds, from other indexes, and their files differ.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from agent import lock_files
from agent.runtimes import registry
from agent.runtimes.manifest import Recipe

ROOT = Path(__file__).parent.parent
HEADER = "# The versions that were tested. Made by `make lock` from {}: do not edit.\n"
EXTRAS = {
    "dev": ("controller", "onnxruntime", "openvino", "parquet", "dev"),
    "controller": ("controller",),
}
OLDEST_PYTHON = {"requirements-tflite-runtime.lock": "3.9"}
NOT_FOR_PIP = "backports-strenum<1.3\n"
"""Later versions declare that they do not support Python 3.11; pip obeys that, uv does not."""
FROM_TORCH = re.compile(r"(nvidia-|cuda-|triton\b)")
"""Each build of torch requires its own of these: none is locked to those of another build."""


def runtime_locks() -> dict[Path, list[str]]:
    """The requirements of each lock file: those of all recipes that name it, together."""
    found: dict[Path, set[str]] = {}
    for runtime, recipe in registry.recipes():
        found.setdefault(registry.lock_file(runtime, recipe), set()).update(_requirements(recipe))
    return {file: sorted(lines) for file, lines in found.items()}


def _requirements(recipe: Recipe) -> list[str]:
    tested = f"{recipe.package}=={recipe.tested}"
    others = [f"platform_machine != '{machine}'" for machine in recipe.on]
    own = [f"{tested}; {' and '.join(others)}"] if others else [tested]
    own += [
        f"{package}=={recipe.tested}; platform_machine == '{machine}'"
        for machine, package in recipe.on.items()
    ]
    return [*own, *recipe.before, *recipe.beside, *recipe.held]


def main(options: list[str]) -> None:
    dev = ROOT / "requirements" / "dev.lock"
    for name, extras in EXTRAS.items():
        words = [word for extra in extras for word in ("--extra", extra)]
        beside = ["-c", str(dev)] if name != "dev" else []
        target = dev.with_name(f"{name}.lock")
        _compile(target, [*words, *beside, "--generate-hashes", "pyproject.toml", *options])
    _compile(lock_files.AGENT, ["-c", str(dev), "pyproject.toml", *options])
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as bounds:
        bounds.write(NOT_FOR_PIP)
        bounds.flush()
        for file, requirements in runtime_locks().items():
            words = ["--python-version", OLDEST_PYTHON.get(file.name, "3.11"), "-c", bounds.name]
            _compile(file, [*words, "-", *options], "\n".join(requirements))


def _compile(target: Path, words: list[str], requirements: str = "") -> None:
    """Write one lock file from ``requirements``, one a line; empty: ``words`` name the source."""
    command = ["uv", "pip", "compile", "--quiet", "--universal", "--fork-strategy", "fewest"]
    command += ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
    command += [] if requirements else ["--python-version", "3.11"]
    subprocess.run(
        [*command, "--output-file", str(target), *words],
        cwd=ROOT,
        input=requirements,
        text=True,
        check=True,
    )
    lines = target.read_text("utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not (requirements and FROM_TORCH.match(line))]
    source = f"{target.parent.relative_to(ROOT)}/manifest.py" if requirements else "pyproject.toml"
    target.write_text(HEADER.format(source) + "".join(kept), "utf-8")
    print(target.relative_to(ROOT))


if __name__ == "__main__":
    main(sys.argv[1:])
