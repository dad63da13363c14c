"""``INTERPRETER -I …/child/__main__.py``: one ``Job`` on stdin, one answer on stdout.

It is run by its path; if the packages are not installed, they are found relative to this file.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    root = str(Path(__file__).absolute().parents[3])
    if root not in sys.path:
        sys.path.append(root)
    from agent.contract import codec
    from orchestrator.domain.file_inspection import Job
    from orchestrator.inspection.child import commands
    from orchestrator.inspection.child.confine import confine

    answers = os.dup(1)
    os.dup2(2, 1)  # output of libraries must not mix with the answer
    job = codec.loads(Job, sys.stdin.buffer.read())
    confine(job.question.path, job.wall_s, job.memory_mib)
    code, text = commands.answer(job)
    data = text.encode()
    while data:
        data = data[os.write(answers, data) :]
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
