"""The rate of a warning is limited."""

from __future__ import annotations

import logging

import pytest

from orchestrator.api.log_throttle import INTERVAL_S, LogThrottle


def test_a_warning_is_given_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    throttle = LogThrottle(logging.getLogger("test"), lambda: now[0])
    for number in range(4):
        throttle.warn("away: %s", number)
    now[0] = INTERVAL_S
    throttle.warn("away: %s", 4)
    now[0] = 2 * INTERVAL_S
    throttle.warn("away: %s", 5)
    assert caplog.messages == ["away: 0", "away: 4 (and 3 more since the last)", "away: 5"]
