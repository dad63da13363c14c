"""Calls that begin at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence


def at_once(calls: Sequence[Callable[[], object]]) -> list[object]:
    """Run every call in a thread of its own, all released together; what each gave or raised."""
    together = threading.Barrier(len(calls))
    outcomes: list[object] = [None] * len(calls)

    def run(index: int) -> None:
        together.wait()
        try:
            outcomes[index] = calls[index]()
        except Exception as error:  # noqa: BLE001  whatever it is, the test names it
            outcomes[index] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes
