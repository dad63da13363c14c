"""Models from any format, under the runtimes' own interpreters: what a file says of itself, and
whether what joins a model is the same network."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from orchestrator.domain.errors import UserError
from orchestrator.local.reference_runs import ReferenceRunner
from orchestrator.service.models import registration
from orchestrator.service.models.registration import NewModel
from orchestrator.service.views import ArtifactView, ModelView
from support import onnx_files
from support.environments import python_of
from support.farms import FarmKit
from support.runner_child import (
    BIAS,
    KERNEL,
    TFLITE,
    expected,
    facts_of,
    require,
    write_onnx,
    write_pt2,
    write_two,
)


@dataclass(frozen=True)
class Controller:
    """A farm whose references are computed by real children; ``lists`` adds an environment."""

    kit: FarmKit
    state_dir: Path

    def lists(self, *labels: str) -> None:
        self.state_dir.mkdir(exist_ok=True)
        entries = [
            {
                "name": label,
                "backend": label.partition("@")[0],
                "version": require(label).version,
                "python": python_of(label),
            }
            for label in labels
        ]
        (self.state_dir / "environments.json").write_text(json.dumps(entries))

    def add(self, file: Path, name: str = "small", **more: Any) -> ModelView:
        sha256 = self.kit.farm.blobs.put_file(file)
        return registration.add(self.kit.farm, NewModel(name, file.name, sha256, **more))

    def refused(self, file: Path, name: str = "small", **more: Any) -> str:
        """The message; nothing may be left of it."""
        before = self.kit.rows(), self.kit.blobs()
        with pytest.raises(UserError) as caught:
            self.add(file, name, **more)
        assert (self.kit.rows(), self.kit.blobs()) == before
        assert list(self.kit.farm.settings.home.glob("reference-*")) == []
        return str(caught.value)

    def reference(self, name: str = "small") -> dict[str, Any]:
        with self.kit.farm.database.read_session() as session:
            digest = registration.find(session, name).reference["sha256"]
        with np.load(io.BytesIO(self.kit.farm.blobs.read(digest))) as arrays:
            return dict(arrays)

    def wire(self, form: str, name: str = "small") -> Any:
        with self.kit.farm.database.read_session() as session:
            return registration.model_ref(registration.find(session, name), form)


@pytest.fixture
def controller(farm_on: Callable[[str], FarmKit], tmp_path: Path) -> Controller:
    kit = farm_on("")
    state_dir = tmp_path / "agent"
    farm = replace(kit.farm, compute_reference=ReferenceRunner(state_dir))
    return Controller(replace(kit, farm=farm), state_dir)


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The small network as exported programs: of free batch, of batch 1."""
    require("pytorch")
    return write_pt2(tmp_path_factory.mktemp("programs"))


def artifact(view: ModelView, form: str) -> ArtifactView:
    return next(a for a in view.artifacts if a.format == form)


def tensors(specs: Any) -> list[tuple[str, str, list[int], str]]:
    return [(s["name"], s["dtype"], s["shape"], s["layout"]) for s in specs]


NCHW = [("x", "float32", [1, 3, 6, 6], "NCHW")]
NHWC = [("x", "float32", [1, 6, 6, 3], "NHWC")]


@pytest.mark.parametrize("environment", ["tflite@litert", "tflite@tflite-runtime"])
def test_a_tflite_file_makes_a_model(controller: Controller, environment: str) -> None:
    controller.lists(environment)
    view = controller.add(TFLITE / "nhwc.tflite")
    assert tensors(view.inputs) == NHWC
    assert tensors(view.outputs) == [("y", "float32", [1, 5], "")]
    assert (view.free_batch, view.details["precision"]) == (False, "fp32")
    assert view.details["work"]["macs"] == 1748
    assert view.reference == f"tflite {facts_of(environment).version}, reference kernels"
    assert artifact(view, "tflite").checked == "gave the reference"
    reference = controller.reference()
    for x, y in zip(reference["input:x"], reference["output:y"], strict=True):
        np.testing.assert_allclose(y, expected(x.transpose(0, 3, 1, 2)), atol=1e-4)
    wired = controller.wire("tflite")
    assert (wired.own_inputs, wired.own_outputs) == ((), ())


