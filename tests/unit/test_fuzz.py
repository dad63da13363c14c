"""Whatever a board or a person sends: each parser gives a value or its one named error."""

from __future__ import annotations

import contextlib
import io
import json
import string
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.contract import codec
from agent.contract.api_messages import (
    INLINE_KEY,
    Enrolled,
    Enrolment,
    Heartbeat,
    HeartbeatAnswer,
    Started,
    take_samples,
    with_samples,
)
from agent.contract.device import DeviceFacts
from agent.contract.trial import TrialRequest, TrialResult
from agent.formats.archive import BadArchive, unpack
from agent.worker.broker import tasks
from orchestrator.api.request_limits import depth
from orchestrator.broker.redis_acl import credentials_of, with_credentials
from orchestrator.cli.token import lifetime
from orchestrator.domain import selectors
from orchestrator.domain.errors import UserError
from orchestrator.domain.spec import SweepSpec, parse
from orchestrator.inspection.child import datasets
from support.farms import device_facts, failed, spec_text

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda part: (
        st.lists(part, max_size=4) | st.dictionaries(st.text(max_size=9), part, max_size=4)
    ),
    max_leaves=12,
)
MESSAGES: tuple[Any, ...] = (
    TrialResult, TrialRequest, Started, DeviceFacts, Enrolment, Enrolled, Heartbeat,
    HeartbeatAnswer,
)  # fmt: skip
WHOLE: tuple[Any, ...] = (device_facts(), failed("a1"), Heartbeat("0.1", "a1"))


@given(st.sampled_from(MESSAGES), st.binary(max_size=200))
def test_bytes_as_a_message(kind: Any, data: bytes) -> None:
    with pytest.raises(codec.ContractError):
        codec.loads(kind, data)


@given(st.sampled_from(WHOLE), st.data())
def test_a_message_with_one_part_replaced(whole: Any, data: st.DataObject) -> None:
    plain = codec.to_plain(whole)
    place: Any = plain
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        inner = place[key]
        if not isinstance(inner, (dict, list)) or not inner or data.draw(st.booleans()):
            break
        place = inner
    place[key] = data.draw(JSON)
    try:
        text = json.dumps(plain)
        found = codec.loads(type(whole), text)
    except codec.ContractError:
        return
    assert isinstance(found, type(whole))


@given(st.binary(max_size=300))
def test_samples_that_a_result_brings_along(samples: bytes) -> None:
    text = codec.dumps(failed("a1"))
    brought = json.loads(with_samples(text, samples))
    assert take_samples(brought) == samples
    assert codec.dumps(codec.from_plain(TrialResult, brought)) == text


@given(JSON, JSON)
def test_anything_as_samples_of_anything(value: Any, whole: Any) -> None:
    assert take_samples(whole) is None or INLINE_KEY in whole
    data = {INLINE_KEY: value, "other": 1}
    with contextlib.suppress(ValueError):
        assert isinstance(take_samples(data), bytes)
    assert data == {"other": 1}


@given(JSON.map(lambda value: json.dumps(value).encode()))
def test_depth_is_that_of_the_value(text: bytes) -> None:
    def deep(value: Any) -> int:
        if isinstance(value, (dict, list)):
            inner = value.values() if isinstance(value, dict) else value
            return 1 + max(map(deep, inner), default=0)
        return 0

    assert depth(text) == deep(json.loads(text))


@given(st.binary(max_size=300))
def test_depth_of_what_is_no_json(data: bytes) -> None:
    assert depth(data) <= data.count(b"[") + data.count(b"{")


@given(st.text(max_size=300))
def test_text_as_a_spec(text: str) -> None:
    with pytest.raises(UserError, match=r"mine\.yaml"):
        parse(text, "mine.yaml")


SPEC_LINES = spec_text(more="scenario: {min_samples: 10}\nlimits: {memory_mib: 100}\n").splitlines()


