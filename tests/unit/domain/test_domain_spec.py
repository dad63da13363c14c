"""A sweep's YAML: what is accepted, and what each mistake is answered with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.contract.scenarios import SCENARIO_KINDS
from orchestrator.domain.errors import UserError
from orchestrator.domain.spec import (
    MAX_SPEC_BYTES,
    DeviceChoice,
    LimitsChoice,
    ModelChoice,
    RuntimeChoice,
    ScenarioChoice,
    SweepSpec,
    ToleranceChoice,
    parse,
    parse_with_lines,
    read,
)

*FIRST_KINDS, LAST_KIND = map(repr, SCENARIO_KINDS)


GOOD = "name: s\nmodels: [m]\nruntimes: [{backend: onnxruntime}]\n"


def refused(text: str, source: str = "sweep.yaml") -> str:
    with pytest.raises(UserError) as caught:
        parse(text, source)
    return str(caught.value)


def test_a_scalar_is_a_list_of_one() -> None:
    spec = parse(
        "name: s\nmodels: m\nbatch_size: 4\nruntimes:\n"
        "  - {backend: b, precision: int8, threads: [1, 2], options: {hint: latency}}\n",
        "f",
    )
    assert spec.models == [ModelChoice(name="m")]
    assert spec.batch_size == [4]
    assert spec.runtimes[0].precision == ["int8"]
    assert spec.runtimes[0].threads == [1, 2]
    assert spec.runtimes[0].options == {"hint": ["latency"]}


def test_the_name_given_beside_the_file_wins() -> None:
    assert parse(GOOD, "f", "other").name == "other"
    assert parse(GOOD.replace("name: s\n", ""), "f", "other").name == "other"


def test_a_spec_survives_being_stored_as_json() -> None:
    """Reports read it back from the database's JSON, under the same strict types."""
    spec = parse(
        GOOD + "tolerance: {int8: {min_cosine: 1, max_top1_drop: 0}}\nscenario: {percentile: 99}\n"
        "limits: {trial_s: 60}\ndevices: {names: [a], select: {class: x}}\n",
        "f",
    )
    assert SweepSpec.model_validate(json.loads(json.dumps(spec.model_dump(mode="json")))) == spec


@pytest.mark.parametrize(
    ("more", "key", "model"),
    [
        ("trails: 3\n", "trails", SweepSpec),
        ("scenario: {min_sample: 3}\n", "scenario.min_sample", ScenarioChoice),
        ("limits: {memory: 3}\n", "limits.memory", LimitsChoice),
        ("devices: {name: a}\n", "devices.name", DeviceChoice),
        ("tolerance: {int8: {cosine: 1}}\n", "tolerance.int8.cosine", ToleranceChoice),
    ],
)
def test_an_unknown_key_is_named_with_what_is_accepted_there(
    more: str, key: str, model: type[SweepSpec]
) -> None:
    message = refused(GOOD + more)
    assert f"sweep.yaml:4: unknown key {key!r}" in message
    assert message.endswith(f"; accepted here: {', '.join(model.model_fields)}")


