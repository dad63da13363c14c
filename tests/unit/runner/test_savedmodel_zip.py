"""A SavedModel's zip is unpacked whole and safely, or not at all."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from agent.contract.failures import BadModel
from agent.formats import savedmodel
from agent.runner.artifact_paths import named

GRAPH, WEIGHTS = "saved_model.pb", "variables/variables.index"


@pytest.fixture
def job(tmp_path: Path) -> Path:
    folder = tmp_path / "job"
    folder.mkdir()
    return folder


def write(path: Path, *names: str, content: bytes = b"x") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("top", ["", "my model/"])
def test_the_folder_is_what_holds_the_graph(tmp_path: Path, job: Path, top: str) -> None:
    blob = write(tmp_path / ("a" * 64), top + GRAPH, top + WEIGHTS, top + "assets/größe.txt")
    found = named(blob, "savedmodel", job)
    files = {str(p.relative_to(found)) for p in found.rglob("*") if p.is_file()}
    assert files == {GRAPH, WEIGHTS, "assets/größe.txt"}
    assert [p.name for p in job.iterdir()] == ["savedmodel"]


def test_what_stands_beside_the_only_folder_is_left(tmp_path: Path, job: Path) -> None:
    blob = write(tmp_path / "m.zip", "m/" + GRAPH, "m/" + WEIGHTS, "__MACOSX/m/._x")
    found = savedmodel.unpack(blob, job)
    assert sorted(p.name for p in found.iterdir()) == [GRAPH, "variables"]


def test_it_is_unpacked_once_and_a_folder_is_taken_as_it_is(tmp_path: Path, job: Path) -> None:
    blob = write(tmp_path / "m.zip", GRAPH)
    first = named(blob, "savedmodel", job)
    blob.unlink()
    assert named(blob, "savedmodel", job) == first
    assert named(first, "savedmodel", tmp_path) == first


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ((GRAPH, "../out"), "'../out', which leads out of its folder"),
        ((GRAPH, "a/../../out"), "leads out of its folder"),
        ((GRAPH, "/out"), "leads out of its folder"),
        ((GRAPH, "..\\out"), "leads out of its folder"),
        (("model.onnx",), "0 files saved_model.pb"),
        (("a/" + GRAPH, "b/" + GRAPH), "2 files saved_model.pb"),
        (("a/b/" + GRAPH,), "at the top or in the only folder"),
        ((GRAPH, "a", "a/b"), "one name twice"),
    ],
)
def test_what_would_write_elsewhere_or_is_none_is_refused(
    tmp_path: Path, job: Path, names: tuple[str, ...], says: str
) -> None:
    blob = write(tmp_path / "m.zip", *names)
    with pytest.raises(BadModel) as refused:
        savedmodel.unpack(blob, job)
    assert says in str(refused.value)
    assert list(job.iterdir()) == []
    assert not (tmp_path / "out").exists()


def test_a_link_is_refused(tmp_path: Path, job: Path) -> None:
    blob = write(tmp_path / "m.zip", GRAPH)
    with zipfile.ZipFile(blob, "a") as archive:
        link = zipfile.ZipInfo("variables")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc")
    with pytest.raises(BadModel, match="no plain file"):
        savedmodel.unpack(blob, job)
    assert list(job.iterdir()) == []


def test_a_bomb_is_refused_before_it_is_unpacked(
    tmp_path: Path, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(savedmodel, "MOST_BYTES", 1 << 20)
    blob = write(tmp_path / "m.zip", GRAPH, WEIGHTS, content=bytes(1 << 20))
    assert blob.stat().st_size < 5000
    with pytest.raises(BadModel, match="would take 2 MiB unpacked; there is room for 1"):
        savedmodel.unpack(blob, job)
    assert list(job.iterdir()) == []


def test_too_many_files_are_refused(
    tmp_path: Path, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(savedmodel, "MOST_FILES", 2)
    blob = write(tmp_path / "m.zip", GRAPH, "a", "b")
    with pytest.raises(BadModel, match="holds 3 files; at most 2"):
        savedmodel.unpack(blob, job)


@pytest.mark.parametrize("content", [b"", b"no zip at all", None])
def test_a_damaged_one_leaves_nothing(tmp_path: Path, job: Path, content: bytes | None) -> None:
    blob = write(tmp_path / "m.zip", GRAPH, WEIGHTS, content=b"words " * 100)
    whole = blob.read_bytes()
    if content is None:
        content = whole.replace(whole[45:60], bytes(15), 1)
    blob.write_bytes(content)
    with pytest.raises(BadModel, match="no zip of a SavedModel"):
        savedmodel.unpack(blob, job)
    assert list(job.iterdir()) == []


def test_a_missing_one_is_named(job: Path) -> None:
    with pytest.raises(BadModel, match=r"m\.zip does not exist"):
        savedmodel.unpack(job / "m.zip", job)


def test_a_zip_that_lost_its_first_bytes_is_no_savedmodel(tmp_path: Path, job: Path) -> None:
    """Its directory then leads to before the file's start."""
    blob = write(tmp_path / "m.zip", GRAPH)
    blob.write_bytes(blob.read_bytes()[1:])
    with pytest.raises(BadModel, match="is no zip of a SavedModel"):
        savedmodel.unpack(blob, job)
    assert list(job.iterdir()) == []
