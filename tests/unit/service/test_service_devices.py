"""Joining the farm and staying in it, on both databases."""

from __future__ import annotations

import secrets
import threading

import pytest

from agent.contract.api_messages import Enrolment
from orchestrator.domain.errors import Conflict, FarmError, NotAllowed, NotFound, UserError
from orchestrator.service import events, rate_control
from orchestrator.service.devices import devices, registration, retirement, tokens
from orchestrator.service.sweeps import progress, sweeps
from support.farms import AGENT_VERSION, BROKER_URL, FarmKit, device_facts


def enrolment(token: str, name: str = "board") -> Enrolment:
    return Enrolment(token, name, AGENT_VERSION, device_facts(name))


def test_a_join_token_makes_a_device_of_its_class(farm: FarmKit) -> None:
    enrolled = farm.enrol("board", rack="2")
    assert (enrolled.device, enrolled.broker_url) == ("board", BROKER_URL)
    view = devices.device(farm.farm, "board")
    assert (view.device_class, view.tags, view.enabled) == ("intel-cpu", {"rack": "2"}, True)
    assert [r.backend for r in view.runtimes] == ["onnxruntime", "openvino", "pytorch"]
    identity = tokens.identify(farm.farm, enrolled.token)
    assert (identity.role, identity.name) == ("device", "device board")
    assert identity.device_id == farm.device_id("board")


def test_a_join_token_opens_once(farm: FarmKit) -> None:
    token = registration.join_token(farm.farm, "board").join_token
    registration.enrol(farm.farm, enrolment(token), BROKER_URL)
    before = farm.rows()
    with pytest.raises(NotAllowed, match="revoked"):
        registration.enrol(farm.farm, enrolment(token), BROKER_URL)
    assert farm.rows() == before


