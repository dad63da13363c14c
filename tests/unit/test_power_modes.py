"""Power modes: what tools print is read, and only a class's own modes become commands."""

from __future__ import annotations

import pytest

from agent.contract.power_modes import PowerCommands, UnknownMode, current_mode, modes_of
from orchestrator.store.device_class_files import device_class, device_classes

QUERIES = [
    ("NV Power Mode: MAXN\n0\n", "MAXN"),
    ("NV Fan Mode:quiet\nNV Power Mode: MODE_15W_6CORE\n2\n", "MODE_15W_6CORE"),
    (
        "NVPM VERB: Config file: /etc/nvpmodel.conf\nNVPM VERB: parsing done for "
        "/etc/nvpmodel.conf\nNVPM VERB: Current mode: NV Power Mode: MAXP_CORE_ARM\n3\n",
        "MAXP_CORE_ARM",
    ),
    ("NV Power Mode: 15W\n0\n", "15W"),
    ("NV Power Mode: MAXN_SUPER\n2\n", "MAXN_SUPER"),
    ("NVPM ERROR: Error opening /var/lib/nvpmodel/status: 13\n", ""),
    ("", ""),
]
CONF = """\
# POWER_MODEL DEFINITIONS
< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=1 NAME=25W >
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
< POWER_MODEL ID=7 NAME=my_own >
< PM_CONFIG DEFAULT=0 >
"""


@pytest.mark.parametrize(("text", "mode"), QUERIES)
def test_the_mode_is_read_from_what_nvpmodel_prints(text: str, mode: str) -> None:
    assert current_mode(text) == mode


def commands(name: str) -> PowerCommands:
    found = device_class(name)
    assert found is not None
    assert found.power is not None
    return found.power.commands()


def test_a_modes_number_is_the_boards_own() -> None:
    assert modes_of(CONF) == {"15W": 0, "25W": 1, "MAXN_SUPER": 2, "my_own": 7}
    orin = commands("jetson-orin-nano")
    numbers = orin.numbers(CONF)
    assert orin.to_set("MAXN_SUPER", numbers) == ("/usr/sbin/nvpmodel", "-m", "2")
    other = orin.numbers("< POWER_MODEL ID=0 NAME=MAXN_SUPER >\n")
    assert orin.to_set("MAXN_SUPER", other) == ("/usr/sbin/nvpmodel", "-m", "0")


@pytest.mark.parametrize("mode", ["7W", "my_own", "0", "15W; reboot", "", "../15W", "15w"])
def test_what_is_no_mode_of_class_and_board_becomes_no_command(mode: str) -> None:
    orin = commands("jetson-orin-nano")
    with pytest.raises(UnknownMode, match="expected 15W, 25W, MAXN_SUPER"):
        orin.to_set(mode, orin.numbers(CONF))


def test_a_governor_is_set_by_its_name() -> None:
    intel = commands("intel-cpu")
    assert intel.to_set("powersave", {})[1:] == ("frequency-set", "--governor", "powersave")
    with pytest.raises(UnknownMode, match="expected performance, powersave"):
        intel.to_set("ondemand", {})


WITH_POWER = [c.name for c in device_classes() if c.power]


@pytest.mark.parametrize("name", WITH_POWER)
def test_every_word_of_every_command_is_plain_and_every_program_named_whole(name: str) -> None:
    made = commands(name)
    argvs = made.allowed({mode: n for n, mode in enumerate(made.modes)})
    assert len(argvs) >= 1 + len(made.modes)
    for argv in argvs:
        assert argv[0].startswith("/")
        assert not {"{id}", "{name}", ""} & set(argv)
