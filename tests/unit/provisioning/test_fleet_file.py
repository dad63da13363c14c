"""A farm file on disk: its paths, its selectors, and the example that is shipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.domain.errors import UserError
from orchestrator.provisioning.fleet_file import load

EXAMPLE = Path(__file__).parents[3] / "examples" / "farm.yaml"


def test_paths_are_relative_to_the_file_and_home_is_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for path in ("keys/farm", "home/.ssh/own", "python.tar.gz"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    file = tmp_path / "farm.yaml"
    file.write_text(
        "controller_url: http://farm:8470\n"
        "defaults: {identity: keys/farm}\n"
        "devices:\n  a: {ssh: h, python_archive: python.tar.gz}\n"
        "  b: {ssh: i, identity: ~/.ssh/own}\n  c: {ssh: j, identity: ''}\n"
    )
    fleet = load(file)
    a, b, c = fleet.boards
    assert a.identity == str(tmp_path / "keys/farm")
    assert a.python_archive == tmp_path / "python.tar.gz"
    assert (b.identity, c.identity) == (str(tmp_path / "home/.ssh/own"), "")
    assert (fleet.controller_url, fleet.whole) == ("http://farm:8470", True)


def test_files_that_are_not_there_are_named_by_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "farm.yaml"
    file.write_text(
        "defaults:\n  identity: no-key\ndevices:\n  a: {ssh: h}\n"
        "  b:\n    ssh: i\n    python_archive: no.tar\n"
        f"  c: {{ssh: j, identity: ~no-such-user/k}}\n  d: {{ssh: k, identity: {'x' * 300}}}\n"
    )
    with pytest.raises(UserError) as caught:
        load(file)
    assert str(caught.value).splitlines() == [
        f"{file}:2: identity: there is no file {tmp_path}/no-key",
        f"{file}:7: python_archive: there is no file {tmp_path}/no.tar",
        f"{file}:8: identity: there is no file {tmp_path}/~no-such-user/k",
        f"{file}:9: identity: there is no file {tmp_path}/{'x' * 300}",
    ]


def test_boards_are_chosen_by_name_class_and_tag(tmp_path: Path) -> None:
    file = tmp_path / "farm.yaml"
    file.write_text(
        "defaults: {tags: {rack: 1}}\ndevices:\n  a: {ssh: h, class: raspberry-pi}\n"
        "  b: {ssh: i, class: raspberry-pi, tags: {rack: 2}}\n  c: {ssh: j}\n"
    )

    def names(*selected: str) -> list[str]:
        return [board.name for board in load(file, selected).boards]

    assert names("name=b") == ["b"]
    assert names("class=raspberry-pi") == ["a", "b"]
    assert names("rack=1") == ["a", "c"]
    assert not load(file, ["rack=1"]).whole
    assert load(file, ["rack=1"]).named == {"a", "b", "c"}
    with pytest.raises(UserError, match="no device matches rack=3; it has: a, b, c"):
        names("rack=3")


def test_a_class_and_a_runtime_have_to_be_there(tmp_path: Path) -> None:
    file = tmp_path / "farm.yaml"
    file.write_text("devices:\n  a:\n    ssh: h\n    class: toaster\n    runtimes: [openvno]\n")
    with pytest.raises(UserError) as caught:
        load(file)
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"{file}:4: devices.a.class: there is no device class 'toaster'")
    assert "raspberry-pi" in first
    assert second.startswith(f"{file}:5: devices.a.runtimes.0: unknown backend 'openvno'")


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        load(tmp_path / "none.yaml")
    (tmp_path / "farm.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not UTF-8 text"):
        load(tmp_path / "farm.yaml")


def test_the_example_is_valid_and_shows_no_class_twice() -> None:
    fleet = load(EXAMPLE)
    used = [board.device_class for board in fleet.boards]
    assert len(used) > 10
    assert sorted({*used}) == sorted(used)
