"""The named errors that ONNX Runtime's load errors mean."""

from __future__ import annotations

import re

from agent.contract.failures import BadModel, UnsupportedFormat, UnsupportedOperator
from agent.runtimes.onnxruntime import providers
from agent.runtimes.refusals import refusal, sentence

_NO_OPERATOR = (
    re.compile(r"No Op registered for (\S+) with domain_version"),
    re.compile(r"Fatal error: (\S+?)\(-?\d+\) is not a registered function/op"),
    re.compile(r"Could not find an implementation for (?:the node \S*?:)?(\w+\(\d+\))"),
)
_TOO_OLD = re.compile(
    r"ONNX Runtime only \*guarantees\* support.*|Unsupported model IR version.*", re.DOTALL
)
_NOT_A_MODEL = (
    "INVALID_PROTOBUF",
    "INVALID_GRAPH",
    "NO_MODEL",
    "No graph was found",
    "NO_SUCHFILE",
)
_STATUS = re.compile(r"^\[ONNXRuntimeError\] : \d+ : (\w+) : ")
_PATHS = re.compile(r"Load model from \S+ failed:\s?")


def named_load_error(error: Exception) -> Exception:
    """The named error that a load error of ONNX Runtime means; itself where it is not about the
    model: memory, a driver."""
    message = str(error)
    for pattern in _NO_OPERATOR:
        match = pattern.search(message)
        if match:
            return UnsupportedOperator("onnxruntime", match.group(1))
    too_old = _TOO_OLD.search(message)
    if too_old:
        reason = sentence(too_old.group())
        return UnsupportedFormat("onnxruntime is too old for this model: %s" % reason)
    said = _PATHS.sub("", _STATUS.sub("", message))
    if any(word in message for word in _NOT_A_MODEL):
        return BadModel("onnxruntime cannot read the model: %s" % sentence(said))
    if "fallback to CPU EP has been explicitly disabled" in message:
        return providers.LeftOnCpu(
            "%s (option cpu_fallback: allow runs it so)" % sentence(said, 300)
        )
    return refusal("onnxruntime", error, said=said) or error