def test_an_onnx_file_joins_a_tflite_model_in_its_own_layout(
    controller: Controller, tmp_path: Path
) -> None:
    controller.lists("tflite")
    controller.add(TFLITE / "nhwc.tflite")
    view = controller.add(write_onnx(tmp_path / "small.onnx", "batch"))
    assert tensors(view.inputs) == NHWC
    joined = artifact(view, "onnx")
    assert joined.checked.startswith("checked: as the reference's, cosine 1.0000")
    assert "onnxruntime" in joined.checked
    assert tensors(joined.inputs) == NCHW
    wired = controller.wire("onnx")
    assert (wired.inputs[0].layout, wired.own_inputs[0].layout) == ("NHWC", "NCHW")
    assert wired.own_inputs[0].shape == (1, 3, 6, 6)
    assert wired.own_outputs == ()


@pytest.mark.parametrize(
    ("file", "precision", "takes"),
    [("nhwc", "fp32", NHWC), ("fixed", "fp32", NCHW), ("free", "fp32", NCHW),
     ("fp16", "fp16", NHWC), ("int8", "int8", NHWC), ("uint8", "int8", NHWC)],
)  # fmt: skip
def test_a_tflite_file_joins_an_onnx_model(
    controller: Controller, tmp_path: Path, file: str, precision: str, takes: Any
) -> None:
    controller.lists("tflite")
    controller.add(write_onnx(tmp_path / "small.onnx"))
    joined = artifact(controller.add(TFLITE / f"{file}.tflite"), "tflite")
    assert joined.checked.startswith("checked: ")
    assert (f"{precision} file" in joined.checked) == (precision != "fp32")
    assert tensors(joined.inputs) == takes
    assert tensors(joined.outputs) == [("y", "float32", [1, 5], "")]


def other_weights(path: Path, source: Path) -> Path:
    """The same shapes and names, another last layer."""
    model = onnx.load(str(source))
    dense = next(i for i in model.graph.initializer if i.name == "dense")
    turned = numpy_helper.to_array(dense)[::-1].copy()
    dense.CopyFrom(numpy_helper.from_array(turned, "dense"))
    onnx.save(model, str(path))
    return path


def test_another_network_of_the_same_shapes_is_refused(
    controller: Controller, tmp_path: Path
) -> None:
    controller.lists("tflite")
    controller.add(TFLITE / "nhwc.tflite")
    other = other_weights(tmp_path / "small.onnx", write_onnx(tmp_path / "right.onnx"))
    message = controller.refused(other)
    assert message.startswith("small.onnx: it is not the same network as model 'small': output y")
    assert "on the model's own reference inputs, for a file in fp32: " in message
    assert "relative error" in message or "cosine" in message
    assert "--name" in message


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("two", "it has the inputs b, a; the model has x"),
        ("picture", "output y is [1, 4, 4, 4] (layout NHWC); the model's y is [1, 5]"),
        ("lookup", "input ids is [1, 4] (layout unknown); the model's x is [1, 3, 6, 6]"),
    ],
)
def test_a_file_of_other_shapes_is_refused(
    controller: Controller, tmp_path: Path, file: str, says: str
) -> None:
    controller.lists("tflite")
    controller.add(write_onnx(tmp_path / "small.onnx"))
    assert says in controller.refused(TFLITE / f"{file}.tflite")


def test_a_layout_that_nothing_tells_is_not_guessed(controller: Controller, tmp_path: Path) -> None:
    """Through Softmax no layout is followed: the shapes alone would suggest a transposition."""
    model = onnx.load(str(write_onnx(tmp_path / "plain.onnx")))
    model.graph.node[0].input[0] = "s"
    model.graph.node.insert(0, onnx.helper.make_node("Softmax", ["x"], ["s"], axis=1))
    onnx.save(model, str(tmp_path / "small.onnx"))
    controller.lists("tflite")
    controller.add(TFLITE / "nhwc.tflite")
    assert "that is not guessed" in controller.refused(tmp_path / "small.onnx")


def test_without_its_runtime_a_file_makes_no_model_and_joins_unchecked(
    controller: Controller, tmp_path: Path
) -> None:
    remedy = f"`benchfarm-agent runtimes add tflite --state-dir {controller.state_dir}`"
    message = controller.refused(TFLITE / "nhwc.tflite")
    assert message == f"nhwc.tflite: no tflite runtime on the controller: add one with {remedy}"
    controller.add(write_onnx(tmp_path / "small.onnx"))
    joined = artifact(controller.add(TFLITE / "nhwc.tflite"), "tflite")
    assert joined.checked == f"not checked: {message.split(': ', 1)[1]}"
    assert (joined.inputs, controller.wire("tflite").own_inputs) == ([], ())
    controller.lists("tflite")
    again = artifact(controller.add(TFLITE / "nhwc.tflite"), "tflite")
    assert again.checked.startswith("checked: ")
    assert tensors(again.inputs) == NHWC
    assert controller.kit.rows()["artifacts"] == 2


