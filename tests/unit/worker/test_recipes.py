"""What is installed for what was asked."""

from __future__ import annotations

import pytest

from agent.runtimes import registry
from agent.runtimes.manifest import Recipe, Runtime
from agent.worker.environments.recipes import is_default, parse
from agent.worker.errors import BadInput


def test_with_no_version_the_tested_one_is_taken_with_its_tested_company() -> None:
    wanted = parse("openvino")
    assert wanted.label == "openvino==2026.4.1"
    assert wanted.steps == (("openvino==2026.4.1", "nncf==3.4.0", "onnx==1.23.2", "numpy==2.4.6"),)


def test_beside_another_version_tested_pins_float() -> None:
    assert parse("openvino==2026.2.0").steps == (("openvino==2026.2.0", "nncf", "onnx", "numpy"),)


def test_older_versions_have_what_goes_with_them() -> None:
    (step,) = parse("openvino==2025.4.1").steps
    assert step == ("openvino==2025.4.1", "nncf", "onnx", "numpy", "nncf<3")


def test_what_holds_beside_every_version_stays() -> None:
    assert "numpy<2" in parse("tflite@tflite-runtime==2.13.0").steps[0]
    for text in ("tvm", "tvm==0.26.0"):
        assert "apache-tvm-ffi==0.1.14.post1" in parse(text).steps[0]


def test_torch_comes_first_and_alone() -> None:
    first, second = parse("pytorch").steps
    assert first == ("torch==2.13.0",)
    assert second[0] == "torch==2.13.0"


def test_what_is_linked_to_torch_has_that_torch_before_it() -> None:
    for text in ("executorch", "executorch==1.4.1"):
        first, second = parse(text).steps
        assert first == ("torch==2.13.0",)
        assert second[0].startswith("executorch==")


def test_pnnx_is_installed_last_and_bare() -> None:
    wanted = parse("ncnn")
    assert wanted.steps == (("ncnn==1.0.20261020", "numpy==2.4.6"), ("pnnx==20261020",))
    assert wanted.bare == wanted.steps[-1]
    assert parse("ncnn==1.0.20260526").steps[-1] == ("pnnx",)


@pytest.mark.parametrize(
    ("text", "has"),
    [("pytorch", True), ("pytorch@litert", True), ("executorch", True), ("ncnn", False)],
)
def test_it_is_known_what_brings_torch(text: str, has: bool) -> None:
    assert parse(text).has_torch is has


def test_variants_are_versions_of_one_backend() -> None:
    assert parse("tflite").main == "ai-edge-litert==2.3.0"
    assert parse("tflite@tflite-runtime").main == "tflite-runtime==2.14.0"
    assert parse("tflite==2.14.0").main == "tflite-runtime==2.14.0"
    assert parse("tflite==2.14").label == "tflite@tflite-runtime==2.14"
    assert parse("tflite==2.1.0").main == "ai-edge-litert==2.1.0"
    variants = [recipe.variant for recipe in registry.RUNTIMES["tflite"].recipes]
    assert [variant for variant in variants if is_default("tflite", variant)] == ["litert"]


def test_a_board_of_another_architecture_has_other_packages() -> None:
    assert parse("tensorflow", "x86_64").main == "tensorflow-cpu==2.21.0"
    assert parse("tensorflow", "aarch64").main == "tensorflow==2.21.0"


def test_tensorflow_comes_with_what_its_converters_need() -> None:
    (step,) = parse("tensorflow", "x86_64").steps
    assert step == ("tensorflow-cpu==2.21.0", "tf2onnx==1.17.0", "onnx==1.23.2", "numpy==2.4.6")
    (older,) = parse("tensorflow==2.20.0", "x86_64").steps
    assert older == ("tensorflow-cpu==2.20.0", "tf2onnx", "onnx", "numpy")


@pytest.mark.parametrize(
    ("runtime", "recipe"),
    registry.recipes(),
    ids=[f"{runtime.name}-{recipe.variant}" for runtime, recipe in registry.recipes()],
)
def test_every_recipe_is_read_back_from_its_label(runtime: Runtime, recipe: Recipe) -> None:
    named = runtime.name + (f"@{recipe.variant}" if recipe.variant else "")
    assert parse(parse(named).label).recipe == recipe


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "keras",
            "unknown backend 'keras'; environments can be built for: executorch, ncnn, onnxruntime",
        ),
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
        parse(text)
    assert says in str(refused.value)
