"""A fake of the runner: a trial of some tenths of a second, with the standard library alone.

Its samples are derived from the attempt's id, so that each result can be told from all others.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time

MORE = 20_000
"""Samples, of five bytes each, that are too many to be sent within a result."""


def samples_of(attempt_id: str) -> list[int]:
    """Positive nanoseconds, unique to the attempt; every third attempt has so many that the agent
    uploads them before its result."""
    digest = hashlib.sha512(attempt_id.encode()).digest()
    few = [100_000 + byte for byte in digest]
    if digest[-1] % 3:
        return few
    drawn = hashlib.shake_256(attempt_id.encode()).digest(5 * MORE)
    return few + [1 + int.from_bytes(drawn[at : at + 5], "little") for at in range(0, 5 * MORE, 5)]


def main(verb: str) -> dict[str, object]:
    job = json.load(sys.stdin)
    if verb == "probe":
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "probed.json")) as file:
            answer: dict[str, object] = json.load(file)
        return answer
    if verb != "trial":
        sys.exit(f"not faked: {verb}")
    attempt_id = job["request"]["attempt_id"]
    with open(job["reference"], "rb") as reference:
        fetched = hashlib.sha256(reference.read()).hexdigest()
    values = samples_of(attempt_id)
    for stage in ("load", "warm_up", "measure"):
        with open(os.path.join(job["folder"], "stage"), "w") as file:
            file.write(stage)
        time.sleep((values[0] - 100_000) / 1500)
    with open(os.path.join(job["folder"], "samples.i64"), "wb") as raw:
        raw.write(b"".join(value.to_bytes(8, "little") for value in values))
    samples = {
        "sha256": "", "size_bytes": 0, "count": len(values), "series": ["caller"],
        "encoding": "int64le", "calls_per_sample": 1, "batch_size": 1, "stopped_by": "precision",
        "wall_s": 0.1,
    }  # fmt: skip
    # nothing is computed here; it passes if the bytes of the reference arrived
    fidelity = {
        "max_abs": 0.0, "max_rel": 0.0, "cosine": 1.0, "psnr_db": None, "feeds": 1,
        "worst_output": "y", "passed": fetched == job["request"]["reference"]["sha256"],
    }  # fmt: skip
    return {"schema": job["request"]["schema"], "attempt_id": attempt_id, "status": "ok",
            "agent_version": "", "samples": samples, "runtime_version": "fake",
            "fidelity": fidelity}  # fmt: skip


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1])))
