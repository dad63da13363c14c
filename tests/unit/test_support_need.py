"""A missing service skips on a laptop, and fails where it is required."""

from __future__ import annotations

import pytest

from support.need import REQUIRE, need


def test_what_is_there_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REQUIRE, "redis")
    need("redis", True, "never read")


@pytest.mark.parametrize("required", ["", "postgresql,openvino", "redis-cluster"])
def test_what_is_missing_is_skipped_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, required: str
) -> None:
    monkeypatch.setenv(REQUIRE, required)
    with pytest.raises(pytest.skip.Exception, match="needs redis: no redis-server"):
        need("redis", False, "no redis-server on the path")


@pytest.mark.parametrize("required", ["redis", "openvino, redis"])
def test_what_is_missing_fails_where_it_is_required(
    monkeypatch: pytest.MonkeyPatch, required: str
) -> None:
    monkeypatch.setenv(REQUIRE, required)
    with pytest.raises(pytest.fail.Exception, match="redis is required here"):
        need("redis", False, "no redis-server on the path")


@pytest.mark.parametrize(
    ("required", "name"),
    [
        ("runtimes", "tvm"),
        ("redis, runtimes", "tflite@tflite-runtime"),
        ("tflite", "tflite@litert"),
        ("tflite@litert", "tflite@litert"),
    ],
)
def test_runtimes_are_required_one_by_one_or_all_at_once(
    monkeypatch: pytest.MonkeyPatch, required: str, name: str
) -> None:
    monkeypatch.setenv(REQUIRE, required)
    with pytest.raises(pytest.fail.Exception, match=f"{name} is required here"):
        need(name, False, "not built")


@pytest.mark.parametrize(
    ("required", "name"),
    [("runtimes", "tensorrt"), ("runtimes", "redis"), ("tflite@litert", "tflite@tflite-runtime")],
)
def test_what_no_environment_can_be_built_for_is_not_among_the_runtimes(
    monkeypatch: pytest.MonkeyPatch, required: str, name: str
) -> None:
    monkeypatch.setenv(REQUIRE, required)
    with pytest.raises(pytest.skip.Exception, match=f"needs {name}"):
        need(name, False, "not built")
