"""The named errors that OpenVINO's errors mean, of the backend and of its converters."""

from __future__ import annotations

import re
from pathlib import Path

from agent.contract.failures import BadModel, UnsupportedOperator
from agent.runtimes.refusals import refusal, sentence

_NO_RULE = re.compile(r"No conversion rule found for operations: (.+)")
_FAILED = re.compile(r"-- (\S+?)(?:-\d+)? with a message:\n(.*?)(?:\n\n|\nSummary|\Z)", re.DOTALL)
_FAILED_BRIEFLY = re.compile(r"Conversion (?:is )?failed for:? (\w+)")
_CHECK = re.compile(r"Check '(?:[^'\n]|'(?! failed))*' failed at \S+\s*")
_WHILE = re.compile(r"While validating (?:ONNX )?node '[^\n]*':\n")
_NOT_A_MODEL = (
    "Unable to read the model",
    "Model can't be parsed",
    "Could not open the file",
    "Empty weights data",
    "Incorrect weights",
    "parse_buf",
    "XML",
)


def named_error(error: Exception, artifact: Path) -> Exception:
    """The named error that an error of OpenVINO means; itself where it is not about the model."""
    message = str(error)
    match = _NO_RULE.search(message)
    if match:
        return UnsupportedOperator("openvino", match.group(1).strip())
    match = _FAILED.search(message)
    if match:
        said = sentence(_WHILE.sub("", _CHECK.sub("", match.group(2))))
        return UnsupportedOperator("openvino", match.group(1), said, use=True)
    match = _FAILED_BRIEFLY.search(message)
    if match:
        return UnsupportedOperator("openvino", match.group(1), _said(message), use=True)
    if any(word in message for word in _NOT_A_MODEL):
        return BadModel("openvino cannot read %s: %s" % (artifact.name, _said(message)))
    return refusal("openvino", error, said=_CHECK.sub("", message)) or error


def _said(message: str) -> str:
    lines = [line.strip() for line in _CHECK.sub("", message).splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith("Exception from ")]
    return sentence(" ".join(kept) or message)
