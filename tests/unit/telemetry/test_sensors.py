"""Telemetry sources on copies of boards' files, and on this machine."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.device import Sensor
from agent.system import files
from agent.system.errors import Unreadable
from agent.telemetry import (
    apex,
    cpufreq,
    fan,
    ina3221,
    intel,
    nvidia,
    pressure,
    rapl,
    raspberry,
    thermal,
    throttle,
)
from agent.telemetry.registry import SOURCES, read_all
from support.board_files import JETSON, tool, tree

ZONE = "sys/class/thermal/thermal_zone"
HWMON = "sys/class/hwmon/hwmon"


def values(sensors: list[Sensor]) -> dict[str, float]:
    found = {sensor.name: sensor.value for sensor in sensors}
    assert len(found) == len(sensors)
    return found


def zones(root: Path, **temperatures: str) -> Path:
    for index, (kind, value) in enumerate(temperatures.items()):
        tree(root, {f"{ZONE}{index}/type": f"{kind}\n", f"{ZONE}{index}/temp": f"{value}\n"})
    return root


def test_the_hottest_zone_is_none_of_the_placeholders(tmp_path: Path) -> None:
    root = zones(tmp_path, PMIC_Die="100000", gpu="-256000", absent="0", cpu="51250", tj="53500")
    assert values(thermal.read(root)) == {"cpu": 51.25, "tj": 53.5}
    assert thermal.hottest_c(root) == 53.5


def test_a_board_without_plausible_zones_has_no_hottest(tmp_path: Path) -> None:
    assert thermal.hottest_c(tmp_path) is None
    assert thermal.hottest_c(zones(tmp_path, PMIC="50000", gpu="-256000", odd="warm")) is None


def test_two_zones_of_a_type_are_told_apart(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            f"{ZONE}0/type": "acpitz",
            f"{ZONE}0/temp": "27800",
            f"{ZONE}1/type": "acpitz",
            f"{ZONE}1/temp": "29800",
        },
    )
    assert values(thermal.read(root)) == {"acpitz": 27.8, "acpitz 2": 29.8}


def test_an_amd_processor_has_no_zone_but_a_sensor(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            f"{HWMON}0/name": "nvme",
            f"{HWMON}0/temp1_input": "66850",
            f"{HWMON}1/name": "k10temp",
            f"{HWMON}1/temp1_input": "48625",
            f"{HWMON}1/temp1_label": "Tctl",
        },
    )
    assert thermal.read(root) == [Sensor("thermal", "k10temp Tctl", "C", 48.625)]


def test_a_clock_that_was_only_asked_for_says_so(tmp_path: Path) -> None:
    policy = "sys/devices/system/cpu/cpufreq/policy"
    root = tree(
        tmp_path,
        {
            f"{policy}0/scaling_cur_freq": "2601000",
            f"{policy}0/cpuinfo_cur_freq": "649000",
            f"{policy}4/scaling_cur_freq": "1800000",
            f"{policy}10/cpuinfo_cur_freq": "<unknown>",
        },
    )
    assert values(cpufreq.read(root)) == {"policy0": 649.0, f"policy4{cpufreq.ASKED}": 1800.0}


def test_policies_without_any_clock_are_said(tmp_path: Path) -> None:
    tree(tmp_path, {"sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "performance"})
    with pytest.raises(Unreadable, match="no cpufreq policy"):
        cpufreq.read(tmp_path)


def test_throttle_counters_of_a_jetson_and_of_a_pc(tmp_path: Path) -> None:
    cpu = "sys/devices/system/cpu/cpu"
    root = tree(
        tmp_path,
        {
            f"{HWMON}2/oc1_event_cnt": "3\n",
            f"{HWMON}2/oc3_event_cnt": "0\n",
            f"{cpu}0/thermal_throttle/core_throttle_count": "5\n",
            f"{cpu}0/thermal_throttle/package_throttle_count": "9\n",
            f"{cpu}1/thermal_throttle/core_throttle_count": "2\n",
            f"{cpu}1/thermal_throttle/package_throttle_count": "9\n",
        },
    )
    assert values(throttle.read(root)) == {
        "oc1_event_cnt": 3,
        "oc3_event_cnt": 0,
        "core_throttle_count": 7,
        "package_throttle_count": 9,
    }


def test_pressure_is_the_last_ten_seconds(tmp_path: Path) -> None:
    text = (
        "some avg10=1.53 avg60=0.87 avg300=0.73 total=73443\n"
        "full avg10=0.25 avg60=0.05 avg300=0.02 total=7334\n"
    )
    root = tree(tmp_path, {"proc/pressure/io": text})
    assert values(pressure.read(root)) == {"io some": 1.53, "io full": 0.25}
    with pytest.raises(Unreadable, match="no averages"):
        pressure.read(tree(tmp_path, {"proc/pressure/cpu": "avg\n"}))


def test_fans_are_named_by_their_chip(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            f"{HWMON}3/name": "thinkpad",
            f"{HWMON}3/fan1_input": "2890",
            f"{HWMON}4/name": "pwm_tach",
            f"{HWMON}4/rpm": "1786",
        },
    )
    assert values(fan.read(root)) == {"thinkpad fan1": 2890, "pwm_tach rpm": 1786}


def test_a_coral_on_pcie_says_its_temperature_or_why_not(tmp_path: Path) -> None:
    root = tree(tmp_path, {"sys/class/apex/apex_0/temp": "45800\n"})
    assert apex.read(root) == [Sensor("apex", "apex_0", "C", 45.8)]
    with pytest.raises(Unreadable, match="apex_1/temp says no temperature"):
        apex.read(tree(root, {"sys/class/apex/apex_1/temp": "-89700\n"}))


RAPL = "sys/class/powercap/intel-rapl"


def test_rapl_counts_in_joules(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            f"{RAPL}/enabled": "1",
            f"{RAPL}:0/name": "package-0",
            f"{RAPL}:0/energy_uj": "1500000",
            f"{RAPL}:0:0/name": "core",
            f"{RAPL}:0:0/energy_uj": "250000",
        },
    )
    assert values(rapl.read(root)) == {"intel-rapl:0 package-0": 1.5, "intel-rapl:0:0 core": 0.25}


@given(st.integers(1, 2**48), st.data())
def test_rapl_wraps(range_uj: int, data: st.DataObject) -> None:
    before = data.draw(st.integers(0, range_uj - 1))
    used = data.draw(st.integers(0, range_uj - 1))
    after = (before + used) % range_uj
    assert rapl.delta_uj(before, after, range_uj) == used


def test_what_only_root_may_read_is_said(tmp_path: Path) -> None:
    root = tree(tmp_path, {f"{RAPL}:0/energy_uj": "1"})
    path = root / f"{RAPL}:0/energy_uj"
    path.chmod(0)
    before = os.geteuid()
    if before == 0:  # root reads everything: be another user for a moment
        os.seteuid(65534)
    try:
        with pytest.raises(Unreadable, match="permission denied"):
            files.number(path)
    finally:
        os.seteuid(before)


def test_a_driver_that_refuses_is_said() -> None:
    with pytest.raises(Unreadable, match="/proc/self/mem: Input/output error"):
        files.text(Path("/proc/self/mem"))


# The three layouts, as jetson_stats' issues and NVIDIA's developer guide list them.
I2C = "sys/bus/i2c/drivers/ina3221"


def test_ina3221_of_jetpack_4(tmp_path: Path) -> None:
    device = f"{I2C}x/6-0040/iio:device0"
    root = tree(
        tmp_path,
        {
            f"{device}/rail_name_0": "POM_5V_IN\n",
            f"{device}/in_power0_input": "2100\n",
            f"{device}/rail_name_1": "POM_5V_GPU\n",
            f"{device}/in_power1_input": "400\n",
            f"{device}/rail_name_2": "NC\n",
            f"{device}/in_power2_input": "0\n",
        },
    )
    assert values(ina3221.read(root)) == {
        "POM_5V_IN power": 2100,
        "POM_5V_GPU power": 400,
        "total power": 2100,
    }


def test_ina3221_of_jetpack_5_and_later(tmp_path: Path) -> None:
    first, second = (f"{I2C}/1-004{n}/hwmon/hwmon{n}" for n in range(2))
    root = tree(
        tmp_path,
        {
            f"{first}/in1_label": "VDD_GPU_SOC",
            f"{first}/in1_input": "18792",
            f"{first}/curr1_input": "140",
            f"{first}/in2_label": "VDD_CPU_CV",
            f"{first}/in2_input": "18784",
            f"{first}/curr2_input": "20",
            f"{first}/in3_label": "NC",
            f"{first}/in3_input": "5000",
            f"{first}/curr3_input": "100",
            f"{first}/in7_label": "sum of shunt voltages",
            f"{first}/in7_input": "360",
            f"{first}/curr4_input": "360",
            f"{second}/in1_label": "VIN_SYS_5V0",
            f"{second}/in1_input": "4968",
            f"{second}/curr1_input": "1000",
        },
    )
    expected = {
        "VDD_GPU_SOC power": 2630.88,
        "VDD_CPU_CV power": 375.68,
        "VIN_SYS_5V0 power": 4968.0,
    }
    assert values(ina3221.read(root)) == pytest.approx({**expected, "total power": 7974.56})


def test_thors_input_is_measured_by_another_chip(tmp_path: Path) -> None:
    device = f"{I2C}/2-0040/hwmon/hwmon1"
    root = tree(
        tmp_path,
        {
            f"{device}/in1_label": "VDD_GPU",
            f"{device}/in1_input": "12040",
            f"{device}/curr1_input": "640",
            f"{HWMON}5/name": "ina238",
            f"{HWMON}5/power1_input": "26686000",
        },
    )
    found = values(ina3221.read(root))
    assert found == pytest.approx(
        {"VDD_GPU power": 7705.6, "VIN power": 26686.0, "total power": 26686.0}
    )


def test_monitors_without_rails_are_said(tmp_path: Path) -> None:
    tree(tmp_path, {f"{I2C}/1-0040/hwmon/hwmon1/in7_label": "sum of shunt voltages"})
    with pytest.raises(Unreadable, match="no rail"):
        ina3221.read(tmp_path)


SMI = """\
case "$1" in
  *event_reasons*) [ "$OLD" ] && { echo 'Field "x" is not a valid field to query.'; exit 2; }
    echo "0, 0x0000000000000024" ;;
  *throttle_reasons*) echo "0, 0x0000000000000024" ;;
  *) echo "0, 31, 71.42, 1980, 2619, 7, 529" ;;
