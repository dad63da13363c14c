"""Work as an answer carries it."""

from __future__ import annotations

from typing import Any

from orchestrator.domain.flops import Work
from orchestrator.domain.questions import Counted


def counted(work: Work) -> Counted:
    plain: Any = work.plain()
    return Counted(
        counted=work.macs is not None,
        macs=work.macs or 0,
        flops_by_operator=plain["flops_by_operator"],
        not_counted=plain["not_counted"],
        unknown=plain["unknown"],
    )
