"""Bare Celery on Redis: no-op round trips, result included, for a ratio of the same run.

``python -m benchmarks.scale_bare COUNT`` prints how many a second: one process asks, one worker as
Celery starts it (its solo pool) answers; the boards that it is compared with are one process, too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from celery import Celery, group

VARIABLE = "BENCHFARM_SCALE_REDIS"
URL = os.environ.get(VARIABLE, "redis://127.0.0.1:6379/0")
NAME = "benchmarks.scale_bare"
app = Celery("bare", broker=URL, backend=URL)
app.conf.update(broker_connection_retry_on_startup=True, worker_prefetch_multiplier=4)


@app.task(name=f"{NAME}.nothing")  # type: ignore[untyped-decorator]
def nothing(number: int) -> int:
    return number


def round_trips_per_s(redis_url: str, count: int = 3000) -> float:
    """``count`` no-ops through one worker, results awaited."""
    own = {**os.environ, VARIABLE: redis_url}
    asking = [sys.executable, "-m", NAME, str(count)]
    done = subprocess.run(asking, env=own, text=True, stdout=subprocess.PIPE, check=True)
    return float(done.stdout)


def measured(count: int) -> float:
    words = ["--quiet", "-A", NAME, "worker", "--pool", "solo", "--loglevel", "ERROR"]
    words += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    command, nowhere = [sys.executable, "-m", "celery", *words], subprocess.DEVNULL
    with subprocess.Popen(command, stdout=nowhere, stderr=nowhere) as worker:
        try:
            nothing.delay(0).get(timeout=120)
            began = time.monotonic()
            given = group(nothing.s(n) for n in range(count)).apply_async()
            if given.get(timeout=600) != list(range(count)):
                raise SystemExit("bare Celery lost a result")
            return count / (time.monotonic() - began)
        finally:
            worker.terminate()


if __name__ == "__main__":
    print(measured(int(sys.argv[1])))