@pytest.mark.parametrize(
    ("text", "key", "model"),
    [
        (
            "name: s\nmodels: [m]\nruntimes: [{backend: a}, {backend: b, precison: fp32}]\n",
            "runtimes.1.precison",
            RuntimeChoice,
        ),
        (
            "name: s\nmodels: [{name: m, calibrate: random}]\nruntimes: [{backend: b}]\n",
            "models.0.calibrate",
            ModelChoice,
        ),
    ],
)
def test_an_unknown_key_in_a_list_is_named_with_its_index(
    text: str, key: str, model: type[RuntimeChoice]
) -> None:
    message = refused(text)
    assert f"unknown key {key!r} (did you mean" in message
    assert f"; accepted here: {', '.join(model.model_fields)}" in message


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("trials: 0\n", "trials: Input should be greater than or equal to 1 (found 0)"),
        ("trials: true\n", "trials: Input should be a valid integer (found True)"),
        ("trials: '3'\n", "trials: Input should be a valid integer (found '3')"),
        ("batch_size: [1, 0]\n", "batch_size.1: "),
        ("batch_size: []\n", "batch_size: "),
        ("limits: {convert_s: .inf}\n", "limits.convert_s: "),
        ("limits: {trial_s: .nan}\n", "limits.trial_s: "),
        ("scenario: {min_duration_s: 9, max_duration_s: 3}\n", "scenario: min_duration_s 9 is"),
        ("baseline: {threads: [2]}\n", "baseline.threads: "),
        ("scenario: {percentile: 100}\n", "scenario.percentile: "),
        ("scenario: {kind: server}\n", f"Input should be {', '.join(FIRST_KINDS)} or {LAST_KIND}"),
        ("devices: {names: [a b]}\n", "devices.names.0: "),
        ("devices: {select: {rack: [2]}}\n", "devices.select.rack: "),
        ("tolerance: {int9: {min_cosine: 1, max_top1_drop: 0}}\n", "'fp32', 'fp16', 'bf16'"),
        ("baseline: {backnd: openvino}\n", "accepted: device, backend, version"),
        ("seed: 1.5\n", "seed: "),
        ("1: 2\n", "unknown key '1'; accepted here: name, models, "),
        ("trials: 0x" + "f" * 5000 + "\n", "'0xffffffff"),
    ],
)
def test_a_wrong_value_is_named_with_file_key_and_what_was_found(more: str, says: str) -> None:
    message = refused(GOOD + more)
    assert message.startswith("sweep.yaml:4: ")
    assert says in message


@pytest.mark.parametrize(
    ("runtime", "says"),
    [
        ("{backend: b, precision: [fp32, int9]}", "runtimes.0.precision.1: "),
        ("{backend: b, threads: -1}", "runtimes.0.threads.0: "),
        ("{backend: b, version: 1.20}", "runtimes.0.version.0: quote it: without quotes"),
        ("{backend: b, version: []}", "runtimes.0.version: "),
        ("{backend: b, version: null}", "runtimes.0.version.0: "),
        ("{backend: b, runtime: b}", "two names of one key"),
        ("{backend: b==}", "b==: a version is missing after =="),
        ("{backend: b==1, version: '2'}", "the version is given twice"),
        ("{runtime: [b==1, c==1]}", "one backend an entry"),
        ("{runtime: []}", "runtimes.0.backend: "),
        ('{backend: b, version: "1\\0"}', "runtimes.0.version.0: "),
        ('{backend: b, target: "CPU\\e[31m"}', "runtimes.0.target.0: "),
        ('{backend: b, target: "\\ud800"}', "runtimes.0.target.0: "),
        ("{backend: b, options: {x: [.nan]}}", "runtimes.0.options.x.0"),
        ("{backend: b, options: {x: [[1]]}}", "runtimes.0.options.x.0"),
        ("{backend: b, options: {x: []}}", "runtimes.0.options.x: "),
        ("{precision: fp32}", "key 'runtimes.0.backend' is missing"),
        ("{backend: ../etc}", "runtimes.0.backend: "),
        ("onnxruntime", "runtimes.0: "),
    ],
)
def test_a_wrong_runtime_is_named_with_its_place_in_the_list(runtime: str, says: str) -> None:
    assert says in refused(f"name: s\nmodels: [m]\nruntimes: [{runtime}]\n")


@pytest.mark.parametrize("name", ["''", "-a", "a b", "a/b", "é", "a" * 64, "null", "3"])
def test_a_bad_name_is_refused(name: str) -> None:
    assert "sweep.yaml:1: name: " in refused(GOOD.replace("name: s", f"name: {name}"))


@pytest.mark.parametrize("key", ["name", "models", "runtimes"])
def test_a_missing_key_is_named(key: str) -> None:
    text = "".join(line for line in GOOD.splitlines(keepends=True) if not line.startswith(key))
    assert refused(text) == f"sweep.yaml:1: key {key!r} is missing"


