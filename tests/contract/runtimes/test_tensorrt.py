"""TensorRT, which needs NVIDIA's hardware: ``tests/unit/runner`` tests it with doubles of its
bindings and of ``trtexec``."""

from __future__ import annotations

from support.runner_child import facts_of
from support.runtime_contract import RuntimeContract

CONTRACT = RuntimeContract(other_converters=frozenset({"tensorrt_build", "trtexec_build"}))


def test_where_it_is_missing_the_probe_says_what_to_install() -> None:
    missing = facts_of("tensorrt").missing
    assert not missing or "install " in missing
