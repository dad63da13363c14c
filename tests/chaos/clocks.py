"""Wall clocks of processes that a test makes jump, by a preloaded library."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).parent / "clock.c"
COMPILER = shutil.which("cc")


class Clock:
    """The wall clock of the processes that are started with ``environment``."""

    def __init__(self, folder: Path) -> None:
        """``folder`` must be readable by the processes' user."""
        assert COMPILER is not None
        self._off, library = folder / "clock_off_ns", folder / "clock.so"
        words: list[str | Path] = [
            COMPILER,
            "-O2",
            "-shared",
            "-fPIC",
            "-o",
            library,
            SOURCE,
            "-ldl",
        ]
        subprocess.run(words, check=True, timeout=120)
        self._off.write_bytes(bytes(8))
        for path in (self._off, library):
            path.chmod(0o755)
        self.environment = {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(self._off)}

    def jump(self, to_s: int) -> None:
        """Set the clock's offset. One write of eight bytes: the processes have mapped the file."""
        with self._off.open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), struct.pack("<q", to_s * 1_000_000_000), 0)