@pytest.mark.parametrize("text", ["", "a", "- a", "null", "42"])
def test_a_document_that_is_no_mapping_is_refused(text: str) -> None:
    assert "expected a mapping" in refused(text)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("name: [", 1, "not YAML: "),
        ("name: s\nmodels: [m\nruntimes: []\n", 3, "not YAML: "),
        ("a: b: c", 1, "not YAML: "),
        ("\x00", 1, "not YAML: "),
        ("? {a: b}\n: 2", 1, "a key must be a plain word"),
        ("!!python/object/apply:os.system [true]", 1, "not YAML: tags (!!name) are not accepted"),
        (GOOD + "seed: !!python/name:os.system x", 4, "seed: 'x' cannot be read: "),
        ("[" * 20_000, 1, "not YAML: nested too deeply"),
        ("{a: " * 20_000, 1, "not YAML: nested too deeply"),
        # values that YAML's own readers stumble over
        (GOOD + "seed: 2025-99-99", 4, "seed: '2025-99-99' cannot be read: "),
        (GOOD + "seed: 0b_", 4, "seed: '0b_' cannot be read: "),
        (GOOD + "seed: !!bool maybe", 4, "seed: 'maybe' cannot be read: "),
        (GOOD + "seed: !!timestamp soon", 4, "seed: 'soon' cannot be read: "),
        (GOOD + "seed: " + "9" * 5000, 4, "cannot be read: "),
    ],
)
def test_what_is_not_yaml_is_named_by_its_line(text: str, line: int, says: str) -> None:
    message = refused(text)
    assert message.startswith(f"sweep.yaml:{line}: ")
    assert says in message
    assert len(message) < 300


ENTRIES = """\
name: s
models: [m]
runtimes:
  - backend: onnxruntime
  - backend: openvino
    precision:
      - fp32
      - int9
    thread: 2
scenario:
  warm_up_s: long
"""


@pytest.mark.parametrize(
    ("was", "becomes", "line", "says"),
    [
        ("thread: 2", "thread: 2", 9, "unknown key 'runtimes.1.thread' (did you mean 'threads'?)"),
        ("thread: 2", "threads: -2", 8, "runtimes.1.precision.1: Input should be 'fp32', "),
        ("thread: 2", "options:\n      hint: [a, [b]]", 10, "runtimes.1.options.hint.1: "),
        ("thread: 2", "precision: fp16", 9, "key 'runtimes.1.precision' is given twice, first on"),
        ("long", "&anchor long", 11, "scenario.warm_up_s: Input should be a valid number"),
        ("long", "&anchor\n    - long", 11, "scenario.warm_up_s: Input should be a valid number"),
        ("long", "&a 1\n  percentile: *a", 12, "not YAML: aliases (*name) are not accepted"),
        ("onnxruntime", "&a onnxruntime==", 4, "runtimes.0: onnxruntime==: a version is missing"),
        ("  - backend: onnxruntime", "  - target: CPU", 4, "key 'runtimes.0.backend' is missing"),
        ("[m]", "[m, {name: m,\n  calibrate: x}]", 3, "unknown key 'models.1.calibrate'"),
    ],
)
def test_a_mistake_is_named_by_its_line(was: str, becomes: str, line: int, says: str) -> None:
    assert was in ENTRIES
    messages = refused(ENTRIES.replace(was, becomes)).splitlines()
    assert [m for m in messages if m.startswith(f"sweep.yaml:{line}: {says}")], messages


def test_all_mistakes_are_listed_in_the_order_of_the_file() -> None:
    found = refused(ENTRIES).splitlines()
    assert [int(message.split(":")[1]) for message in found] == [8, 9, 11]


def test_the_place_of_a_key_is_told_for_messages_that_others_write() -> None:
    found = parse_with_lines("name: s\nmodels:\n  - m\nruntimes: [{backend: b}]\n", "sweep.yaml")
    assert found.where("models", 0) == "sweep.yaml:3"
    assert found.where("devices", "names") == "sweep.yaml:1"
    assert found.value.models == [ModelChoice(name="m")]