esac
"""


@pytest.mark.parametrize("old", ["", "1"])
def test_nvidia_smi_is_asked_in_both_its_languages(
    tmp_path: Path, old: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLD", old)
    root = tree(tmp_path, {"proc/driver/nvidia/version": "NVRM version: x"})
    with pytest.raises(Unreadable, match="nvidia-smi is not installed"):
        nvidia.read(root)
    tool(root, "nvidia-smi", SMI)
    found = values(nvidia.read(root))
    assert found["gpu0 power"] == pytest.approx(71420)
    assert (found["gpu0 temperature"], found["gpu0 SM clock"]) == (31, 1980)
    assert (found["gpu0 load"], found["gpu0 memory used"]) == (7, 529)
    assert found["gpu0 throttled: software power cap"] == 1
    assert found["gpu0 throttled: software thermal slowdown"] == 1
    assert found["gpu0 throttled: hardware slowdown"] == 0


def test_what_a_card_does_not_tell_is_left_out() -> None:
    found = nvidia.parse(
        "0, 45, [N/A], 1200, [Not Supported], 0, 10\n1, 51, 9.8, N/A, 405, 3, 11\n"
    )
    assert set(values(found)) == {
        *("gpu0 temperature", "gpu0 SM clock", "gpu0 load", "gpu0 memory used"),
        *("gpu1 temperature", "gpu1 power", "gpu1 memory clock", "gpu1 load", "gpu1 memory used"),
    }


def test_a_jetson_is_left_to_tegrastats(tmp_path: Path) -> None:
    root = tree(tmp_path, {**JETSON, "proc/driver/nvidia/version": "NVRM version: x"})
    assert nvidia.read(root) == []


def test_intels_npu_and_graphics(tmp_path: Path) -> None:
    npu = "sys/bus/pci/drivers/intel_vpu/0000:00:0b.0"
    root = tree(
        tmp_path,
        {
            "sys/bus/pci/drivers/intel_vpu/module/name": "",
            f"{npu}/npu_busy_time_us": "2500000",
            f"{npu}/npu_current_frequency_mhz": "1400",
            f"{npu}/npu_memory_utilization": "1048576",
            "sys/class/drm/card0/gt_act_freq_mhz": "350",
            "sys/class/drm/card1/device/tile0/gt1/freq0/act_freq": "1100",
        },
    )
    assert values(intel.read(root)) == {
        "npu busy": 2.5,
        "npu clock": 1400,
        "npu memory used": 1,
        "card0 clock": 350,
        "card1 tile0 gt1 clock": 1100,
    }


PI = {"proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0"}


def test_a_raspberry_pi_says_now_and_since_boot(tmp_path: Path) -> None:
    assert raspberry.read(tmp_path) == []
    root = tree(tmp_path, PI)
    with pytest.raises(Unreadable, match="vcgencmd is not installed"):
        raspberry.read(root)
    tool(root, "vcgencmd", "echo throttled=0x50005")
    found = values(raspberry.read(root))
    assert {name for name, value in found.items() if value} == {
        *("under-voltage now", "throttled now"),
        *("under-voltage since boot", "throttled since boot"),
    }
    assert len(found) == 8


def test_a_pi_whose_user_may_not_ask_says_so(tmp_path: Path) -> None:
    root = tree(tmp_path, PI)
    tool(root, "vcgencmd", "echo 'VCHI initialization failed' >&2; exit 255")
    with pytest.raises(Unreadable, match="VCHI initialization failed"):
        raspberry.read(root)


@pytest.mark.parametrize(
    "parse",
    [
        nvidia.parse,
        nvidia.parse_reasons,
        raspberry.parse,
        lambda text: pressure.parse("io", text),
    ],
)
@given(text=st.text())
def test_any_text_is_read_or_refused(parse: Callable[[str], list[Sensor]], text: str) -> None:
    with contextlib.suppress(Unreadable):
        assert all(math.isfinite(sensor.value) for sensor in parse(text))


@given(st.text())
def test_any_list_of_processors_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(Unreadable):
        assert all(index >= 0 for index in files.cpu_list(text))


def test_a_list_of_processors() -> None:
    assert files.cpu_list("0-3,8\n") == {0, 1, 2, 3, 8}
    assert files.cpu_list("") == set()


@given(st.binary())
def test_any_file_holds_a_number_or_is_refused(data: bytes) -> None:
    path = Path("/dev/shm") / f"benchfarm-test-{os.getpid()}"
    path.write_bytes(data)
    try:
        with contextlib.suppress(Unreadable):
            value = files.number(path)
            assert value is None or math.isfinite(value)
    finally:
        path.unlink()


def test_what_fails_is_said_and_the_others_are_read(tmp_path: Path) -> None:
    root = tree(zones(tmp_path, cpu="40000"), {f"{RAPL}:0/energy_uj": "none", **PI})
    sensors, unread = read_all(root)
    assert [sensor.name for sensor in sensors] == ["cpu"]
    assert set(unread) == {"rapl", "raspberry"}
    assert "'none', which is no number" in unread["rapl"]


def test_this_machine() -> None:
    sensors, unread = read_all()
    names = set(SOURCES)
    assert {sensor.source for sensor in sensors} <= names
    assert set(unread) <= names
    assert all(math.isfinite(sensor.value) for sensor in sensors)
    for resource in ("cpu", "io", "memory"):
        try:
            Path("/proc/pressure", resource).read_text()
        except OSError:
            continue
        assert any(s.source == "pressure" and s.name.startswith(resource) for s in sensors)
    zone = Path("/sys/class/thermal/thermal_zone0/temp")
    assert thermal.hottest_c() is not None or not zone.exists() or int(zone.read_text()) <= 0
