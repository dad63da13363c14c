"""What the confined child answers about files, asked in this process, without its walls."""

from __future__ import annotations

from typing import TypeVar

from orchestrator.domain.file_inspection import Job, Question
from orchestrator.inspection.child import commands
from orchestrator.inspection.client import decode_answer

T = TypeVar("T")


def inspect(question: Question, answer: type[T]) -> T:
    """The document is written and read as between the processes."""
    code, text = commands.answer(Job(answer.__name__, question, 60.0, 4096))
    return decode_answer(question, answer, code, text)
