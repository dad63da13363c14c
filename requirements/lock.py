"""Writes the lock files with uv: `make lock`. What still fits stays; --upgrade takes newer ones.

The controller's have the hashes of the index, which are those of the files themselves. The agent's
have none: a board takes its torch, and what its vendor builds, from other places.
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
    "dev": ("controller", "onnxruntime", "openvino", "dev"),
    "controller": ("controller",),
}
OLDEST_PYTHON = {"requirements-tflite-runtime.lock": "3.9"}
NOT_FOR_PIP = "backports-strenum<1.3\n"
"""Later ones say that they are not for Python 3.11, which pip minds and uv does not."""
FROM_TORCH = re.compile(r"(nvidia-|cuda-|triton\b)")
"""A build of torch names these itself, each its own: none of them is held to another's."""


def runtime_locks() -> dict[Path, list[str]]:
    """The lock files of the runtimes, and what the environments of each are asked to have, all
    beside one another."""
    found: dict[Path, set[str]] = {}
    for runtime, recipe in registry.recipes():
        found.setdefault(registry.lock_file(runtime, recipe), set()).update(_asked(recipe))
    return {file: sorted(lines) for file, lines in found.items()}


def _asked(recipe: Recipe) -> list[str]:
    tested = f"{recipe.package}=={recipe.tested}"
    others = [f"platform_machine != '{machine}'" for machine in recipe.on]
    mine = [f"{tested}; {' and '.join(others)}"] if others else [tested]
    mine += [
        f"{package}=={recipe.tested}; platform_machine == '{machine}'"
        for machine, package in recipe.on.items()
    ]
    return [*mine, *recipe.before, *recipe.beside, *recipe.held]


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
        for file, asked in runtime_locks().items():
            words = ["--python-version", OLDEST_PYTHON.get(file.name, "3.11"), "-c", bounds.name]
            _compile(file, [*words, "-", *options], "\n".join(asked))


def _compile(target: Path, words: list[str], asked: str = "") -> None:
    command = ["uv", "pip", "compile", "--quiet", "--universal", "--fork-strategy", "fewest"]
    command += ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
    command += [] if asked else ["--python-version", "3.11"]
    subprocess.run(
        [*command, "--output-file", str(target), *words],
        cwd=ROOT,
        input=asked,
        text=True,
        check=True,
    )
    lines = target.read_text("utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not (asked and FROM_TORCH.match(line))]
    source = f"{target.parent.relative_to(ROOT)}/manifest.py" if asked else "pyproject.toml"
    target.write_text(HEADER.format(source) + "".join(kept), "utf-8")
    print(target.relative_to(ROOT))


if __name__ == "__main__":
    main(sys.argv[1:])