@pytest.mark.parametrize("text", [GOOD + "name: t\n", GOOD + "limits: {trial_s: 1, trial_s: 2}\n"])
def test_a_key_given_twice_is_refused(text: str) -> None:
    """YAML alone would let the last one win and say nothing."""
    assert "is given twice, first on line" in refused(text)


def _levels(first: str, wrap: str, count: int = 9) -> str:
    lines = [f"l0: &l0 {first}"]
    lines += [f"l{i}: &l{i} {wrap.format(','.join([f'*l{i - 1}'] * 10))}" for i in range(1, count)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "bomb",
    [
        _levels("[x, x]", "[{}]") + "\n" + GOOD.replace("[m]", "*l8"),
        _levels("{k: v}", "{{<<: [{}]}}") + "\n" + GOOD,
        "m: &m [0, 1]\n" + GOOD.replace("[m]", "[" + "*m," * 10_000 + "]"),
        "a: &a [*a]\n" + GOOD,
    ],
    ids=["nested lists", "merged mappings", "many references", "a list that holds itself"],
)
def test_aliases_cannot_blow_a_file_up(bomb: str) -> None:
    assert len(bomb) < MAX_SPEC_BYTES
    assert "aliases" in refused(bomb)


def test_a_file_may_be_so_long_and_no_longer() -> None:
    at_limit = GOOD + "#" * (MAX_SPEC_BYTES - len(GOOD))
    assert parse(at_limit, "f").name == "s"
    assert "256 KiB" in refused(at_limit + "#")
    assert "256 KiB" in refused(GOOD + "#" + "é" * (MAX_SPEC_BYTES // 2))


def test_long_values_and_keys_are_cut_in_the_message() -> None:
    assert len(refused(GOOD + f"trials: {'x' * 100_000}\n")) < 300
    assert len(refused(GOOD + f"{'x' * 1000}: 1\n")) < 400
    assert len(refused(GOOD + f"? {'x' * 100_000}\n: 1\n")) < 400


def test_few_mistakes_of_many_are_told() -> None:
    text = "name: s\nmodels: [m]\nruntimes: [" + "{backnd: b}," * 500 + "]\n"
    *told, last = refused(text).splitlines()
    assert len(told) == 20
    assert last == "sweep.yaml: and 980 more mistakes"


def test_reading_a_file_names_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    with pytest.raises(UserError, match=r"mine\.yaml: cannot be read: No such file"):
        read(path)
    path.write_bytes(b"name: \xff\n")
    with pytest.raises(UserError, match=r"mine\.yaml: not UTF-8"):
        read(path)
    path.write_text(GOOD, encoding="utf-8")
    assert read(path) == (parse(GOOD, "f"), GOOD)
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path)


def test_a_tolerance_of_one_precision_leaves_the_others_default() -> None:
    spec = parse(GOOD + "tolerance: {int8: {min_cosine: 0.5, max_top1_drop: 0.2}}\n", "f")
    assert spec.tolerance_for("int8").min_cosine == 0.5
    assert spec.tolerance_for("fp32") == parse(GOOD, "f").tolerance_for("fp32")


@pytest.mark.parametrize(
    "runtime",
    [
        "{runtime: [openvino==2026.4.1, openvino==2025.4.1]}",
        "{backend: [openvino==2026.4.1, openvino==2025.4.1]}",
        "{backend: openvino, version: [2026.4.1, 2025.4.1]}",
    ],
)
def test_versions_are_a_dimension(runtime: str) -> None:
    spec = parse(f"name: s\nmodels: [m]\nruntimes: [{runtime}]\n", "sweep.yaml")
    assert spec.runtimes[0].backend == "openvino"
    assert spec.runtimes[0].version == ["2026.4.1", "2025.4.1"]


def test_a_backend_may_be_pinned_in_its_name() -> None:
    spec = parse("name: s\nmodels: [m]\nruntimes: [{backend: b==1.2}, {backend: b}]\n", "f")
    assert [r.version for r in spec.runtimes] == [["1.2"], [""]]
