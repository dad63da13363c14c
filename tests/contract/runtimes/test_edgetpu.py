"""Coral's Edge TPU, which needs its hardware: ``tests/unit/runner`` tests it with doubles."""

from __future__ import annotations

from support.runner_child import facts_of
from support.runtime_contract import RuntimeContract

CONTRACT = RuntimeContract(other_converters=frozenset({"edgetpu_compile"}))


def test_where_it_is_missing_the_probe_says_what_to_install() -> None:
    missing = facts_of("edgetpu").missing
    assert not missing or "install " in missing