@given(st.data())
def test_a_spec_with_parts_replaced(data: st.DataObject) -> None:
    """By JSON, which YAML reads, or by any text."""
    lines = list(SPEC_LINES)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(lines) - 1))
        value = data.draw(JSON.map(json.dumps) | st.text(string.printable, max_size=30))
        lines[at] = f"{lines[at].partition(':')[0]}: {value}"
    try:
        found = parse("\n".join(lines), "mine.yaml")
    except UserError:
        return
    assert isinstance(found, SweepSpec)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "{a: " * 50_000,
        "- " * 50_000,
        "a: &a [x, x]\nb: *a",
        "!!python/object/apply:os.system ['true']",
        "!!python/name:os.system",
        "a: !!binary ====",
        "? " * 20_000,
        "a: 2025-99-99",
        "a: " + "9" * 5000,
        "\ufeffa: 1",
        "a: !!float x",
    ],
    ids=lambda text: text[:20],
)
def test_specs_that_are_traps(text: str) -> None:
    with pytest.raises(UserError, match=r"mine\.yaml"):
        parse(text, "mine.yaml")


@settings(max_examples=60)
@given(st.data())
def test_archives_that_are_spoilt(data: st.DataObject) -> None:
    """Nothing is ever written outside, whatever bytes are changed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as out:
        for name in data.draw(st.lists(st.text("ab./\\", min_size=1, max_size=8), max_size=4)):
            try:
                out.writestr(name, b"x" * 50)
            except (UserWarning, ValueError):
                return
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(0, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        outer = Path(folder)
        (outer / "a.zip").write_bytes(content)
        inner = outer / "in" / "out"
        with contextlib.suppress(BadArchive):
            unpack(outer / "a.zip", inner, "a", max_bytes=1 << 20)
        found = {p for p in outer.rglob("*") if inner not in p.parents}
        assert found <= {outer / "a.zip", outer / "in", inner}
        assert all(not p.is_symlink() for p in outer.rglob("*"))


def test_an_archive_of_countless_files_is_refused(tmp_path: Path) -> None:
    from agent.formats import archive

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as out:
        for number in range(30):
            out.writestr(str(number), b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive, "MAX_FILES", 29)
        with pytest.raises(BadArchive, match="30 files, at most 29"):
            unpack(tmp_path / "a.zip", tmp_path / "out", "1")
    assert not list((tmp_path / "out").iterdir())


@settings(max_examples=60)
@given(st.data())
def test_data_sets_that_are_spoilt(data: st.DataObject) -> None:
    buffer = io.BytesIO()
    arrays = {"inputs": np.zeros((3, 2)), "labels": np.zeros(3), "calibration": np.zeros((1, 2))}
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "set.npz"
        path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        try:
            found = datasets.arrays_of(path, "set.npz").shapes
        except UserError:
            return
        assert {"inputs", "labels", "calibration"} <= set(found)


def test_a_data_set_that_unpacks_to_too_much_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "set.npz", inputs=np.zeros((1 << 17, 1)))
    assert (tmp_path / "set.npz").stat().st_size < 10_000
    monkeypatch.setattr(datasets, "MAX_BYTES", 1 << 20)
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(UserError, match=r"it unpacks to .* bytes, at most 1048576"):
        datasets.arrays_of(tmp_path / "set.npz", "set.npz")


@given(JSON, JSON)
def test_doorbells(args: Any, kwargs: Any) -> None:
    """Celery hands over a list and an object, whatever is in them."""
    arguments = tuple(args) if isinstance(args, list) else (args,)
    named = kwargs if isinstance(kwargs, dict) else {"attempt_id": kwargs}
    found = tasks.parse_doorbell(arguments if args else (), named)
    assert found is None or (found == named["attempt_id"] and found.isascii())


@given(st.lists(st.text(max_size=30), max_size=4))
def test_selectors(words: list[str]) -> None:
    try:
        found = selectors.parse(words)
    except UserError:
        return
    assert len(found) <= len(words)


@given(st.text(max_size=12))
def test_lifetimes(text: str) -> None:
    try:
        found = lifetime(text)
    except UserError:
        return
    assert found is None or found >= 3600


SECRETS = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FFF), min_size=1, max_size=40)


@given(SECRETS, SECRETS)
def test_credentials_in_an_address_come_back(user: str, password: str) -> None:
    url = with_credentials("rediss://old:pw@[::1]:6379/0?x=y", user, password)
    assert credentials_of(url) == (user, password)
    assert url.endswith("@[::1]:6379/0?x=y")
