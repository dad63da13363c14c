"""The health step: what passes, what stops it, and what it leaves alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest

from playbooks.errors import StepFailed
from playbooks.health import health_step
from playbooks.step_runner import RunOutcome, run_steps
from playbooks.target import BoardTarget, HealthCheckOutcome, KnownDevice
from playbooks.waiting import unseen


@dataclass
class Controller:
    """Answers with ``gives`` when it is asked for a check, and knows ``after`` from then on."""

    now: KnownDevice
    gives: HealthCheckOutcome | None = None
    after: KnownDevice = field(default_factory=lambda: KnownDevice(True, health="good"))
    asked: int = 0

    def known(self, _device: str) -> KnownDevice:
        return self.now

    def check_health(self, _device: str, _limit_s: float) -> HealthCheckOutcome | None:
        self.asked += 1
        self.now = self.after
        return self.gives


def target(controller: Controller) -> BoardTarget:
    return cast(BoardTarget, SimpleNamespace(controller=controller, device="pi", waiting=unseen))


def run(controller: Controller) -> RunOutcome:
    return run_steps([health_step()], target(controller), lambda _: None)


def test_a_board_that_passes_is_checked_once() -> None:
    controller = Controller(KnownDevice(True), HealthCheckOutcome(True))
    assert run(controller) == RunOutcome(1, 1)
    assert run(controller) == RunOutcome(1, 0)
    assert controller.asked == 1


def test_the_reasons_are_the_message() -> None:
    gives = HealthCheckOutcome(False, ("it is at 99 °C", "40 MiB are free"))
    controller = Controller(KnownDevice(True, health="bad"), gives, KnownDevice(True, health="bad"))
    with pytest.raises(StepFailed, match="it is at 99 °C; 40 MiB are free"):
        run(controller)


def test_a_board_that_does_not_answer() -> None:
    with pytest.raises(StepFailed, match="device selftest pi"):
        run(Controller(KnownDevice(True)))


def test_one_that_no_check_can_say_anything_of_is_left_unknown() -> None:
    nothing = KnownDevice(True, uncheckable="no runtime takes it")
    controller = Controller(
        KnownDevice(True), HealthCheckOutcome(None, ("no runtime takes it",)), nothing
    )
    assert run(controller) == RunOutcome(1, 1)
    assert run(controller) == RunOutcome(1, 0)


def test_maintenance_is_a_persons_wish() -> None:
    controller = Controller(KnownDevice(True, health="maintenance"))
    assert run(controller) == RunOutcome(1, 0)
    assert controller.asked == 0
