"""Lanes: threads that inject the faults of a schedule, several at once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence

from .schedule import Fault


class Lanes:
    """Deals a schedule out to ``count`` lanes from ``with`` on. A lane waits for a fault's
    ``after_s``, injects the fault, and goes on when it is over. The end of the block stops every
    lane after its current fault.

    ``injected``: faults by kind; ``wrong``: what injecting them raised.
    """

    def __init__(
        self,
        schedule: Sequence[Fault],
        count: int,
        inject: Callable[[Fault], None],
        note: Callable[[str], None],
    ) -> None:
        self.injected: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._inject, self._note = inject, note
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(schedule[lane::count],), name=f"lane {lane}")
            for lane in range(count)
        ]

    @property
    def running(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def __enter__(self) -> Lanes:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, faults: Sequence[Fault]) -> None:
        for fault in faults:
            if self._stop.wait(fault.after_s):
                return
            self._note(str(fault))
            self.injected[fault.kind] += 1
            try:
                self._inject(fault)
            except Exception as error:  # noqa: BLE001  any error belongs to the verdict
                self.wrong.append(f"{fault.kind}: {type(error).__name__}: {error}")
