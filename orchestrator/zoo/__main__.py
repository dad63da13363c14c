"""``INTERPRETER -I …/orchestrator/zoo/__main__.py EMITTER …``: runs an emitter's command line.

EMITTER is emit_torch or emit_keras. It is run by path under the interpreter of a runtime
environment, where benchfarm is not installed: the package ``orchestrator`` is found relative to
this file, and nothing else of the caller's environment is imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys

OLDEST_PYTHON = (3, 11)
EMITTERS = ("emit_torch", "emit_keras")


def _find_orchestrator() -> None:
    """Register the package ``orchestrator`` around this file without touching ``sys.path``."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    spec = importlib.util.spec_from_file_location(
        "orchestrator", os.path.join(root, "__init__.py"), submodule_search_locations=[root]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"no package orchestrator in {root}")
    module = importlib.util.module_from_spec(spec)
    sys.modules["orchestrator"] = module
    spec.loader.exec_module(module)


def main() -> int:
    """Run the emitter; returns its exit code."""
    if sys.version_info < OLDEST_PYTHON:
        found, wanted = (".".join(map(str, v[:2])) for v in (sys.version_info, OLDEST_PYTHON))
        sys.exit(f"the zoo needs Python {wanted} or newer, this is {found}: {sys.executable}")
    if len(sys.argv) < 2 or sys.argv[1] not in EMITTERS:
        sys.exit(f"usage: __main__.py {'|'.join(EMITTERS)} NAME OUT [--batch N] [--seed S]")
    if "orchestrator" not in sys.modules:
        _find_orchestrator()
    emitter = importlib.import_module(f"orchestrator.zoo.{sys.argv[1]}")
    code: int = emitter.main(sys.argv[2:])
    return code


if __name__ == "__main__":
    sys.exit(main())
