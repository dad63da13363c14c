"""Which blobs a device may read, on each database."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select

from orchestrator.service.devices import blob_access, tokens
from orchestrator.store.tables import Cell
from support.farms import FarmKit


def test_a_device_reads_what_its_attempts_are_about_and_nothing_else(farm: FarmKit) -> None:
    mine, other = farm.device("mine"), farm.device("other")
    farm.add_model()
    farm.submit(devices="{names: [mine]}")
    with farm.farm.database.read_session() as session:
        request = session.scalars(select(Cell.request)).one()
    assert request is not None
    model, reference = request["model"]["sha256"], request["reference"]["sha256"]
    assert not blob_access.may_read(farm.farm, mine, model), "it was planned, not yet given to it"
    farm.beat(mine)
    for sha256 in (model, reference):
        assert blob_access.may_read(farm.farm, mine, sha256)
        assert not blob_access.may_read(farm.farm, other, sha256)
    assert not blob_access.may_read(farm.farm, mine, "0" * 64)
    result = farm.ok(farm.last_rung())
    assert result.samples is not None
    assert not blob_access.has_uploaded(farm.farm, mine, result.samples.sha256)
    farm.give(mine, result)
    assert blob_access.has_uploaded(farm.farm, mine, result.samples.sha256)
    assert not blob_access.has_uploaded(farm.farm, other, result.samples.sha256)
    assert not blob_access.may_read(farm.farm, mine, result.samples.sha256)
    assert blob_access.may_read(farm.farm, mine, model), "an attempt that is over was its own, too"


def test_a_hash_in_words_opens_nothing(farm: FarmKit) -> None:
    """The steps that a builder reports become part of other cells' requests."""
    mine = farm.device("mine")
    farm.add_model()
    farm.submit()
    secret = farm.farm.blobs.put(b"of another")
    with farm.farm.database.transaction() as session:
        cell = session.scalars(select(Cell)).one()
        assert cell.request is not None
        model = {**cell.request["model"], "made": [f"step {secret}"], "entry": secret}
        cell.request = {**cell.request, "model": model}
    farm.beat(mine)
    assert not blob_access.may_read(farm.farm, mine, secret)


def test_whose_a_token_was(farm: FarmKit) -> None:
    enrolled = farm.enrol("board")
    farm.enrol("other")
    assert tokens.was_device_token(farm.farm, enrolled.token, "board")
    assert not tokens.was_device_token(farm.farm, enrolled.token, "other")
    assert not tokens.was_device_token(farm.farm, "guess", "board")
    made = tokens.create(farm.farm, "viewer", "board", timedelta(days=1))
    assert not tokens.was_device_token(farm.farm, made.secret, "board")
    whose = tokens.identify(farm.farm, made.secret)
    assert whose == tokens.Identity(
        "viewer", None, f"viewer board (token {made.token.id})", made.token.id
    )
