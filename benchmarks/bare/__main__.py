"""``INTERPRETER -I …/bare/__main__.py RUNTIME MODEL INPUT.npy THREADS SECONDS``: one bare runtime,
timed by a plain loop; prints a JSON object of medians in ns."""

from __future__ import annotations

import importlib.util
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

WARM_UP_S = 0.3


def _runtime(name: str) -> Any:
    """By path: on ``sys.path`` these files would stand before the packages of their names."""
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"bare_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    name, model, array, threads, seconds = sys.argv[1:]
    import numpy as np

    feed = np.load(array)  # kept: some runtimes read it where it lies
    call, own_ns, what = _runtime(name).load(model, feed, int(threads))
    now_ns = time.perf_counter_ns
    end = now_ns() + int(WARM_UP_S * 1e9)
    while now_ns() < end:
        call()
    caller: list[int] = []
    runtime: list[int] = []
    end = now_ns() + int(float(seconds) * 1e9)
    stop = 0
    while stop < end:
        start = now_ns()
        call()
        stop = now_ns()
        caller.append(stop - start)
        if own_ns is not None:
            runtime.append(own_ns())
    answer = {
        "caller": statistics.median(caller),
        "runtime": statistics.median(runtime) if runtime else None,
        "count": len(caller),
        "call": what,
    }
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
