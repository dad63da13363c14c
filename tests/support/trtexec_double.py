"""A double of the program ``trtexec``: run as it, with a version's real flags and file formats.

It refuses what that version does not list, and computes the contract suites' small model.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

FIXTURES = Path(__file__).parents[1] / "fixtures" / "trtexec"
PROGRAM = """#!{python}
import sys
sys.path[:0] = [{tests!r}]
from support.trtexec_double import main
sys.exit(main({version!r}, {log!r}, {error!r}))
"""
QUERY_MS, QUERIES = 0.02, 400


def install(folder: Path, version: str, error: str = "") -> Path:
    """The program in ``folder``; its log of command lines beside it. ``error``: it fails so."""
    folder.mkdir(parents=True, exist_ok=True)
    path, log = folder / "trtexec", folder / "commands.jsonl"
    tests = str(Path(__file__).parents[1])
    path.write_text(
        PROGRAM.format(
            python=sys.executable, tests=tests, version=version, log=str(log), error=error
        )
    )
    path.chmod(0o755)
    return path


def commands(program: Path) -> list[list[str]]:
    """The command lines that it was given, but for ``--help``."""
    text = program.with_name("commands.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


def main(version: str, log: str, error: str) -> int:
    words = sys.argv[1:]
    flags = json.loads((FIXTURES / "flags.json").read_text())[version]
    banner = f"TensorRT.trtexec [TensorRT v{version}] # {' '.join(sys.argv)}"
    say(f"&&&& RUNNING {banner}")
    if words == ["--help"]:
        say("\n".join(f"  {flag}=<value>" for flag in flags))
        return 0
    with open(log, "a") as file:
        file.write(json.dumps(words) + "\n")
    given = dict(word.partition("=")[::2] for word in words)
    unknown = [flag for flag in given if flag not in flags]
    if unknown or error:
        say(f"[E] Unknown option: {unknown[0]}" if unknown else error)
        say(f"&&&& FAILED {banner}")
        return 1
    if "--saveEngine" in given:
        Path(given["--saveEngine"]).write_bytes(b"ENGINE")
        cache = Path(given["--timingCacheFile"])
        if cache.exists() and cache.read_bytes() != b"TIMINGS":
            say("[E] TimingCache creation failed")
            return 1
        cache.write_bytes(b"TIMINGS")
    else:
        run(given)
    say(f"&&&& PASSED {banner}")
    return 0


def run(given: dict[str, str]) -> None:
    import numpy as np

    from support.runner_child import SPEC, expected

    if Path(given["--loadEngine"]).read_bytes() != b"ENGINE":
        say("[E] Engine deserialization failed")
        say("&&&& FAILED TensorRT.trtexec")
        sys.exit(1)
    name, path = given["--loadInputs"].split(":")
    assert name == SPEC.name
    x = np.fromfile(path, "<f4").reshape(SPEC.shape)
    if "--exportOutput" in given:
        y = expected(x)
        values = ", ".join(f"{v:.6g}" for v in y.ravel())
        shape = "x".join(map(str, y.shape))
        text = f'{{ "name" : "y"\n  , "dimensions" : "{shape}"\n  , "values" : [ {values} ]\n  }}'
        Path(given["--exportOutput"]).write_text(f"[\n  {text}\n]\n")
    if "--exportTimes" in given:
        Path(given["--exportTimes"]).write_text(times(int(given["--warmUp"])))


def times(warm_up_ms: int) -> str:
    """Queries from before the warm-up's end on, in the keys of ``exportJSONTrace``."""
    rows = []
    for number in range(-3, QUERIES):
        start = warm_up_ms + number * QUERY_MS * 1.1 + (0 if number >= 0 else -1)
        compute, copy = QUERY_MS * (0.8 + 0.001 * (number % 7)), QUERY_MS * 0.1
        marks = {"startEnqMs": start, "endEnqMs": start + copy, "startH2dMs": start}
        marks |= {"endH2dMs": start + copy, "startComputeMs": start + copy}
        marks |= {"endComputeMs": start + copy + compute, "startD2hMs": start + copy + compute}
        marks |= {"endD2hMs": start + 2 * copy + compute, "h2dMs": copy, "computeMs": compute}
        marks |= {"d2hMs": copy, "latencyMs": 2 * copy + compute, "endToEndMs": 2 * copy + compute}
        rows.append("{ " + ", ".join(f'"{k}" : {v:.6g}' for k, v in marks.items()) + " }")
    return "[\n  " + "\n, ".join(rows) + "\n]\n"
