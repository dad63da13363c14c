"""Which brokers other machines can reach."""

from __future__ import annotations

import pytest

from orchestrator.settings import reaches_one_machine


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("redis+socket:///run/redis.sock?virtual_host=0", True),
        ("memory://", True),
        ("redis://127.0.0.1:6379/0", True),
        ("redis://:secret@localhost", True),
        ("redis://[::1]:6379", True),
        ("redis://", True),
        ("redis://10.0.0.2:6379/0", False),
        ("rediss://user:secret@farm.example", False),
        ("sqs://", False),
    ],
)
def test_a_broker_of_one_machine_is_known_by_its_address(url: str, local: bool) -> None:
    assert reaches_one_machine(url) == local
