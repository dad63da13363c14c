"""The reference outputs of a model, really computed, in this process."""

from __future__ import annotations

from agent.contract import codec
from agent.contract.child_jobs import Referenced, ReferenceJob
from agent.runner import commands


def reference(job: ReferenceJob) -> Referenced:
    """The runner's verb ``reference`` under this interpreter, without a child and its limits."""
    return codec.loads(Referenced, commands.do_reference(codec.dumps(job)))
