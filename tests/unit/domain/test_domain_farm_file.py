"""A farm file: what is accepted, and that each mistake is named by its line with its remedy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.errors import UserError
from orchestrator.domain.farm_file import AcceptedNames, DeviceEntry, FarmFile, parse

CLASSES = ("arm64-generic", "intel-cpu", "raspberry-pi")
KNOWN = AcceptedNames(
    CLASSES, lambda text: "" if text == "openvino" else f"unknown backend {text!r}"
)
FINGERPRINT = "SHA256:+Ol7Sb5jAoP0BEQ19T85f2DkGrdbPU5LlZ3US5Sd3y0"


def merged(text: str) -> dict[str, DeviceEntry]:
    return parse(text, "farm.yaml", KNOWN).value.merged()


def refused(text: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        parse(text, "farm.yaml", KNOWN)
    return str(caught.value).splitlines()


def test_every_key() -> None:
    read = parse(
        "controller_url: http://10.0.0.2:8470\n"
        "defaults: {class: intel-cpu, tags: {site: lab, rack: 1}, enabled: true}\n"
        "devices:\n"
        "  nuc-01:\n"
        "    ssh: bench@nuc.example:2222\n"
        f"    host_key: {FINGERPRINT}\n"
        "    identity: keys/nuc\n"
        "    python_archive: python.tar.gz\n"
        "    runtimes: [openvino]\n"
        "    tags: {rack: 007, builder: yes}\n"
        "  pi-01: {ssh: pi, class: raspberry-pi, enabled: false}\n",
        "farm.yaml",
        KNOWN,
    )
    assert read.value.controller_url == "http://10.0.0.2:8470"
    nuc, pi = read.value.merged().values()
    assert (nuc.device_class, nuc.runtimes, nuc.enabled) == ("intel-cpu", ["openvino"], True)
    assert (nuc.ssh, nuc.host_key) == ("bench@nuc.example:2222", FINGERPRINT)
    assert nuc.tags == {"site": "lab", "rack": "007", "builder": "yes"}
    assert (pi.device_class, pi.enabled, pi.tags) == (
        *("raspberry-pi", False, {"site": "lab", "rack": "1"}),
    )
    assert read.where("devices", "nuc-01", "identity") == "farm.yaml:7"


def test_what_is_not_said_is_left_open() -> None:
    (one,) = merged("devices: {one: {ssh: h}}").values()
    assert (one.device_class, one.tags, one.enabled, one.host_key) == ("", None, None, None)
    (one,) = merged("defaults: {tags: {a: b}}\ndevices: {one: {ssh: h, tags: {}}}").values()
    assert one.tags == {"a": "b"}


ONE = "devices:\n  one:\n    ssh: host\n"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (
            ONE + "    clas: intel-cpu\n",
            4,
            "unknown key 'devices.one.clas' (did you mean 'class'?)",
        ),
        (ONE + "    clas: x\n", 4, "accepted here: class, identity, python_archive, tags, runti"),
        ("device: {}\n" + ONE, 1, "unknown key 'device' (did you mean 'devices'?)"),
        ("defaults: {ssh: h}\n" + ONE, 1, "unknown key 'defaults.ssh'; accepted here: class, id"),
        (ONE + "    class: rasberry-pi\n", 4, "'rasberry-pi' (did you mean 'raspberry-pi'?); the"),
        (ONE + "    class: rasberry-pi\n", 4, "there are: arm64-generic, intel-cpu, raspberry-pi"),
        (ONE + "    runtimes: [openvino,\n      tensorflux]\n", 5, "unknown backend 'tensorflux'"),
        (ONE + "    runtimes: openvino\n", 4, "devices.one.runtimes: expected a list"),
        (ONE + "    enabled: maybe\n", 4, "expected true or false (found 'maybe')"),
        (ONE + "    tags: {class: x}\n", 4, "class is the device's own"),
        (ONE + "    tags: {builder: maybe}\n", 4, "tag builder=maybe: expected yes or no"),
        (ONE + "    tags: [a]\n", 4, "expected a mapping"),
        (ONE + "    tags: {a: ''}\n", 4, "tag a has no value"),
        (ONE + "    tags: {a: [1]}\n", 4, "devices.one.tags.a: expected text"),
        (ONE + "    host_key: SHA256:x\n", 4, "expected SHA256: and 43 letters"),
        (ONE + "    identity: 5\n", 4, "expected text; quote it (found 5)"),
        ("controller_url: farm:8470\n" + ONE, 1, "expected http://HOST:PORT (found 'farm:8470')"),
        ("devices:\n  One: {ssh: h}\n", 2, "device name 'One': expected 1 to 63 of a-z"),
        ("devices:\n  one: {class: intel-cpu}\n", 2, "key 'devices.one.ssh' is missing: [USER@]H"),
        ("devices:\n  one:\n", 2, "devices.one: expected a mapping"),
        ("devices: {}\n", 1, "expected at least one device"),
        ("defaults: {}\n", 1, "key 'devices' is missing"),
        ("", 1, "expected a mapping at the top, with controller_url, defaults, devices"),
        ("- a\n", 1, "expected a mapping at the top"),
        (ONE + "    ssh: other\n", 4, "'devices.one.ssh' is given twice, first on line 3"),
        (ONE + "  one: {ssh: h}\n", 4, "'devices.one' is given twice, first on line 2"),
        (ONE + "  two: {ssh: root@HOST:22}\n", 4, "the address of 'one' already (line 3)"),
        ("devices:\n  one: {ssh: &a h}\n  two: {ssh: *a}\n", 3, "aliases (*name) are not accepted"),
        ("devices:\n  one: {ssh: [\n", 3, "not YAML: "),
        ("devices:\n  one: {ssh: 2025-99-99}\n", 2, "'2025-99-99' cannot be read"),
        ("devices:\n  ? [a]\n  : {ssh: h}\n", 2, "a key must be a plain word"),
        ("a: " + "[" * 5000, 1, "nested too deeply"),
        ("a: \x00\n", 1, "not YAML"),
        ("a: " + "x" * (1 << 20), 1, "larger than 1 MiB"),
        (ONE + "    tags: !!set {a: b}\n", 4, "not YAML: tags (!!name) are not accepted"),
        (ONE + "    identity: 0x" + "f" * 5000 + "\n", 4, "'0xffff"),
        (ONE + '    tags: {"\\e[31m": 1}\n', 4, "devices.one.tags"),
    ],
)
def test_a_mistake_is_named_by_its_line(text: str, line: int, said: str) -> None:
    (message, *_) = refused(text)
    assert message.startswith(f"farm.yaml:{line}: ")
    assert said in message
    assert message.isprintable()


@pytest.mark.parametrize(
    "ssh",
    [
        *("'$(id)'", "u@`id`", "'u;id@h'", "'u@h|id'", "'u@h\\i'", "'@h'", "u@-h", "''", "'a b'"),
        *("-oProxyCommand=x", "u@", "h:0", "h:65536", "h:ssh", '"h\\n"', "u@:22"),
    ],
)
def test_what_is_no_ssh_target_is_refused(ssh: str) -> None:
    (message,) = refused(f"devices:\n  one:\n    ssh: {ssh}\n")
    assert message.startswith("farm.yaml:3: devices.one.ssh: expected ")


@pytest.mark.parametrize(
    "ssh", ["h", "u@h", "h:2222", "u@10.0.0.1:22", "fe80::1", "u@2001:db8::7", "D\\u@h"]
)
def test_what_ssh_takes_is_accepted(ssh: str) -> None:
    assert merged(f"devices: {{one: {{ssh: '{ssh}'}}}}")["one"].ssh == ssh


def test_ports_make_addresses_differ_and_users_do_not() -> None:
    merged("devices: {a: {ssh: h:1}, b: {ssh: h:2}}")
    (message,) = refused("devices:\n  a: {ssh: x@h}\n  b: {ssh: y@h}\n")
    assert message.startswith("farm.yaml:3: devices.b.ssh: y@h is the address of 'a'")


def test_all_mistakes_are_listed_in_the_order_of_the_file() -> None:
    found = refused(
        "device: 1\ndevices:\n  one: {ssh: h, clas: x}\n  Two: {ssh: h}\n"
        "  three: {ssh: i, class: toaster, enabled: 1}\n"
    )
    lines = [int(message.split(":")[1]) for message in found]
    assert lines == [1, 3, 4, 4, 5, 5]


@given(st.text(alphabet="ab:{}[]-&*!? '\"\n\t#<|>%@,", max_size=60))
def test_whatever_is_written_there_is_one_clear_refusal_or_a_file(text: str) -> None:
    lines: list[str] = []
    try:
        assert isinstance(parse(text, "f", KNOWN).value, FarmFile)
    except UserError as error:
        lines = str(error).splitlines()
    assert all(line.startswith("f:") for line in lines)
