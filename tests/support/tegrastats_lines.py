"""Lines of tegrastats, one per format that was found, and what each says.

``notes``: the first is a whole line of the project's notes on the tool, the others were put
together from the fragments there. The rest were printed by real boards and published: where, is
said.
"""

from __future__ import annotations

from typing import NamedTuple


class Line(NamedTuple):
    """``total_mw``: the board's power, if it is told. ``says``: some sensors' values by name.
    ``not_there``: names that a placeholder must not become."""

    text: str
    total_mw: float | None
    says: dict[str, float]
    not_there: tuple[str, ...] = ()


LINES = {
    "Nano, JetPack 4 (notes)": Line(
        "RAM 600/3964MB (lfb 90x4MB) SWAP 0/1982MB (cached 0MB) CPU [12%@921,off,3%@921,0%@921]"
        " EMC_FREQ 0%@1600 GR3D_FREQ 40%@614 APE 25 PLL@33C CPU@35C PMIC@100C GPU@34C AO@40C"
        " thermal@34.5C POM_5V_IN 2100/1900 POM_5V_GPU 400/200 POM_5V_CPU 500/450",
        2100,
        {
            "RAM used": 600,
            "SWAP used": 0,
            "cpu0 load": 12,
            "cpu0 clock": 921,
            "cpu2 load": 3,
            "EMC clock": 1600,
            "GR3D load": 40,
            "GR3D clock": 614,
            "APE clock": 25,
            "thermal": 34.5,
            "POM_5V_GPU power": 400,
        },
        ("cpu1 load", "cpu1 clock", "PMIC"),
    ),
    # A published tutorial's output of a TX2 on JetPack 3.
    "TX2, JetPack 3, no SWAP": Line(
        "RAM 2586/7846MB (lfb 1x1MB) CPU [0%@960,0%@499,0%@499,0%@959,0%@960,0%@960] EMC_FREQ"
        " 10%@665 GR3D_FREQ 53%@140 APE 150 MTS fg 0% bg 0% BCPU@41C MCPU@41C GPU@39C PLL@41C"
        " Tboard@35C Tdiode@37.75C PMIC@100C thermal@40.2C VDD_IN 3177/3177 VDD_CPU 536/536 VDD_GPU"
        " 383/383 VDD_SOC 536/536 VDD_WIFI 0/0 VDD_DDR 575/575",
        3177,
        {
            "GR3D load": 53,
            "MTS foreground load": 0,
            "BCPU": 41,
            "VDD_DDR power": 575,
            "Tdiode": 37.75,
        },
        ("SWAP used", "PMIC"),
    ),
    # A thesis' log of an AGX Xavier on JetPack 4.
    "AGX Xavier, JetPack 4: rails GPU, CPU; no input rail": Line(
        "RAM 10881/31919MB (lfb 4230x4MB) SWAP 0/15959MB (cached 0MB) CPU [17%@1190,17%@1190,"
        "18%@1190,25%@1190,17%@1336,15%@1340,23%@1543,15%@1574] EMC_FREQ 55%@2133 GR3D_FREQ"
        " 95%@1377 APE 150 MTS fg 0% bg 10% AO@48C GPU@54.5C Tdiode@53.25C PMIC@100C AUX@46C"
        " CPU@49C thermal@49.45C Tboard@47C GPU 18401/18525 CPU 2301/2330 SOC 4602/4602 CV 0/0"
        " VDDRQ 2914/2911 SYS5V 4632/4620",
        18401 + 2301 + 4602 + 0 + 2914 + 4632,
        {"cpu7 clock": 1574, "MTS background load": 10, "SYS5V power": 4632, "EMC load": 55},
        ("PMIC",),
    ),
    "Xavier NX, JetPack 4 (notes)": Line(
        "RAM 2690/6854MB (lfb 6x1MB) SWAP 479/3427MB (cached 3MB) CPU [3%@1904,7%@1906,1%@1905,"
        "0%@1907,off,off] EMC_FREQ 0%@1600 GR3D_FREQ 0%@510 APE 150 MTS fg 0% bg 0% AUX@39C"
        " CPU@39.5C AO@37.5C GPU@37.5C PMIC@50C VDD_IN 4100/4100 VDD_CPU_GPU_CV 700/700 VDD_SOC"
        " 1300/1300",
        4100,
        {"VDD_CPU_GPU_CV power": 700, "VDD_SOC power": 1300, "SWAP used": 479},
        ("PMIC", "cpu4 load", "cpu5 load"),
    ),
    # A Prometheus exporter's test, "XavierNXJetPack512".
    "Xavier NX, JetPack 5.1.2": Line(
        "07-09-2024 13:31:31 RAM 3168/6851MB (lfb 2x4MB) SWAP 161/3426MB (cached 0MB) CPU [23%@1397"
        ",17%@1192,16%@1190,13%@1190,23%@1190,10%@1190] EMC_FREQ 2%@204 GR3D_FREQ 0%@[114] VIC_FREQ"
        " 115 APE 150 AUX@45C CPU@46.5C thermal@45.6C AO@45C GPU@45.5C PMIC@50C VDD_IN"
        " 2763mW/2846mW VDD_CPU_GPU_CV 650mW/670mW VDD_SOC 650mW/711mW",
        2763,
        {"GR3D 0 clock": 114, "VIC clock": 115, "cpu0 clock": 1397},
        ("PMIC",),
    ),
    # The same exporter's, AGX Orin.
    "AGX Orin, JetPack 5: [0,0], -256C and NC": Line(
        "04-11-2025 10:36:27 RAM 4321/62801MB (lfb 1759x4MB) SWAP 19/31400MB (cached 0MB) CPU"
        " [0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729]"
        " EMC_FREQ 0%@2133 GR3D_FREQ 0%@[0,0] VIC_FREQ 729 APE 174 CV0@-256C CPU@44.562C Tboard@32C"
        " SOC2@40.093C Tdiode@33C SOC0@41.093C CV1@-256C GPU@-256C tj@44.343C SOC1@41.25C"
        " CV2@-256C VDD_GPU_SOC 2340mW/2340mW VDD_CPU_CV 390mW/390mW VIN_SYS_5V0 4025mW/4025mW NC"
        " 0mW/0mW VDDQ_VDD2_1V8AO 301mW/301mW NC 0mW/0mW",
        2340 + 390 + 4025 + 301,
        {"GR3D load": 0, "tj": 44.343, "VIN_SYS_5V0 power": 4025},
        ("NC power", "GPU", "CV0", "GR3D 0 clock", "GR3D 1 clock"),
    ),
    "Orin NX, JetPack 5 (notes): engines off": Line(
        "05-30-2024 15:30:45 RAM 3963/7846MB (lfb 1018x4MB) SWAP 0/3923MB (cached 0MB) CPU"
        " [25%@1428,19%@1428,off,off] EMC_FREQ 0%@2133 GR3D_FREQ 60%@[620] NVDEC off NVJPG off VIC"
        " off OFA off APE 200 cpu@53.9C tj@53.9C VDD_IN 12400mW/12400mW VDD_CPU_GPU_CV"
        " 2534mW/2534mW VDD_SOC 1518mW/1518mW",
        12400,
        {"GR3D load": 60, "GR3D 0 clock": 620, "cpu": 53.9},
        ("NVDEC load", "OFA clock", "cpu2 load"),
    ),
    # A parser's README, Orin Nano on JetPack 6: no EMC without root, one rail cut short.
    "Orin Nano, JetPack 6, not as root": Line(
        "12-23-2024 22:54:11 RAM 3162/7620MB (lfb 4x2MB) SWAP 0/3810MB (cached 0MB) CPU [1%@729,"
        "0%@729,0%@729,0%@729,off,off] GR3D_FREQ 1% cpu@62.843C soc2@61.968C soc0@60.625C"
        " gpu@61.687C tj@62.843C soc1@61.687C VDD_IN 3913mW/3922mW VDD_CPU_GPU_CV 598mW/598 VDD_SOC"
        " 1238mW/1237mW",
        3913,
        {"GR3D load": 1, "VDD_CPU_GPU_CV power": 598},
        ("EMC load", "EMC clock", "GR3D clock"),
    ),
    # A Go library's test, L4T 36.4.4.
    "AGX Orin, JetPack 6.2.1: engines with load and clock": Line(
        "05-09-2026 18:42:06 RAM 18207/62841MB (lfb 466x4MB) SWAP 86/31420MB (cached 0MB) CPU"
        " [14%@2188,5%@2112,8%@2035,14%@2201,46%@1267,47%@1267,2%@1267,10%@1267,4%@1036,5%@1036,"
        "6%@1036,10%@1036] EMC_FREQ 3%@2133 GR3D_FREQ 0%@[0,0] NVENC 79%@166 NVDEC off NVJPG off"
        " NVJPG1 off VIC 36%@115 OFA off NVDLA0 off NVDLA1 off PVA0_FREQ off APE 174 cpu@52.562C"
        " soc2@48.437C soc0@49.093C tj@52.562C soc1@49.656C VDD_GPU_SOC 2412mW/2412mW VDD_CPU_CV"
        " 1607mW/1607mW VIN_SYS_5V0 4707mW/4707mW",
        2412 + 1607 + 4707,
        {"NVENC load": 79, "NVENC clock": 166, "VIC load": 36, "cpu11 load": 10},
        ("NVDLA0 load", "PVA0 clock", "NVDEC load"),
    ),
    "JetPack 7 (notes): two temperatures, three powers": Line(
        "07-25-2026 09:08:28 RAM 20642/62817MB (lfb 1x2MB) CPU [23%@2201,10%@2201] EMC_FREQ 3%@3199"
        " GR3D_FREQ 0%@[1300,1300] NVENC0 off NVDEC0 off APE 174 cpu@52.9C/52.9C VDD_GPU_SOC"
        " 5100mW/5100mW/5100mW",
        5100,
        {"GR3D 1 clock": 1300, "cpu": 52.9, "GR3D load": 0},
        ("NVENC0 load",),
    ),
    # An exporter's test, Thor on JetPack 7.0: neither EMC nor GR3D.
    "Thor, JetPack 7.0": Line(
        "07-31-2026 14:45:55 RAM 86905/125772MB (lfb 368x4MB) CPU [12%@972,10%@972,off,33%@1890]"
        " cpu@39.812C tj@39.906C soc012@38.812C gpu@39.906C soc345@38.625C VDD_GPU 3561mW/3561mW"
        " VDD_CPU_SOC_MSS 7910mW/7910mW VIN_SYS_5V0 7620mW/7620mW VIN 26686mW/26686mW",
        26686,
        {"cpu3 clock": 1890, "VDD_CPU_SOC_MSS power": 7910, "soc012": 38.812},
        ("cpu2 load", "GR3D load", "EMC load"),
    ),
    # A telemetry tool's test, Thor on L4T 39: one clock for all cores, no load of EMC and GPU.
    "Thor, JetPack 7.2": Line(
        "08-08-2026 20:58:23 RAM 3429/125749MB (lfb 120x4MB) CPU [0%,5%,off]@2601 EMC_FREQ @4266"
        " GR3D_FREQ @[1574,1574,1574] NVENC0_FREQ @1691 VIC off cpu@49.75C/49.75C"
        " tj@51.218C/51.218C gpu@51.218C/51.218C VDD_GPU 37939mW/8660mW/37939mW VIN"
        " 28906mW/14453mW/28906mW FUTURE_TOKEN value",
        28906,
        {
            "cpu1 load": 5,
            "cpu1 clock": 2601,
            "EMC clock": 4266,
            "GR3D 2 clock": 1574,
            "NVENC0 clock": 1691,
            "VDD_GPU power": 37939,
        },
        ("cpu2 clock", "EMC load", "GR3D load", "VIC load"),
    ),
}
