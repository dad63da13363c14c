"""``INTERPRETER -I …/agent/runner/__main__.py VERB``: one job on stdin, one answer on stdout.

VERB is probe, convert, trial or reference. The file is run by its path under any interpreter; the
package ``agent`` is found relative to it, so nothing of the caller's environment is imported.
"""

from __future__ import annotations

import importlib.util
import os
import sys


def _find_agent() -> None:
    """Register the package ``agent`` around this file without touching ``sys.path``."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    spec = importlib.util.spec_from_file_location(
        "agent", os.path.join(root, "__init__.py"), submodule_search_locations=[root]
    )
    if spec is None or spec.loader is None:
        raise ImportError("no package agent in %s" % root)
    module = importlib.util.module_from_spec(spec)
    sys.modules["agent"] = module
    spec.loader.exec_module(module)


def main() -> None:
    if "agent" not in sys.modules:
        _find_agent()
    from agent.privileges import give_up_privileges
    from agent.runner.commands import COMMANDS, answer_on_stdout

    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        sys.exit("usage: __main__.py %s  (job on stdin)" % "|".join(COMMANDS))
    give_up_privileges()
    answer_on_stdout(sys.argv[1])


if __name__ == "__main__":
    main()
