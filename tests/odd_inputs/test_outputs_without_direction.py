"""Outputs that are right or wrong, and references that prove nothing, in a sweep."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper, save

from orchestrator.client import Client
from orchestrator.client_file import read_client_file
from orchestrator.report.schema import CellRow, SweepReport
from support.cli import Shell

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
NODE = helper.make_node
SWEEP = """
name: directionless
models: [{models}]
runtimes: [{{backend: onnxruntime, precision: [fp32, int8]}}]
trials: 1
scenario: {{min_duration_s: 0.02, max_duration_s: 0.1, warm_up_s: 0.02, min_samples: 11}}
"""


def network(
    nodes: list[Any], shape: list[int], outputs: list[tuple[str, int, list[int]]], **constants: Any
) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [helper.make_tensor_value_info(*output) for output in outputs],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


RANDOM = np.random.RandomState(0)
WEIGHTS = (RANDOM.standard_normal((16, 1000)) * 0.01).astype(np.float32)
# one class is always far below: in 8 bits the others become equal
BIAS = np.where(np.arange(1000) == 0, -1000, 0).astype(np.float32)
SAMPLES = RANDOM.standard_normal((32, 16)).astype(np.float32)


def networks() -> dict[str, ModelProto]:
    weights, bias = WEIGHTS, BIAS
    near = 990 + np.arange(10, dtype=np.int64)
    return {
        "numbers": network(
            [
                NODE("Gemm", ["x", "w", "b"], ["s"]),
                NODE("ArgMax", ["s"], ["c"], axis=1, keepdims=0),
            ],
            [16, 16],
            [("c", INT64, [16])],
            w=weights,
            b=bias,
        ),
        "label-first": network(
            [
                NODE("Gemm", ["x", "w", "b"], ["s"]),
                NODE("ArgMax", ["s"], ["c"], axis=1, keepdims=0),
            ],
            [16, 16],
            [("c", INT64, [16]), ("s", FLOAT, [16, 10])],
            w=weights[:, :10],
            b=bias[:10],
        ),
        # class numbers that lie close together: their cosine is 1 whatever they are
        "named": network(
            [
                NODE("Gemm", ["x", "w", "b"], ["s"]),
                NODE("ArgMax", ["s"], ["c"], axis=1, keepdims=0),
                NODE("Gather", ["names", "c"], ["name"]),
            ],
            [16, 16],
            [("name", INT64, [16])],
            w=weights[:, :10] * 0.01,
            b=bias[:10],
            names=near,
        ),
        "constant": network(
            [
                NODE("Gemm", ["x", "w"], ["s"]),
                NODE("Mul", ["s", "zero"], ["z"]),
                NODE("Add", ["z", "b"], ["y"]),
            ],
            [1, 16],
            [("y", FLOAT, [1, 4])],
            w=weights[:, :4],
            zero=np.zeros(4, np.float32),
            b=np.array([0.5, 1.5, 2.5, 3.5], np.float32),
        ),
        "single": network(
            [NODE("Gemm", ["x", "w", "b"], ["y"])],
            [1, 16],
            [("y", FLOAT, [1, 1])],
            w=weights[:, :1],
            b=np.array([2.25], np.float32),
        ),
    }


@pytest.fixture(scope="module")
def report(farm_shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> SweepReport:
    folder = tmp_path_factory.mktemp("outputs")
    known = read_client_file(farm_shell.home / "client.json")
    names = []
    data = folder / "labelled.npz"
    labels = (SAMPLES @ WEIGHTS[:, :10] + BIAS[:10]).argmax(axis=1)
    np.savez(data, inputs=SAMPLES, labels=labels, calibration=SAMPLES)
    with Client(known["url"], known["token"]) as farm:
        for name, model in networks().items():
            path = folder / f"direction-{name}.onnx"
            save(model, str(path))
            farm.add_model(path, dataset=data if name == "label-first" else None)
            names.append(f"{{name: direction-{name}, calibration: random}}")
    sweep = folder / "sweep.yaml"
    sweep.write_text(SWEEP.format(models=", ".join(names)))
    farm_shell.fine("sweep", "run", sweep)
    with Client(known["url"], known["token"]) as farm:
        return farm.report("directionless")


def cell(report: SweepReport, model: str, precision: str) -> CellRow:
    return next(
        r for r in report.rows if (r.model, r.precision) == (f"direction-{model}", precision)
    )


@pytest.mark.parametrize("model", ["numbers", "named"])
def test_class_numbers_are_compared_by_equality(report: SweepReport, model: str) -> None:
    right, wrong = cell(report, model, "fp32"), cell(report, model, "int8")
    assert right.fidelity is not None
    assert (right.status, right.fidelity.criterion, right.fidelity.figure, right.fidelity.unit) == (
        "ok",
        "equal",
        100.0,
        "%",
    )
    assert right.fidelity.cosine is None
    assert wrong.status == "failed_fidelity"
    assert wrong.rank is None
    assert wrong.fidelity is not None
    assert (wrong.fidelity.figure or 0.0) < 50.0
    assert "is too far from the FP32 reference: equal values" in wrong.status_note
    assert ", at least 90.62 %" in wrong.status_note


def test_the_accuracy_gate_works_where_the_label_comes_first(report: SweepReport) -> None:
    right, wrong = cell(report, "label-first", "fp32"), cell(report, "label-first", "int8")
    assert (right.status, right.top1, right.accuracy_passed) == ("ok", 1.0, True)
    assert wrong.reference_top1 == 1.0
    assert wrong.top1 is not None
    assert wrong.top1 < 0.5
    assert wrong.accuracy_passed is False
    assert wrong.rank is None
    assert wrong.accuracy_remark is not None
    assert "never predicted" in wrong.accuracy_remark
    assert any("direction-label-first" in n and "never predicted" in n for n in report.notes)


def test_single_values_are_compared_by_relative_error(report: SweepReport) -> None:
    for precision in ("fp32", "int8"):
        found = cell(report, "single", precision)
        assert found.fidelity is not None
        assert (found.fidelity.criterion, found.fidelity.unit) == ("relative_error", "%")
        assert found.status == "ok"


def test_a_reference_that_never_changes_proves_nothing_and_says_so(
    farm_shell: Shell, report: SweepReport
) -> None:
    found = cell(report, "constant", "fp32")
    assert found.fidelity is not None
    assert found.fidelity.notes == (
        "output y: the reference is the same for all 4 inputs, so this proves little",
    )
    assert any("direction-constant" in note and "proves little" in note for note in report.notes)
    shown = " ".join(farm_shell.fine("model", "show", "direction-constant").split())
    assert "no output depends on the inputs" in shown


def test_the_criterion_stands_in_the_table_and_in_the_csv(
    farm_shell: Shell, report: SweepReport
) -> None:
    table = farm_shell.fine("report", "directionless")
    assert "Outputs" in table
    assert "% equal" in table
    csv = farm_shell.fine("report", "directionless", "-o", "csv")
    assert "fidelity_criterion,fidelity_figure,fidelity_unit,fidelity_limit" in csv
    assert ",equal," in csv