def test_a_file_that_only_its_accelerator_runs_joins_unchecked(
    controller: Controller, tmp_path: Path
) -> None:
    assert "register the file that it was made of" in controller.refused(TFLITE / "edgetpu.tflite")
    controller.add(write_onnx(tmp_path / "small.onnx"))
    joined = artifact(controller.add(TFLITE / "edgetpu.tflite"), "edgetpu_tflite")
    assert joined.checked.startswith("not checked: nothing but its accelerator")


def test_an_operator_that_the_runtime_lacks_leaves_a_file_unchecked(
    controller: Controller, tmp_path: Path
) -> None:
    controller.lists("tflite")
    message = controller.refused(TFLITE / "custom.tflite")
    assert "operator Frobnicate" in message
    controller.add(write_onnx(tmp_path / "small.onnx"))
    joined = artifact(controller.add(TFLITE / "custom.tflite"), "tflite")
    assert joined.checked.startswith("not checked: ")
    assert "Frobnicate" in joined.checked


def test_a_free_shape_is_asked_for(controller: Controller) -> None:
    controller.lists("tflite")
    free = TFLITE / "free.tflite"
    message = controller.refused(free)
    assert "input 'x' has the free shape [?, 3, 6, 6]; give every dimension a size: " in message
    assert "--shape x=1,3,6,6" in message
    assert "the file declares [?, 3, 6, 6]" in controller.refused(free, shapes={"x": [1, 4, 6, 6]})
    assert "must be 1 or more" in controller.refused(free, shapes={"x": [0, 3, 6, 6]})
    assert "no input 'z'; it has x" in controller.refused(free, shapes={"z": [1]})
    view = controller.add(free, shapes={"x": [1, 3, 6, 6]})
    assert (tensors(view.inputs), view.free_batch) == (NCHW, True)
    four = controller.add(free, "four", shapes={"x": [4, 3, 6, 6]})
    assert (four.inputs[0]["shape"], four.outputs[0]["shape"]) == ([4, 3, 6, 6], [4, 5])
    assert not four.free_batch


def test_a_quantised_file_makes_a_model_of_real_values(
    controller: Controller, tmp_path: Path
) -> None:
    """What joins it need be no closer than its own rounding allows."""
    controller.lists("tflite")
    view = controller.add(TFLITE / "uint8.tflite")
    assert tensors(view.inputs) == NHWC
    assert view.details["precision"] == "int8"
    assert view.reference.endswith("int8 file")
    assert artifact(controller.add(write_onnx(tmp_path / "s.onnx")), "onnx").checked.startswith(
        "checked: "
    )


def dataset(path: Path, shape: tuple[int, ...]) -> Path:
    x = np.random.RandomState(11).standard_normal((30, *shape)).astype(np.float32)
    seen = x if shape == (3, 6, 6) else x.transpose(0, 3, 1, 2)
    labels = expected(seen.reshape(30, 3, 6, 6)).argmax(axis=1)
    np.savez(path, inputs=x, labels=labels, calibration=x[:20])
    return path


def test_a_data_set_goes_with_the_models_own_layout(controller: Controller, tmp_path: Path) -> None:
    controller.lists("tflite")

    def bound(shape: tuple[int, ...]) -> dict[str, str]:
        made = dataset(tmp_path / "d.npz", shape)
        return {
            "dataset_name": "d.npz",
            "dataset_sha256": controller.kit.farm.blobs.put_file(made),
        }

    wrong = bound((3, 6, 6))
    with pytest.raises(UserError, match=r"d\.npz: inputs: one sample is"):
        controller.add(TFLITE / "nhwc.tflite", **wrong)
    assert controller.kit.blobs() == set()
    view = controller.add(TFLITE / "nhwc.tflite", **bound((6, 6, 3)))
    assert (view.dataset, view.reference_top1) == ("d.npz", 1.0)


