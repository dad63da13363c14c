"""Several files as one: the same bytes for the same files, and nothing written outside."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.formats.archive import WHOLE, BadArchive, content_of, pack, unpack


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "made"
    (made / "variables").mkdir(parents=True)
    (made / "model.xml").write_text("<net/>")
    (made / "model.bin").write_bytes(bytes(range(256)) * 10)
    (made / "variables" / "näme with spaces").write_bytes(b"")
    return made


def test_what_was_packed_comes_out_again(folder: Path, tmp_path: Path) -> None:
    pack(folder, tmp_path / "a.zip")
    found = unpack(tmp_path / "a.zip", tmp_path / "out", "model.xml")
    assert found == tmp_path / "out" / "model.xml"
    assert tree(tmp_path / "out") == tree(folder)
    assert unpack(tmp_path / "a.zip", tmp_path / "all", WHOLE) == tmp_path / "all"
    assert unpack(tmp_path / "a.zip", tmp_path / "v", "variables") == tmp_path / "v" / "variables"


def test_neither_times_nor_modes_nor_order_change_the_archive(folder: Path, tmp_path: Path) -> None:
    pack(folder, tmp_path / "a.zip")
    other = tmp_path / "other"
    other.mkdir()
    for name in sorted(tree(folder), reverse=True):
        (other / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(folder / name, other / name)
        os.utime(other / name, (1, 1))
        (other / name).chmod(0o755)
    pack(other, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_one_file_alone_is_not_packed_and_one_with_companions_is(folder: Path) -> None:
    assert content_of(folder / "model.xml") == (folder, "model.xml")
    assert content_of(folder) == (folder, WHOLE)
    alone = folder / "variables" / "näme with spaces"
    assert content_of(alone) == (alone, "")


def test_a_link_is_not_packed(folder: Path, tmp_path: Path) -> None:
    (folder / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(BadArchive, match="passwd is neither a file nor a folder"):
        pack(folder, tmp_path / "a.zip")


def test_an_empty_folder_is_not_packed(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadArchive, match="no file"):
        pack(tmp_path / "empty", tmp_path / "a.zip")


def entry(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


@pytest.mark.parametrize(
    ("info", "says"),
    [
        (entry("../evil"), "no name inside"),
        (entry("a/../../evil"), "no name inside"),
        (entry("/evil"), "no name inside"),
        (entry("a\\..\\evil"), "no name inside"),
        (entry("link", stat.S_IFLNK | 0o777), "neither a file nor a folder"),
        (entry("fifo", stat.S_IFIFO | 0o777), "neither a file nor a folder"),
    ],
)
def test_what_leads_outside_is_refused_before_anything_is_written(
    tmp_path: Path, info: zipfile.ZipInfo, says: str
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as out:
        out.writestr(entry("good"), b"good")
        out.writestr(info, b"/etc/passwd")
    with pytest.raises(BadArchive, match=says):
        unpack(tmp_path / "a.zip", tmp_path / "out", "good")
    assert tree(tmp_path / "out") == {}
    assert not (tmp_path / "evil").exists()


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("zeros", bytes(1 << 20))
    assert (tmp_path / "a.zip").stat().st_size < 1 << 16
    with pytest.raises(BadArchive, match="at most 65536 wanted"):
        unpack(tmp_path / "a.zip", tmp_path / "out", "zeros", max_bytes=1 << 16)
    assert tree(tmp_path / "out") == {}


def test_a_member_that_is_longer_than_it_says_is_not_read_further(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("zeros", bytes(1 << 20))
    data = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "b.zip").write_bytes(data.replace((1 << 20).to_bytes(4, "little"), b"\x10\0\0\0"))
    with pytest.raises(BadArchive, match="not a whole"):
        unpack(tmp_path / "b.zip", tmp_path / "out", "zeros")


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b")])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_taken_is_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as out:
        for name in names:
            out.writestr(entry(name), b"x")
    with pytest.raises(BadArchive, match="not a whole"):
        unpack(tmp_path / "a.zip", tmp_path / "out", "a")


@pytest.mark.parametrize("name", ["missing", "../a", ""])
def test_an_entry_that_is_not_there_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    pack(folder, tmp_path / "a.zip")
    (tmp_path / "a").write_bytes(b"outside")
    with pytest.raises(BadArchive):
        unpack(tmp_path / "a.zip", tmp_path / "out", name)


@pytest.mark.parametrize(
    "spoil", [lambda d: d[: len(d) // 2], lambda d: b"", lambda d: d[:80] + b"?" + d[81:]]
)
def test_a_damaged_archive_is_refused(
    folder: Path, tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    pack(folder, tmp_path / "a.zip")
    (tmp_path / "b.zip").write_bytes(spoil((tmp_path / "a.zip").read_bytes()))
    with pytest.raises(BadArchive):
        unpack(tmp_path / "b.zip", tmp_path / "out", "model.xml")


@given(st.binary(max_size=400))
def test_no_bytes_at_all_raise_anything_else(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    home = tmp_path_factory.mktemp("any")
    (home / "a.zip").write_bytes(data)
    with pytest.raises(BadArchive):
        unpack(home / "a.zip", home / "out", "x")


def test_an_archive_that_lost_its_first_bytes_is_refused(folder: Path, tmp_path: Path) -> None:
    """Its directory then leads to before the file's start."""
    pack(folder, tmp_path / "a.zip")
    (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes()[1:])
    with pytest.raises(BadArchive, match=r"not a whole \.zip"):
        unpack(tmp_path / "a.zip", tmp_path / "out", WHOLE)
