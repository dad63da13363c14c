"""A device class's part of the installation: it names its steps, and orders what can be built."""

from __future__ import annotations

import pytest

from agent.contract.device import DeviceFacts
from orchestrator.domain.device_class import recognise
from orchestrator.provisioning.boards import board_class
from orchestrator.store.device_class_files import device_classes
from playbooks.board_probe import _facts, _parse
from playbooks.class_steps import chosen, class_steps
from playbooks.classes import BoardClass
from playbooks.errors import InvalidRequest
from playbooks.playbook import registration

PI = """\
machine=aarch64
libc=glibc 2.36
init=systemd
hostname=pi
python=3.11.2 /usr/bin/python3
file=proc/cpuinfo
 processor\t: 0
 Features\t: fp asimd crc32
 CPU implementer\t: 0x41
 CPU part\t: 0xd0b
file=proc/device-tree/model
 Raspberry Pi 5 Model B Rev 1.0
"""


SHIPPED = {c.name: board_class(c) for c in device_classes()}


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_a_class_is_found_by_name_and_its_steps_have_names_of_their_own(name: str) -> None:
    found = chosen(SHIPPED, name)
    assert found.name == name
    names = [step.name for step in registration(found)]
    assert len(set(names)) == len(names)
    assert [n for n in names if n.startswith("runtime ")] == [
        f"runtime {r if isinstance(r, str) else r.name}" for r in found.runtimes
    ]


def test_steps_that_do_not_exist_are_refused_with_those_that_do() -> None:
    with pytest.raises(InvalidRequest, match=r"class toaster: there are no steps 'toast'.*jetpack"):
        class_steps(BoardClass("toaster", steps=("toast",)))


def test_an_unknown_class_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(InvalidRequest, match=r"'toaster'.*raspberry-pi"):
        chosen(SHIPPED, "toaster")


def test_a_board_is_recognised_by_what_a_shell_reads_there() -> None:
    given, files = _parse(PI)
    facts = _facts(given["machine"][0], given["hostname"][0], files)
    assert (facts.model, facts.cpu_model) == ("Raspberry Pi 5 Model B Rev 1.0", "ARM Cortex-A76")
    assert recognise(device_classes(), facts) == "raspberry-pi"
    other = DeviceFacts(hostname="x", machine="aarch64", system="", python="", model="Other board")
    assert recognise(device_classes(), other) == "arm64-generic"
