"""Which tests one worker of pytest-xdist runs one after the other, for they share what is dear.

By path: xdist's own groups (``xdist_group``) do nothing under pytest 9.2, which has no ``_nodeid``.
"""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

TOGETHER = {
    "tests/boards/": "boards",  # a farm of hosts: the machine has room for one
    "tests/contract/runtimes/tensorflow_formats/": "tensorflow",  # models that take long to make
    "tests/integration/test_runtimes.py": "wheelhouse",
    "tests/acceptance/test_versions.py": "wheelhouse",
}


class Together(LoadScopeScheduling):  # type: ignore[misc]
    """Every other test goes to whichever worker is free."""

    def _split_scope(self, nodeid: str) -> str:
        return next((name for path, name in TOGETHER.items() if nodeid.startswith(path)), nodeid)
