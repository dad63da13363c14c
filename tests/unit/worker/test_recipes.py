"""What is installed for what was asked."""

from __future__ import annotations

import pytest

from agent.worker.errors import BadInput
from agent.worker.recipes import RECIPES, Recipe, is_first, read


def test_with_no_version_the_tested_one_is_taken_with_its_tested_company() -> None:
    order = read("openvino")
    assert order.label == "openvino==2026.4.1"
    assert order.steps == (("openvino==2026.4.1", "nncf==3.4.0", "onnx==1.23.2", "numpy==2.4.6"),)


def test_beside_another_version_tested_pins_float() -> None:
    assert read("openvino==2026.2.0").steps == (("openvino==2026.2.0", "nncf", "onnx", "numpy"),)


def test_older_versions_have_what_goes_with_them() -> None:
    (step,) = read("openvino==2025.4.1").steps
    assert step == ("openvino==2025.4.1", "nncf", "onnx", "numpy", "nncf<3")


def test_what_holds_beside_every_version_stays() -> None:
    assert "numpy<2" in read("tflite@tflite-runtime==2.13.0").steps[0]
    for text in ("tvm", "tvm==0.26.0"):
        assert "apache-tvm-ffi==0.1.14.post1" in read(text).steps[0]


def test_torch_comes_first_and_alone() -> None:
    first, second = read("pytorch").steps
    assert first == ("torch==2.13.0",)
    assert second[0] == "torch==2.13.0"


def test_what_is_linked_to_torch_has_that_torch_before_it() -> None:
    for text in ("executorch", "executorch==1.4.1"):
        first, second = read(text).steps
        assert first == ("torch==2.13.0",)
        assert second[0].startswith("executorch==")


def test_pnnx_is_installed_last_and_bare() -> None:
    order = read("ncnn")
    assert order.steps == (("ncnn==1.0.20261020", "numpy==2.4.6"), ("pnnx==20261020",))
    assert order.bare == order.steps[-1]
    assert read("ncnn==1.0.20260526").steps[-1] == ("pnnx",)


@pytest.mark.parametrize(
    ("text", "has"),
    [("pytorch", True), ("pytorch@litert", True), ("executorch", True), ("ncnn", False)],
)
def test_it_is_known_what_brings_torch(text: str, has: bool) -> None:
    assert read(text).has_torch is has


def test_variants_are_versions_of_one_backend() -> None:
    assert read("tflite").main == "ai-edge-litert==2.3.0"
    assert read("tflite@tflite-runtime").main == "tflite-runtime==2.14.0"
    assert read("tflite==2.14.0").main == "tflite-runtime==2.14.0"
    assert read("tflite==2.14").label == "tflite@tflite-runtime==2.14"
    assert read("tflite==2.1.0").main == "ai-edge-litert==2.1.0"
    assert [r.variant for r in RECIPES if r.backend == "tflite" and is_first(r)] == ["litert"]


def test_a_board_of_another_architecture_has_other_packages() -> None:
    assert read("tensorflow", "x86_64").main == "tensorflow-cpu==2.21.0"
    assert read("tensorflow", "aarch64").main == "tensorflow==2.21.0"


def test_tensorflow_comes_with_what_its_converters_need() -> None:
    (step,) = read("tensorflow", "x86_64").steps
    assert step == ("tensorflow-cpu==2.21.0", "tf2onnx==1.17.0", "onnx==1.23.2", "numpy==2.4.6")
    (older,) = read("tensorflow==2.20.0", "x86_64").steps
    assert older == ("tensorflow-cpu==2.20.0", "tf2onnx", "onnx", "numpy")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: f"{r.backend}-{r.variant}")
def test_every_recipe_is_read_back_from_its_label(recipe: Recipe) -> None:
    named = recipe.backend + (f"@{recipe.variant}" if recipe.variant else "")
    assert read(read(named).label).recipe == recipe


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("keras", "unknown backend 'keras'; environments can be built for: onnxruntime, openvino"),
        ("tflite@other", "no variant 'other'; it has: litert, tflite-runtime"),
        ("openvino@x", "openvino has no variant 'x'; it has: none"),
        ("openvino>=2025", "expected NAME, NAME==VERSION or NAME@VARIANT==VERSION"),
        ("openvino==", "expected NAME"),
        ("openvino==2025.*", "expected NAME"),
        ("openvino==1 --index-url=x", "expected NAME"),
        ("--index-url", "unknown backend"),
        ("", "expected NAME"),
        ("pycoral", "another project and is never installed"),
        ("pycoral==2.0.0", "never installed"),
        ("tensorrt==10.9", "come from NVIDIA"),
        ("edgetpu", "libedgetpu1-std"),
    ],
)
def test_what_cannot_be_built_is_refused_with_what_to_do(text: str, says: str) -> None:
    with pytest.raises(BadInput) as refused:
        read(text)
    assert says in str(refused.value)
