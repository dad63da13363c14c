"""Bare Celery on Redis: no-op round trips, result included, for a ratio of the same run."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from celery import Celery, group

URL = os.environ.get("BENCHFARM_SCALE_REDIS", "redis://127.0.0.1:6379/0")
app = Celery("bare", broker=URL, backend=URL)
app.conf.update(broker_connection_retry_on_startup=True, worker_prefetch_multiplier=4)


@app.task  # type: ignore[untyped-decorator]
def nothing(number: int) -> int:
    return number


def round_trips_per_s(redis_url: str, count: int = 3000) -> float:
    """``count`` no-ops through one worker as Celery starts it (its solo pool), results awaited."""
    app.conf.update(broker_url=redis_url, result_backend=redis_url)
    words = [
        "--quiet",
        "-A",
        "benchmarks.scale_bare",
        "worker",
        "--pool",
        "solo",
        "--loglevel",
        "ERROR",
    ]
    words += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    own = {**os.environ, "BENCHFARM_SCALE_REDIS": redis_url}
    worker_of = [sys.executable, "-W", "ignore", "-m", "celery", *words]  # of its being root
    with subprocess.Popen(
        worker_of, env=own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as worker:
        try:
            nothing.delay(0).get(timeout=120)
            began = time.monotonic()
            given = group(nothing.s(n) for n in range(count)).apply_async()
            assert given.get(timeout=600) == list(range(count))
            return count / (time.monotonic() - began)
        finally:
            worker.terminate()
