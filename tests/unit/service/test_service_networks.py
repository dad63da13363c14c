"""Graphs of registered models in each format: work counted and network drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.contract.child_jobs import Referenced, ReferenceJob
from agent.contract.trial import TensorSpec
from orchestrator.domain import flops
from orchestrator.domain.errors import UserError
from orchestrator.domain.file_inspection import Question
from orchestrator.domain.network_graph import NetworkGraph
from orchestrator.inspection.child import commands
from orchestrator.service.models import network_graphs, registration
from orchestrator.service.models.registration import NewModel
from orchestrator.service.views import ArtifactView
from support import onnx_files
from support.farms import FarmKit
from support.inspectors import inspect

TFLITE = Path(__file__).parents[2] / "fixtures" / "tflite"


def tflite(name: str, batch: int = 1) -> NetworkGraph:
    return commands.graph(TFLITE / f"{name}.tflite", "tflite", {"x": (batch, 3, 6, 6)})


@pytest.mark.parametrize("name", ["free", "fixed", "nhwc", "fp16", "int8", "uint8"])
def test_the_same_network_costs_the_same_in_every_tflite_form(name: str) -> None:
    """4 × 4 of 4 outputs over 3 × 3 × 3, then 4 × 5; 108 + 4 + 20 parameters, however stored."""
    graph = tflite(name)
    work = flops.count(graph)
    assert work.by_operator == {"CONV_2D": 4 * 4 * 4 * 27, "FULLY_CONNECTED": 20}
    assert work.unknown == {}
    assert graph.parameters == 132


def test_a_tflite_file_that_is_free_is_unknown_at_another_batch() -> None:
    assert flops.count(tflite("free", batch=2)).macs is None


def test_the_options_of_tflite_operators_are_read() -> None:
    convolution = next(n for n in tflite("nhwc").nodes if n.operator == "CONV_2D")
    assert convolution.attributes == {
        "stride": (1, 1), "dilation": (1, 1), "padding": "valid", "activation": "RELU",
    }  # fmt: skip


def test_a_custom_tflite_operator_is_unknown() -> None:
    work = flops.count(tflite("custom"))
    assert work.macs is None
    assert list(work.unknown) == ["Frobnicate"]


def test_a_registered_model_is_counted_and_drawn(sqlite_farm: FarmKit) -> None:
    view = sqlite_farm.add_model("dense")
    work = view.details["work"]
    assert (work["macs"], work["flops"]) == (18, 36)
    assert work["flops_by_operator"] == {"Gemm": 36}
    assert work["not_counted"] == {"Relu": 1}
    svg = network_graphs.svg(sqlite_farm.farm, "dense")
    assert "ONNX opset 17 · 2 operators · 21 parameters · 18 MACs (36 FLOPs)" in svg


def test_a_free_batch_is_counted_at_its_registered_size(sqlite_farm: FarmKit) -> None:
    farm = sqlite_farm.farm
    sha256 = farm.blobs.put(onnx_files.dense_bytes("n"))
    found = registration.add(farm, NewModel("free", "free.onnx", sha256, shapes={"x": [5, 6]}))
    assert found.details["work"]["macs"] == 5 * 18


def test_a_model_from_before_it_was_counted_is_counted_when_shown(sqlite_farm: FarmKit) -> None:
    view = sqlite_farm.add_model("dense")
    told = {key: value for key, value in view.details.items() if key != "work"}
    before = view.model_copy(update={"details": told})
    assert network_graphs.with_work(sqlite_farm.farm, before) == view
    assert network_graphs.with_work(sqlite_farm.farm, view) is view


def test_of_several_artifacts_the_asked_one_is_drawn(sqlite_farm: FarmKit) -> None:
    farm = sqlite_farm.farm
    sqlite_farm.add_model("dense")
    sha256 = farm.blobs.put((TFLITE / "nhwc.tflite").read_bytes())
    registration.add(farm, NewModel("dense", "nhwc.tflite", sha256))
    assert "Gemm" in network_graphs.svg(farm, "dense")
    drawn = network_graphs.svg(farm, "dense", "tflite")
    assert "FULLY_CONNECTED" in drawn
    assert "1.748 k MACs" in drawn
    with pytest.raises(UserError, match=r"'dense' has no pt2; it has onnx, tflite"):
        network_graphs.svg(farm, "dense", "pt2")
    with pytest.raises(UserError, match=r"there is no model 'other'; known: dense"):
        network_graphs.svg(farm, "other")


def test_a_format_without_a_reader_says_which_have_one(sqlite_farm: FarmKit) -> None:
    """A model of exported programs alone: unknown FLOPs with the reason, and no drawing."""
    view = sqlite_farm.add_model("dense")
    pt2 = [replace_format(artifact, "pt2") for artifact in view.artifacts]
    told = {key: value for key, value in view.details.items() if key != "work"}
    alone = view.model_copy(update={"artifacts": pt2, "details": told})
    work = network_graphs.with_work(sqlite_farm.farm, alone).details["work"]
    assert work["flops"] is None
    assert "no graph is read from pt2, only from onnx, tflite" in work["unknown"]["every operator"]


def test_a_tflite_model_is_counted_when_it_is_registered(sqlite_farm: FarmKit) -> None:
    """With a fake reference: this interpreter has none of the runtimes."""

    def played(job: ReferenceJob) -> Referenced:
        path = Path(job.folder) / "reference.npz"
        path.write_bytes(b"the controller reads none")
        inputs = (TensorSpec("x", "float32", (1, 6, 6, 3), "NHWC"),)
        outputs = (TensorSpec("y", "float32", (1, 5), ""),)
        return Referenced(str(path), outputs, "played", inputs=inputs, precision="fp32")

    farm = replace(sqlite_farm.farm, compute_reference=played)
    sha256 = farm.blobs.put((TFLITE / "nhwc.tflite").read_bytes())
    view = registration.add(farm, NewModel("small", "nhwc.tflite", sha256))
    assert view.details["precision"] == "fp32"
    assert view.details["work"]["macs"] == 1748
    assert view.artifacts[0].precision == "fp32"
    assert network_graphs.with_work(farm, view) is view


def test_a_drawing_that_is_none_of_ours_is_refused(sqlite_farm: FarmKit) -> None:
    """An answer that a compromised reader could give."""
    sqlite_farm.add_model("dense")

    def spoilt(question: Question, answer: type[Any]) -> Any:
        drawn = inspect(question, answer)
        return replace(drawn, svg=drawn.svg.replace("</svg>", "<script>x()</script></svg>"))

    farm = replace(sqlite_farm.farm, inspect=spoilt)
    with pytest.raises(UserError, match="no drawing of ours"):
        network_graphs.svg(farm, "dense")


def replace_format(artifact: ArtifactView, form: str) -> ArtifactView:
    return artifact.model_copy(update={"format": form})