def test_boards_that_redeem_one_token_at_the_same_time_do_not_both_join(farm: FarmKit) -> None:
    token = registration.join_token(farm.farm, "board").join_token
    together = threading.Barrier(8)
    outcomes: list[str] = []

    def redeem() -> None:
        together.wait()
        try:
            registration.enrol(farm.farm, enrolment(token), BROKER_URL)
            outcomes.append("joined")
        except NotAllowed:
            outcomes.append("refused")

    threads = [threading.Thread(target=redeem) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["joined"] + ["refused"] * 7


def test_a_second_join_token_is_dead_once_the_device_has_joined(farm: FarmKit) -> None:
    first = registration.join_token(farm.farm, "board").join_token
    second = registration.join_token(farm.farm, "board").join_token
    registration.enrol(farm.farm, enrolment(first), BROKER_URL)
    with pytest.raises(Conflict, match="has joined already"):
        registration.enrol(farm.farm, enrolment(second), BROKER_URL)


def test_a_join_token_expires(farm: FarmKit) -> None:
    token = registration.join_token(farm.farm, "board").join_token
    farm.clock.advance(registration.JOIN_LIFETIME.total_seconds())
    with pytest.raises(NotAllowed, match="expired"):
        registration.enrol(farm.farm, enrolment(token), BROKER_URL)
    assert devices.device(farm.farm, "board").facts is None


def test_a_join_token_is_for_one_name(farm: FarmKit) -> None:
    token = registration.join_token(farm.farm, "board").join_token
    with pytest.raises(NotAllowed, match="not a join token for device 'other'"):
        registration.enrol(farm.farm, enrolment(token, "other"), BROKER_URL)
    assert registration.enrol(farm.farm, enrolment(token), BROKER_URL).device == "board"


def test_no_other_kind_of_token_enrols(farm: FarmKit) -> None:
    device_token = farm.enrol("board").token
    with farm.farm.database.transaction() as session:
        admin = tokens.issue(farm.farm, session, "admin", note="board")
    for token in (device_token, admin, "", "x"):
        with pytest.raises(NotAllowed):
            registration.enrol(farm.farm, enrolment(token), BROKER_URL)


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a.b", "a" * 64, "a\n", "é"])
def test_a_name_that_could_not_be_a_queues_is_refused(sqlite_farm: FarmKit, name: str) -> None:
    with pytest.raises(UserError, match="device name"):
        registration.join_token(sqlite_farm.farm, name)
    assert sqlite_farm.rows()["devices"] == 0


def test_a_class_that_is_not_there_is_refused_with_the_known_ones(sqlite_farm: FarmKit) -> None:
    with pytest.raises(NotFound, match="arm64-generic, cloud-gpu"):
        registration.join_token(sqlite_farm.farm, "board", device_class="toaster")
    assert sqlite_farm.rows()["devices"] == 0


def test_a_joined_device_gets_no_new_join_token(sqlite_farm: FarmKit) -> None:
    sqlite_farm.enrol("board")
    with pytest.raises(Conflict, match="has joined already"):
        registration.join_token(sqlite_farm.farm, "board")


def test_join_tokens_asked_for_at_once_make_one_device(farm: FarmKit) -> None:
    together = threading.Barrier(6)
    odd: list[Exception] = []

    def ask() -> None:
        together.wait()
        try:
            registration.join_token(farm.farm, "board")
        except Conflict:
            pass
        except Exception as error:  # noqa: BLE001  whatever it is, the test names it
            odd.append(error)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (odd, farm.rows()["devices"]) == ([], 1)


def test_a_device_is_online_while_it_beats(farm: FarmKit) -> None:
    farm.enrol("board")
    device_id = farm.device_id("board")

    def connection() -> str:
        return devices.device(farm.farm, "board").connection

    assert connection() == "offline", "it has never beaten"
    answer = farm.beat(device_id)
    assert (answer.renewed, answer.cancel) == (False, False)
    assert connection() == "online"
    farm.clock.advance(rate_control.current_pace(farm.farm).offline_after_s - 0.001)
    assert connection() == "online"
    farm.clock.advance(0.001)
    assert connection() == "offline"
    farm.beat(device_id)
    assert connection() == "online"


def test_only_digests_of_secrets_are_stored(farm: FarmKit) -> None:
    joined = registration.join_token(farm.farm, "board")
    enrolled = registration.enrol(farm.farm, enrolment(joined.join_token), BROKER_URL)
    with farm.farm.database.engine.connect() as connection:
        stored = str(connection.exec_driver_sql("SELECT * FROM tokens").all())
        logged = str(connection.exec_driver_sql("SELECT * FROM events").all())
    for secret in (joined.join_token, enrolled.token):
        assert secret not in stored + logged
        assert tokens.digest(secret) in stored


@pytest.mark.parametrize(
    ("role", "reaches"),
    [("viewer", 1), ("operator", 2), ("admin", 3), ("device", 0), ("join", 0), ("", 0)],
)
def test_a_role_reaches_as_far_as_it_says(role: str, reaches: int) -> None:
    def allowed(wanted: str) -> bool:
        try:
            tokens.require_role(tokens.Identity(role), wanted)
        except FarmError:
            return False
        return True

    assert [allowed(r) for r in tokens.ROLES] == [i < reaches for i in range(3)]


def test_facts_replace_what_was_known_and_keep_a_chosen_class(farm: FarmKit) -> None:
    joined = registration.join_token(farm.farm, "board", device_class="x86-64-generic")
    registration.enrol(farm.farm, enrolment(joined.join_token), BROKER_URL)
    registration.record_facts(farm.farm, farm.device_id("board"), device_facts("renamed", ()))
    view = devices.device(farm.farm, "board")
    assert (view.device_class, view.runtimes) == ("x86-64-generic", [])


def test_events_tell_what_happened_in_order(farm: FarmKit) -> None:
    farm.enrol("board")
    devices.set_enabled(farm.farm, "board", False)
    told = events.after(farm.farm, 0, 10)
    assert [e.kind for e in told] == ["device_added", "device_joined", "device_drained"]
    assert [e.id for e in events.after(farm.farm, told[0].id, 1)] == [told[1].id]
    assert {e.at for e in told} == {farm.clock.at}


def test_a_device_that_is_not_there_is_named_with_the_known_ones(farm: FarmKit) -> None:
    farm.enrol("board")
    with pytest.raises(NotFound, match="there is no device 'bord'; known: board"):
        devices.set_enabled(farm.farm, "bord", True)


def test_a_board_that_lost_its_token_joins_again_and_the_old_one_is_dead(farm: FarmKit) -> None:
    old = farm.enrol("board").token
    token = registration.join_token(farm.farm, "board", again=True).join_token
    assert tokens.identify(farm.farm, old).role == "device"  # until the new one is given
    new = registration.enrol(farm.farm, enrolment(token), BROKER_URL).token
    assert tokens.identify(farm.farm, new).role == "device"
    with pytest.raises(NotAllowed, match="revoked"):
        tokens.identify(farm.farm, old)
    with pytest.raises(NotAllowed, match="revoked"):
        registration.enrol(farm.farm, enrolment(token), BROKER_URL)
    assert [d.name for d in devices.devices(farm.farm)] == ["board"]


def test_a_retired_board_is_refused_and_its_name_is_free(farm: FarmKit) -> None:
    waiting = registration.join_token(farm.farm, "waiting").join_token
    token = farm.enrol("board").token
    for name in ("board", "waiting"):
        retirement.retire(farm.farm, name)
    assert devices.devices(farm.farm) == []
    for secret in (token, waiting):
        with pytest.raises(NotAllowed, match="unknown"):
            tokens.identify(farm.farm, secret)
    assert farm.enrol("board").device == "board"
    with pytest.raises(NotFound):
        retirement.retire(farm.farm, "waiting")


def test_a_retired_board_that_was_measured_stays_known_by_its_figures(farm: FarmKit) -> None:
    token = farm.enrol("board").token
    farm.add_model()
    farm.submit()
    cells = farm.rows()["cells"]
    retirement.retire(farm.farm, "board")
    with pytest.raises(NotAllowed, match="revoked"):
        tokens.identify(farm.farm, token)
    (view,) = devices.devices(farm.farm)
    assert (view.name, view.connection, view.facts, view.runtimes) == ("board", "retired", None, [])
    assert farm.rows()["cells"] == cells > 0

    other = registration.join_token(farm.farm, "board", device_class="arm64-generic").join_token
    assert devices.device(farm.farm, "board").connection == "offline", "it is expected again"
    registration.enrol(farm.farm, enrolment(other), BROKER_URL)
    assert devices.device(farm.farm, "board").device_class == "arm64-generic"


def test_what_a_retired_device_had_to_do_is_cancelled_and_its_sweep_ends(farm: FarmKit) -> None:
    first, second = farm.device("first"), farm.device("second")
    farm.add_model()
    farm.submit(trials=2)
    assert farm.beat(first).renewed is False  # rings for its first trial
    assert farm.beat(second).renewed is False
    retired = retirement.retire(farm.farm, "first")
    assert (retired.cancelled, retired.kept) == (2, True)
    by_device = {(t.device_id, t.state) for t in farm.trials()}
    assert by_device == {(first, "cancelled"), (second, "dispatched"), (second, "pending")}
    assert progress.sweep(farm.farm, "first").state == "running"

    retirement.retire(farm.farm, "second")
    assert progress.sweep(farm.farm, "first").state == "cancelled"
    assert sweeps.resume(farm.farm, "first").state == "cancelled", "nobody is there to run it"
    assert set(farm.states()) == {"cancelled"}

    again = registration.join_token(farm.farm, "first").join_token
    registration.enrol(farm.farm, enrolment(again, "first"), BROKER_URL)
    assert sweeps.resume(farm.farm, "first").state == "running"
    assert sorted(farm.states()) == ["cancelled", "cancelled", "pending", "pending"]


def test_a_device_says_what_runs_on_it_and_how_much_waits(farm: FarmKit) -> None:
    device_id = farm.device("board")
    farm.device("idle", device_facts("idle", ()))
    farm.add_model()
    farm.submit(trials=3)
    farm.beat(device_id)
    views = {v.name: v for v in devices.devices(farm.farm)}
    assert (views["idle"].running, views["idle"].waiting) == (None, 0)
    running = views["board"].running
    assert running is not None
    assert (running.sweep, running.number, running.build) == ("first", 0, False)
    assert running.since == farm.clock.at
    assert running.words().endswith(", trial 1")
    assert views["board"].waiting == 2
    assert devices.device(farm.farm, "board") == views["board"]

    farm.give(device_id, farm.ok(farm.last_rung()))
    after = devices.set_enabled(farm.farm, "board", False)
    assert after.running is not None, "the next one was rung for at once"
    assert after.waiting == 1


def test_the_devices_list_asks_no_more_for_many_than_for_one(sqlite_farm: FarmKit) -> None:
    from sqlalchemy import event

    def queries() -> int:
        seen: list[str] = []
        engine = sqlite_farm.farm.database.engine
        count = lambda *args: seen.append(args[2])  # noqa: E731
        event.listen(engine, "before_cursor_execute", count)
        try:
            devices.devices(sqlite_farm.farm)
        finally:
            event.remove(engine, "before_cursor_execute", count)
        return len(seen)

    sqlite_farm.device("board-0")
    one = queries()
    for number in range(1, 5):
        sqlite_farm.device(f"board-{number}")
    assert queries() == one > 0


def test_the_class_of_a_joined_device_can_be_changed(farm: FarmKit) -> None:
    farm.enrol("board")
    view = devices.set_class(farm.farm, "board", "x86-64-generic")
    assert view.device_class == "x86-64-generic"
    registration.record_facts(farm.farm, farm.device_id("board"), device_facts("board"))
    assert devices.device(farm.farm, "board").device_class == "x86-64-generic"
    devices.set_class(farm.farm, "board", "x86-64-generic")
    told = [e for e in events.after(farm.farm, 0, 10) if e.kind == "device_classified"]
    assert [e.data for e in told] == [{"device_class": "x86-64-generic", "before": "intel-cpu"}]
    with pytest.raises(NotFound, match="arm64-generic"):
        devices.set_class(farm.farm, "board", "toaster")
    with pytest.raises(NotFound, match="known: board"):
        devices.set_class(farm.farm, "bord", "x86-64-generic")


def test_no_token_reads_as_an_option(farm: FarmKit, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter(["-option", "--help", "a-token"])
    monkeypatch.setattr(secrets, "token_urlsafe", lambda _: next(drawn))
    assert registration.join_token(farm.farm, "board").join_token == "a-token"
