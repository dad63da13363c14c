"""Faults of messages: doorbells that are doubled, late, out of order, foreign or malformed, and
results that are sent again or forged."""

from __future__ import annotations

import contextlib
import random
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

import httpx
import redis

from agent import broker
from agent.contract import codec
from agent.contract.trial import SCHEMA, Failure, TrialResult
from orchestrator.store.tables import Attempt

from .schedule import Fault
from .servers import Servers

MALFORMED = (b"1", b"[]", b"null", b"{}", b"\xff\xfe", b'{"body": "MQ=="}')
FORGED = Failure("measure", "forged", "this never happened")
NO_ANSWER = (0, 429, 503)
"""No connection, or an answer that asks for another try."""
DOORBELLS_PER_BOARD = 8


def _targets(servers: Servers, fault: Fault) -> list[str]:
    """The fault's share of the boards."""
    names = list(servers.device_tokens)
    count = max(1, round(fault.share * len(names)))
    return random.Random(fault.draw).sample(names, count)


def _ring(servers: Servers, doorbells: Iterable[tuple[str, str]]) -> None:
    """Send doorbells: device and attempt each."""
    app = broker.make_app(servers.broker_url, "chaos", "")
    with contextlib.suppress(broker.BrokerDown):
        for device, attempt_id in doorbells:
            broker.ring(app, device, attempt_id)
    app.close()


def _ring_again(servers: Servers, fault: Fault) -> None:
    """Old doorbells and those of running attempts, newest first, some twice."""
    targets, rung = set(_targets(servers, fault)), Counter[str]()
    doorbells = []
    for number, (attempt, device) in enumerate(servers.recent_attempts()):
        if device in targets and rung[device] < DOORBELLS_PER_BOARD:
            doorbells += [(device, attempt.id)] * (1 + (fault.draw + number) % 2)
            rung[device] += 1
    _ring(servers, doorbells)


def _ring_strangers(servers: Servers, fault: Fault) -> None:
    """Doorbells of other boards' attempts, running ones too, and of attempts that do not exist."""
    targets, attempts = _targets(servers, fault), servers.recent_attempts()
    names = random.Random(fault.draw)
    doorbells = [(name, uuid.UUID(int=names.getrandbits(128)).hex) for name in targets]
    doorbells += [
        (name, attempt.id)
        for name, (attempt, owner) in zip(targets * 4, attempts, strict=False)
        if name != owner
    ]
    _ring(servers, doorbells)


def _poison(servers: Servers, fault: Fault) -> None:
    with contextlib.suppress(redis.RedisError), servers.queue() as client:
        for name in _targets(servers, fault):
            for message in MALFORMED:
                client.lpush(broker.queue_name(name), message)


def _send(servers: Servers, device: str, result: TrialResult) -> int:
    """Send a result with a device's token; the status of the answer, 0 where none came."""
    path = f"/api/v1/attempts/{result.attempt_id}/result"
    headers = {"Content-Type": "application/json"}
    headers["Authorization"] = f"Bearer {servers.device_tokens[device]}"
    url = f"http://{servers.host}:{servers.ports[0]}{path}"
    try:
        return httpx.put(url, content=codec.dumps(result), headers=headers, timeout=20).status_code
    except httpx.TransportError:
        return 0


def _require(servers: Servers, attempt: Attempt, status: int, right: tuple[int, ...]) -> None:
    """Raises ``AssertionError`` where a second result for an attempt was answered otherwise."""
    if status not in (*right, *NO_ANSWER):
        words = f"a second result for {attempt.id} was answered {status}, not one of {right}"
        assert status == 404, words
        assert not servers.knows(attempt.id), words  # old health checks are deleted


def _give_again(servers: Servers, fault: Fault) -> None:
    """Send some old results once more: the answer must be the first one."""
    given = [(a, device) for a, device in servers.recent_attempts() if a.result is not None]
    for attempt, device in random.Random(fault.draw).sample(given, min(len(given), 20)):
        first = servers.first_answer(attempt.id)
        result = codec.from_plain(TrialResult, attempt.result)
        _require(
            servers, attempt, _send(servers, device, result), (first,) if first else (200, 409)
        )


def _forge(servers: Servers, fault: Fault) -> None:
    """Boards send results for others' attempts, running ones too, and for their own that are over.
    The controller must know no attempt of another board, and answer own ones as before."""
    attempts, draws = servers.recent_attempts(), random.Random(fault.draw)
    for attempt, owner in attempts[:20]:
        forger = draws.choice(list(servers.device_tokens))
        if forger != owner:
            result = TrialResult(SCHEMA, attempt.id, "failed", "forged", failure=FORGED)
            status = _send(servers, forger, result)
            assert status in (404, *NO_ANSWER), f"a forged result was answered {status}"
    for attempt, owner in [(a, owner) for a, owner in attempts if a.accepted][:10]:
        true = codec.from_plain(TrialResult, attempt.result)
        forged = replace(true, failure=FORGED, status="failed", samples=None)
        _require(servers, attempt, _send(servers, owner, forged), (200,))


ACTIONS: dict[str, Callable[[Servers, Fault], None]] = {
    "ring_again": _ring_again,
    "ring_strangers": _ring_strangers,
    "poison": _poison,
    "give_again": _give_again,
    "forge": _forge,
}
