"""Values that YAML 1.1 and 1.2 read differently, limits that limit nothing, names of any length:
refused with file, line, what was found and what to write, by the plan, and over HTTP as well."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.client import Client
from orchestrator.domain.errors import UserError
from orchestrator.settings import Settings
from support.cli import Shell

SPEC = "name: s\nmodels: [m]\nruntimes: [{backend: onnxruntime}]\n"


@pytest.fixture(scope="module")
def client(farm_shell: Shell) -> Iterator[Client]:
    with Client.from_home(Settings(home=farm_shell.home)) as found:
        yield found


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("trials: 010", "s.yaml:4: trials: 010 is 8 in YAML 1.1 and 10 in YAML 1.2; write 8 or 10"),
        ("limits: {trial_s: 1:30}", "s.yaml:4: limits.trial_s: 1:30 is 90 in YAML 1.1"),
        ("scenario: {target_relative_ci: 1e-2}", "1e-2 is text in YAML 1.1 and 0.01 in YAML 1.2"),
        ("batch_size: [1, 1_6]", "s.yaml:4: batch_size.1: 1_6 is 16 in YAML 1.1"),
        ("seed: 0o17", "seed: 0o17 is text in YAML 1.1 and 15 in YAML 1.2; write 15"),
        ("baseline: {device: no}", "baseline.device: no is false in YAML 1.1 and text in"),
        ("baseline: {version: 2026-01-02}", "the date 2026-01-02 in YAML 1.1 and text in YAML 1.2"),
        ("devices: {names: [y]}", "devices.names.0: y is true in YAML 1.1"),
        ("<<: {trials: 3}", "s.yaml:4: merge keys (<<) are not accepted"),
        ("limits: {memory_mib: 8796093022207}", "more than any machine has, so it limits nothing"),
        ("limits: {trial_s: 100000000}", "are 1157 days, so it limits nothing"),
        ("limits: {convert_s: 3000000}", "limits.convert_s: 3e+06 s are 35 days"),
        ("limits: {trial_s: 1}", "s.yaml:4: limits.trial_s: 1 s would end every trial"),
        ("devices: {names: [" + "b" * 80 + "]}", "80 characters long; at most 63 are accepted"),
        ("devices: {names: ['a b']}", "' ' is not accepted; expected letters, digits"),
    ],
)
def test_a_sweep_is_refused_with_line_and_readings(client: Client, more: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        client.plan(f"{SPEC}{more}\n", "s.yaml")
    assert says in str(caught.value)


def test_the_command_line_refuses_the_file_itself(farm_shell: Shell) -> None:
    file = farm_shell.home / "octal.yaml"
    file.write_text(f"{SPEC}trials: 010\nlimits: {{trial_s: 1:30}}\n")
    message = farm_shell.refused("sweep", "plan", file)
    assert "octal.yaml:4: trials: 010 is 8 in YAML 1.1" in message
    assert "octal.yaml:5: limits.trial_s: 1:30 is 90 in YAML 1.1" in message


def test_a_fleet_file_follows_the_same_rules(farm_shell: Shell) -> None:
    file = farm_shell.home / "fleet.yaml"
    file.write_text(
        "defaults: {enabled: no}\n"
        "devices:\n"
        "  pi-01: {ssh: pi@10.0.0.7, tags: {builder: yes, rack: 010}}\n"
    )
    message = farm_shell.refused("inventory", "apply", file)
    assert "fleet.yaml:1: defaults.enabled: no is false in YAML 1.1 and text in" in message
    assert "tags" not in message, "tags are text, whatever they look like"


def test_what_is_written_plainly_is_accepted(client: Client) -> None:
    """The mistake that is left is the model, which is not there."""
    options = "options: {graph_optimization: basic, cpu_fallback: on}"
    text = SPEC.replace("onnxruntime}", f"onnxruntime, threads: 007, {options}}}")
    text += "devices: {select: {rack: 010}}\nlimits: {memory_mib: 0x2000, trial_s: 90.}\n"
    with pytest.raises(UserError, match="there is no model 'm'"):
        client.plan(text, "s.yaml")


def test_a_model_name_says_what_is_wrong_with_it(farm_shell: Shell) -> None:
    file = farm_shell.home / "x.onnx"
    file.write_bytes(b"x")
    said = farm_shell.refused("model", "add", file, "--name", "m" * 80)
    assert "80 characters long; at most 63 are accepted" in said
    assert (
        "'é' is not accepted" in farm_shell.refused("model", "add", file, "--name", "modelé")[:200]
    )
