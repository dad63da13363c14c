"""A runtime's refusal of a model, in the runtime's own sentence.

What a runtime raises while it loads or compiles a file that can be read is its refusal of some use
of an operator: a result, ``unsupported``, and no fault of the farm. Errors of memory, disk and
driver are none; they keep their own names.
"""

from __future__ import annotations

import re
from typing import Optional, Pattern, Sequence

from agent.contract.failures import Unsupported, UnsupportedOperator

LONGEST = 400
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s")
_OF_THE_DEVICE = re.compile(
    r"\bCUDA (?:error|failure)|\bCU(?:DA|DNN|BLAS)_\w+|\bcu(?:DNN|BLAS)\b|out of memory|bad_alloc"
    r"|(?:can.t|cannot|could not|failed to) allocate|No space left|Permission denied"
    r"|Too many open files|Input/output error|cannot open shared object|libOpenCL|\bcl[A-Z]\w+ err",
    re.IGNORECASE,
)
"""Words of errors that are not about the model."""
_OPERATORS: Sequence[Pattern[str]] = (
    re.compile(r"While validating node '(?:\w+::)*(\w+)"),  # OpenVINO
    re.compile(r"Check '[^\n]*' failed at src/core/src/op/(\w+)\.cpp"),
    re.compile(r"\[(?:CPU|GPU)\] (\w+) (?:node|layer)"),
    re.compile(r"OpenVINO doesn.t support .*?operation:? (\w+)", re.IGNORECASE),
    re.compile(r"\bop_type:\s?(\w+)"),  # ONNX Runtime
    re.compile(r"Node \([^)]*\) Op \((\w+)\)"),
    re.compile(r"running (\w+) node"),
    re.compile(r"\(op(?:erator)?[ :]+'?([\w.:]+)'?\)", re.IGNORECASE),
    re.compile(r"[Oo]perator:? '?([A-Za-z_][\w.:]+)'?"),
)


def sentence(text: object, longest: int = LONGEST) -> str:
    """``text`` on one line of at most ``longest`` characters, cut after a sentence, else after a
    word; what is cut off is marked by an ellipsis."""
    words = " ".join(_COLOURS.sub("", str(text)).split())
    if len(words) <= longest:
        return words
    head = words[: longest - 2]
    ends = [found.start() for found in _SENTENCE_END.finditer(head)]
    if ends and ends[-1] > longest // 3:
        return head[: ends[-1]] + " …"
    return head.rsplit(" ", 1)[0] + " …"


def operator_of(text: str) -> str:
    """The operator that a runtime's message names; empty where it names none."""
    found = (pattern.search(text) for pattern in _OPERATORS)
    return next((match.group(1) for match in found if match), "")


def refusal(
    runtime: str, error: BaseException, operator: str = "", said: str = ""
) -> Optional[Unsupported]:
    """The named error that means: ``runtime`` refuses this model. ``None``: ``error`` is not about
    the model, but about memory, disk, a driver or a bug of ours.

    ``said``: the message, where it is shorter than the error's own.
    """
    ours = (MemoryError, OSError, AttributeError, NameError, ImportError)
    if not isinstance(error, Exception) or isinstance(error, ours):
        return None
    text = said or str(error)
    if not text.strip() or _OF_THE_DEVICE.search(text):
        return None
    operator = operator or operator_of(text)
    words = sentence(_reason(text))
    if operator:
        return UnsupportedOperator(runtime, operator, words, use=True)
    return Unsupported("%s refuses this model: %s" % (runtime, words))


def _reason(text: str) -> str:
    """A runtime's message without its source lines, addresses and stack: what is left is for
    people."""
    kept = []
    for line in text.splitlines():
        words = line.strip()
        if re.match(r"(?:Stack trace|Traceback \(|\s*#?\d+: 0x|File \")", words):
            break
        words = re.sub(r"^Exception from \S+:\d+:?$", "", words)
        words = re.sub(r"\S*/\S+\.(?:cc|cpp|h|hpp|py):\d+:?\s?", "", words)
        words = re.sub(r"\(0x[0-9a-f]+\)|\b0x[0-9a-f]{6,}\b", "", words)
        if words.strip():
            kept.append(words.strip())
    return " ".join(kept) or text
