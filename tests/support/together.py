"""Groups of tests that one worker of pytest-xdist runs one after the other, because they share
something expensive.

Groups are chosen by path: the marker ``xdist_group`` has no effect under pytest 9.2, which has no
``_nodeid``.
"""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

TOGETHER = {
    "tests/boards/": "boards",  # a farm of hosts: the machine has room for one only
    "tests/odd_inputs/": "odd inputs",  # one controller serves them all
    "tests/contract/runtimes/tensorflow_formats/": "tensorflow",  # models that are slow to build
    "tests/integration/test_runtimes.py": "wheelhouse",
    "tests/acceptance/test_versions.py": "wheelhouse",
}


class Together(LoadScopeScheduling):  # type: ignore[misc]
    """Every other test goes to whichever worker is free."""

    def _split_scope(self, nodeid: str) -> str:
        return next((name for path, name in TOGETHER.items() if nodeid.startswith(path)), nodeid)