def test_an_exported_program_makes_a_model(
    controller: Controller, programs: tuple[Path, Path]
) -> None:
    free, fixed = programs
    controller.lists("pytorch")
    assert "--shape picture=1,3,6,6" in controller.refused(free)
    view = controller.add(fixed)
    assert tensors(view.inputs) == [("picture", "float32", [1, 3, 6, 6], "NCHW")]
    assert view.reference == f"pytorch {facts_of('pytorch').version}, eager"
    reference = controller.reference()
    (output,) = (name for name in reference if name.startswith("output:"))
    for x, y in zip(reference["input:picture"], reference[output], strict=True):
        np.testing.assert_allclose(y, expected(x), atol=1e-4)
    assert controller.add(free, "free", shapes={"picture": [1, 3, 6, 6]}).free_batch


def test_every_format_joins_an_exported_program(
    controller: Controller, programs: tuple[Path, Path], tmp_path: Path
) -> None:
    controller.lists("pytorch", "tflite")
    controller.add(programs[1])
    controller.add(write_onnx(tmp_path / "small.onnx"))
    view = controller.add(TFLITE / "nhwc.tflite")
    assert [a.checked.split(":")[0] for a in view.artifacts] == [
        "gave the reference", "checked", "checked",
    ]  # fmt: skip
    wired = controller.wire("tflite")
    assert [s.name for s in wired.inputs] == ["picture"]
    assert [(s.name, s.layout) for s in wired.own_inputs] == [("x", "NHWC")]
    assert [s.name for s in wired.own_outputs] == ["y"]


def test_an_exported_program_joins_an_onnx_model(
    controller: Controller, programs: tuple[Path, Path], tmp_path: Path
) -> None:
    controller.lists("pytorch")
    controller.add(write_onnx(tmp_path / "small.onnx"))
    joined = artifact(controller.add(programs[0]), "pt2")
    assert joined.checked.startswith("checked: ")
    assert tensors(joined.inputs) == [("picture", "float32", [1, 3, 6, 6], "NCHW")]


def test_inputs_are_paired_by_name_not_by_order(controller: Controller, tmp_path: Path) -> None:
    """The TFLite file takes (b, a), and a - b tells them apart."""
    controller.lists("tflite")
    controller.add(write_two(tmp_path / "two.onnx"), "two")
    joined = artifact(controller.add(TFLITE / "two.tflite", "two"), "tflite")
    assert joined.checked.startswith("checked: ")
    assert [i["name"] for i in joined.inputs] == ["a", "b"]


def test_a_source_that_gives_no_numbers_is_refused(controller: Controller, tmp_path: Path) -> None:
    node = onnx.helper.make_node("Log", ["x"], ["y"])
    value, out = (
        [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 9])] for n in "xy"
    )
    graph = onnx.helper.make_graph([node], "g", value, out)
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.save(model, str(tmp_path / "log.onnx"))
    assert "output y holds NaN or infinity" in controller.refused(tmp_path / "log.onnx")


def picture_onnx(path: Path, weight: Any = KERNEL) -> Path:
    """The convolution alone, on NCHW: its output is an image too."""
    nodes = [
        onnx.helper.make_node("Conv", ["x", "kernel", "bias"], ["c"]),
        onnx.helper.make_node("Relu", ["c"], ["y"]),
    ]
    value, out = (
        [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, shape)]
        for n, shape in (("x", [1, 3, 6, 6]), ("y", [1, 4, 4, 4]))
    )
    model = onnx_files.model(nodes, value, out, {"kernel": weight, "bias": BIAS})
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("first", ["onnx", "tflite"])
def test_output_images_are_followed_into_the_models_layout(
    controller: Controller, tmp_path: Path, first: str
) -> None:
    """Their shape is the same in both layouts: only what is known of them tells."""
    controller.lists("tflite")
    both = [picture_onnx(tmp_path / "p.onnx"), TFLITE / "picture.tflite"]
    view = controller.add(both[first == "tflite"], "picture")
    assert tensors(view.outputs)[0][3] == ("NCHW" if first == "onnx" else "NHWC")
    view = controller.add(both[first == "onnx"], "picture")
    assert view.artifacts[1].checked.startswith("checked: as the reference's, cosine 1.0000")
    wired = controller.wire(view.artifacts[1].format, "picture")
    assert {wired.outputs[0].layout, wired.own_outputs[0].layout} == {"NCHW", "NHWC"}


def test_integer_inputs_and_several_outputs_make_models_too(controller: Controller) -> None:
    controller.lists("tflite")
    view = controller.add(TFLITE / "lookup.tflite", "lookup")
    assert tensors(view.inputs) == [("ids", "int32", [1, 4], "")]
    view = controller.add(TFLITE / "two.tflite", "two")
    assert [s["name"] for s in (*view.inputs, *view.outputs)] == ["b", "a", "add", "sub"]
