"""Registering models: what is refused leaves neither rows nor blobs."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from sqlalchemy import select

from orchestrator.domain.errors import Conflict, NotFound, UserError
from orchestrator.inspection.child import onnx_file
from orchestrator.service.context import FarmContext
from orchestrator.service.models import registration
from orchestrator.service.models.registration import NewModel
from orchestrator.service.models.source_file import REFERENCE_FEEDS
from orchestrator.store.tables import Model
from support import onnx_files
from support.farms import FarmKit

GOOD = onnx_files.dense_bytes()
TFLITE = Path(__file__).parents[2] / "fixtures" / "tflite"


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def data_set(samples: int = 8) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "inputs": rng.standard_normal((samples, onnx_files.FEATURES)).astype(np.float32),
        "labels": rng.integers(0, onnx_files.CLASSES, samples),
        "calibration": rng.standard_normal((4, onnx_files.FEATURES)).astype(np.float32),
    }


def refuse(farm: FarmKit, new: NewModel, error: type[Exception] = UserError) -> str:
    """The error for ``new``; nothing of it may be stored."""
    rows, blobs = farm.rows(), farm.blobs() - {new.sha256, new.dataset_sha256}
    with pytest.raises(error) as caught:
        registration.add(farm.farm, new)
    assert (farm.rows(), farm.blobs()) == (rows, blobs)
    assert list(farm.farm.settings.home.glob("reference-*")) == []
    return str(caught.value)


def put(farm: FarmKit, data: bytes, file_name: str = "mine.onnx", **more: object) -> NewModel:
    return replace(NewModel("mine", file_name, farm.farm.blobs.put(data)), **more)  # type: ignore[arg-type]


def test_a_model_is_kept_with_its_reference(farm: FarmKit) -> None:
    view = farm.add_model("dense")
    assert [(i["name"], i["shape"], i["dtype"]) for i in view.inputs] == [("x", [1, 6], "float32")]
    assert [(o["name"], o["shape"]) for o in view.outputs] == [("y", [1, 3])]
    assert view.details["parameters"] == 21
    assert view.details["operators"] == {"Gemm": 1, "Relu": 1}
    assert not view.free_batch
    with farm.farm.database.transaction() as session:
        reference = session.scalars(select(Model.reference)).one()
    with np.load(io.BytesIO(farm.farm.blobs.read(reference["sha256"]))) as arrays:
        assert arrays["input:x"].shape == (REFERENCE_FEEDS, 1, 6)
        assert arrays["output:y"].shape == (REFERENCE_FEEDS, 1, 3)
        assert len(np.unique(arrays["input:x"])) > 1


def test_the_same_file_again_is_the_same_model(farm: FarmKit) -> None:
    first = farm.add_model("dense")
    rows = farm.rows()
    assert farm.add_model("dense") == first
    assert farm.rows() == rows


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"shapes": {"x": [2, 6]}}, "x=[1, 6], not [2, 6]"),
        ({"shapes": {"z": [1, 6]}}, "no such input"),
        ({"dataset_name": "d.npz", "dataset_sha256": "0" * 64}, "no data set, not d.npz"),
    ],
)
def test_the_same_file_with_other_shapes_or_data_is_refused(
    farm: FarmKit, more: dict[str, object], says: str
) -> None:
    new = put(farm, GOOD)
    registration.add(farm.farm, new)
    registration.add(farm.farm, replace(new, shapes={"x": [1, 6]}))
    with pytest.raises(Conflict) as caught:
        registration.add(farm.farm, replace(new, **more))  # type: ignore[arg-type]
    assert says in str(caught.value)
    assert "--name" in str(caught.value)
    assert new.sha256 in farm.blobs()


def test_another_file_under_the_same_name_is_refused(farm: FarmKit) -> None:
    farm.add_model("mine")
    message = refuse(farm, put(farm, onnx_files.dense_bytes(seed=1)), Conflict)
    assert "choose another name with --name" in message


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "mine.onnx: the file is empty"),
        (GOOD[: len(GOOD) // 2], "not a valid ONNX model"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "not a valid ONNX model"),
        (b"name: a sweep\n", "not a valid ONNX model"),
        (onnx_files.with_external_weights(), "its weights lie in a second file"),
        (
            onnx_files.dense_bytes("n"),
            "free shape [n, 6]; give every dimension a size: --shape x=1,6",
        ),
        (onnx_files.dense_bytes(None), "free shape [?, 6]"),
        (onnx_files.with_input_type(TensorProto.STRING), "mine.onnx: "),
    ],
    ids=["empty", "truncated", "png", "text", "external", "named free", "free", "strings"],
)
def test_what_is_not_a_usable_model_leaves_nothing(farm: FarmKit, data: bytes, says: str) -> None:
    assert says in refuse(farm, put(farm, data))


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ({"x": [2, 7]}, "declares [?, 6]"),
        ({"x": [1]}, "declares [?, 6]"),
        ({"x": [0, 6]}, "1 or more"),
        ({"x": []}, "declares [?, 6]"),
        ({"z": [1, 6]}, "no input 'z'; it has x"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(
    sqlite_farm: FarmKit, shapes: dict[str, list[int]], says: str
) -> None:
    new = put(sqlite_farm, onnx_files.dense_bytes("n"), shapes=shapes)
    assert says in refuse(sqlite_farm, new)


@pytest.mark.parametrize(("batch", "free"), [(1, True), (4, False)])
def test_a_free_shape_is_fixed_by_what_is_given(
    sqlite_farm: FarmKit, batch: int, free: bool
) -> None:
    new = put(sqlite_farm, onnx_files.dense_bytes("n"), shapes={"x": [batch, 6]})
    view = registration.add(sqlite_farm.farm, new)
    assert (view.inputs[0]["shape"], view.free_batch) == ([batch, 6], free)


@pytest.mark.parametrize("name", ["", "a/b", ".a", "a" * 64, "a b", "a\n"])
def test_a_bad_name_leaves_nothing(sqlite_farm: FarmKit, name: str) -> None:
    assert "model name" in refuse(sqlite_farm, replace(put(sqlite_farm, GOOD), name=name))


def test_an_unknown_format_names_the_known_ones(sqlite_farm: FarmKit) -> None:
    message = refuse(sqlite_farm, put(sqlite_farm, GOOD, "mine.xyz"))
    for suffix in (".onnx", ".pt2", ".tflite", ".keras", ".h5", ".pb", ".zip", "a SavedModel"):
        assert suffix in message


def test_a_file_that_was_never_uploaded_is_named(sqlite_farm: FarmKit) -> None:
    refuse(sqlite_farm, NewModel("mine", "mine.onnx", "0" * 64), NotFound)
    refuse(sqlite_farm, NewModel("mine", "mine.onnx", "../../etc/passwd"))


def test_no_truncation_of_a_model_gets_past_the_check_or_breaks_it(tmp_path: Path) -> None:
    path = tmp_path / "cut"
    accepted = []
    for length in range(len(GOOD)):
        path.write_bytes(GOOD[:length])
        try:
            onnx_file.onnx_model(path, "cut.onnx", {})
        except UserError:
            continue
        accepted.append(length)
    assert accepted == []


def test_a_reference_run_that_fails_leaves_nothing(farm: FarmKit) -> None:
    """The ONNX checker accepts this file, but no runtime can run it: sizes do not match."""
    spoilt = onnx_files.dense()
    spoilt.graph.initializer[0].dims[:] = [3, 6]
    message = refuse(farm, put(farm, spoilt.SerializeToString()))
    assert "the reference run failed" in message


def test_a_reference_run_that_blows_up_leaves_nothing(farm: FarmKit) -> None:
    def explode(_job: object) -> object:
        raise RuntimeError("out of disk")

    broken = replace(farm, farm=FarmContext(**{**vars(farm.farm), "compute_reference": explode}))
    assert "out of disk" in refuse(broken, put(farm, GOOD), RuntimeError)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda _: b"", "not an .npz data set"),
        (lambda d: npz(**d)[:-30], "not an .npz data set"),
        (lambda d: npz(**d)[:60] + b"\xff" * 60 + npz(**d)[120:], "not an .npz data set"),
        (lambda d: _npy(d["inputs"]), "not an .npz data set"),
        (lambda d: npz(inputs=d["inputs"], labels=d["labels"]), "'calibration' is missing"),
        (lambda d: npz(**{**d, "labels": d["labels"][1:]}), "8 inputs but labels (7,)"),
        (lambda d: npz(**{**d, "inputs": d["inputs"][:, 1:]}), "the model takes [6]"),
        (lambda d: npz(**{**d, "calibration": d["calibration"][:, 1:]}), "the model takes [6]"),
    ],
    ids=["empty", "truncated", "damaged", "npy", "missing", "labels", "inputs", "calibration"],
)  # fmt: skip
def test_a_bad_data_set_leaves_nothing(sqlite_farm: FarmKit, spoil: object, says: str) -> None:
    data = spoil(data_set())  # type: ignore[operator]
    digest = sqlite_farm.farm.blobs.put(data)
    new = put(sqlite_farm, GOOD, dataset_name="digits.npz", dataset_sha256=digest)
    message = refuse(sqlite_farm, new)
    assert says in message
    assert message.startswith("digits.npz: ")


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_a_data_set_is_bound(farm: FarmKit) -> None:
    digest = farm.farm.blobs.put(npz(**data_set()))
    new = put(farm, GOOD, dataset_name="digits.npz", dataset_sha256=digest)
    assert registration.add(farm.farm, new).dataset == "digits.npz"
    with farm.farm.database.transaction() as session:
        dataset = session.scalars(select(Model.dataset)).one()
    assert dataset is not None
    assert (dataset["samples"], dataset["calibration_samples"]) == (8, 4)


def test_refusing_a_file_never_deletes_what_is_in_use(farm: FarmKit) -> None:
    """A request only names a digest: the blob may be anything."""
    digest = farm.farm.blobs.put(npz(**data_set()))
    dataset = {"dataset_name": "d.npz", "dataset_sha256": digest}
    registration.add(farm.farm, put(farm, GOOD, name="dense", **dataset))
    board = farm.device()
    farm.submit()
    farm.beat(board)
    farm.give(board, farm.ok(farm.last_rung()))
    kept = farm.blobs()
    assert len(kept) == 4, "model, data set, reference, samples"
    for sha256 in kept:
        with pytest.raises(UserError):
            registration.add(farm.farm, NewModel("no name!", "x.onnx", sha256))
        with pytest.raises(UserError):
            registration.add(farm.farm, NewModel("new", "x.txt", sha256, dataset_sha256=sha256))
    assert farm.blobs() == kept


def test_an_exported_program_joins_its_onnx_model(sqlite_farm: FarmKit) -> None:
    program = io.BytesIO()
    with zipfile.ZipFile(program, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mine/models/model.json", "{}" * 500)
    pt2 = put(sqlite_farm, program.getvalue(), "mine.pt2")
    assert "torch cannot be imported" in refuse(sqlite_farm, pt2)
    registration.add(sqlite_farm.farm, put(sqlite_farm, GOOD))
    pt2 = put(sqlite_farm, program.getvalue(), "mine.pt2")
    first, joined = registration.add(sqlite_farm.farm, pt2).artifacts
    assert (first.format, first.checked) == ("onnx", "gave the reference")
    assert (joined.format, joined.checked[:38]) == ("pt2", "not checked: torch cannot be imported ")
    registration.add(sqlite_farm.farm, pt2)
    assert sqlite_farm.rows()["artifacts"] == 2


@pytest.mark.parametrize("cut", [0, 10, 60, -30])
def test_a_damaged_exported_program_leaves_nothing(sqlite_farm: FarmKit, cut: int) -> None:
    program = io.BytesIO()
    with zipfile.ZipFile(program, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mine/models/model.json", str(list(range(400))))
    data = program.getvalue()
    spoilt = data[:cut] if cut < 0 else data[:cut] + b"\xff" * 40 + data[cut + 40 :]
    registration.add(sqlite_farm.farm, put(sqlite_farm, GOOD))
    message = refuse(sqlite_farm, put(sqlite_farm, spoilt, "mine.pt2"))
    assert "not a .pt2 exported program" in message


@pytest.mark.parametrize(("file", "form"), [("nhwc", "tflite"), ("edgetpu", "edgetpu_tflite")])
def test_a_tflite_file_joins_its_onnx_model(sqlite_farm: FarmKit, file: str, form: str) -> None:
    data = (TFLITE / f"{file}.tflite").read_bytes()
    refuse(sqlite_farm, put(sqlite_farm, data, "mine.tflite"))
    registration.add(sqlite_farm.farm, put(sqlite_farm, GOOD))
    added = registration.add(sqlite_farm.farm, put(sqlite_farm, data, "mine.tflite"))
    assert [a.format for a in added.artifacts] == ["onnx", form]
    assert added.artifacts[1].checked.startswith("not checked: ")


def test_a_file_that_joins_brings_no_other_data_set_or_shapes(sqlite_farm: FarmKit) -> None:
    registration.add(sqlite_farm.farm, put(sqlite_farm, GOOD))
    data = (TFLITE / "nhwc.tflite").read_bytes()
    digest = sqlite_farm.farm.blobs.put(npz(**data_set()))
    other = put(sqlite_farm, data, "mine.tflite", dataset_name="d.npz", dataset_sha256=digest)
    assert "no data set, not d.npz" in refuse(sqlite_farm, other, Conflict)
    other = put(sqlite_farm, data, "mine.tflite", shapes={"x": [2, 6]})
    assert "x=[1, 6], not [2, 6]" in refuse(sqlite_farm, other, Conflict)


@pytest.mark.parametrize(
    "spoil", [lambda d: b"", lambda d: b"TFL3", lambda d: d[:-40], lambda d: b"no" * 99]
)
def test_a_damaged_tflite_file_leaves_nothing(sqlite_farm: FarmKit, spoil: object) -> None:
    registration.add(sqlite_farm.farm, put(sqlite_farm, GOOD))
    data = spoil((TFLITE / "nhwc.tflite").read_bytes())  # type: ignore[operator]
    message = refuse(sqlite_farm, put(sqlite_farm, data, "mine.tflite"))
    assert message.startswith("mine.tflite: ")
    assert "TFLite model" in message or "tflite model" in message


def _image_model(order: list[int] | None, before: str = "Relu") -> bytes:
    shape = [1, 3, 6, 6] if order is None else [1, 6, 6, 3]
    nodes = [helper.make_node(before, ["x"], ["r"])]
    if order is not None:
        nodes.append(helper.make_node("Transpose", ["r"], ["t"], perm=order))
    nodes.append(helper.make_node("MaxPool", [nodes[-1].output[0]], ["y"], kernel_shape=[2, 2]))
    value = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 5, 5])]
    data: bytes = onnx_files.model(nodes, value, out, {}).SerializeToString()
    return data


@pytest.mark.parametrize(
    ("data", "layout"),
    [
        (_image_model(None), "NCHW"),
        (_image_model([0, 3, 1, 2]), "NHWC"),
        (_image_model([0, 3, 2, 1]), ""),
        (_image_model(None, "Softmax"), ""),
        (GOOD, ""),
    ],
)
def test_an_inputs_layout_follows_from_what_it_leads_to(
    tmp_path: Path, data: bytes, layout: str
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    assert onnx_file.onnx_model(path, "m.onnx", {}).inputs[0].layout == layout


@pytest.mark.parametrize(
    ("after", "layout"),
    [
        (["Relu"], "NCHW"),
        ([], "NCHW"),
        (["Softmax"], ""),
        ([[0, 2, 3, 1]], "NHWC"),
        ([[0, 2, 3, 1], "Relu"], "NHWC"),
        ([[0, 2, 3, 1], [0, 3, 1, 2]], ""),
        ([[0, 1, 3, 2]], ""),
    ],
)
def test_an_outputs_layout_follows_from_what_made_it(
    tmp_path: Path, after: list[str | list[int]], layout: str
) -> None:
    nodes = [helper.make_node("MaxPool", ["x"], ["p"], kernel_shape=[2, 2])]
    for number, step in enumerate(after):
        given, made = [nodes[-1].output[0]], [f"t{number}"]
        operator = "Transpose" if isinstance(step, list) else step
        more = {"perm": step} if isinstance(step, list) else {}
        nodes.append(helper.make_node(operator, given, made, **more))
    end = nodes[-1].output[0]
    value = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 6, 6])]
    out = [helper.make_tensor_value_info(end, TensorProto.FLOAT, list("abcd"))]
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx_files.model(nodes, value, out, {}).SerializeToString())
    known = {"x": "NCHW"} | ({end: layout} if layout else {})
    assert onnx_file.onnx_layouts(path, "m.onnx") == known


def test_a_model_that_is_not_there_is_named_with_the_known_ones(sqlite_farm: FarmKit) -> None:
    with pytest.raises(NotFound, match="known: none yet"):
        registration.model(sqlite_farm.farm, "dense")
    sqlite_farm.add_model()
    assert [m.name for m in registration.models(sqlite_farm.farm)] == ["dense"]
    assert registration.model(sqlite_farm.farm, "dense").artifacts[0].size_bytes == len(GOOD)
