"""Machines with NPUs, imitated: what is there is found, what is not is said to be unknown."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.errors import UserError
from runner.platforms import Device, DeviceIds, DeviceProcess, ascend, npu_smi
from runner.platforms.ascend import SEEN_SHARE, Ascend, series_of
from runner.platforms.npus import ill, label, preferred, taken, visible
from tests.imitation import Imitation, imitate

GIB = 1 << 30
Make = Callable[..., Imitation]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Builds a machine and lets this process stand on it."""
    for name in ("ASCEND_RT_VISIBLE_DEVICES", "ASCEND_HOME_PATH"):
        monkeypatch.delenv(name, raising=False)

    def build(*arguments: Any, **settings: Any) -> Imitation:
        made = imitate(tmp_path, *arguments, **settings)
        for name in ("PATH", "ASCEND_MACHINE_ROOT"):
            monkeypatch.setenv(name, made.environment[name])
        monkeypatch.syspath_prepend(str(made.site))
        return made

    return build


def indices(devices: list[Device]) -> list[int]:
    return [device.index for device in devices]


# What is there


@pytest.mark.parametrize(
    ("series", "count", "chip", "gib"),
    [
        ("A2", 8, "Ascend 910B3", 64),
        ("A3", 16, "Ascend 910", 64),
        ("310P", 2, "Ascend 310P3", 43),
    ],
)
def test_a_whole_machine_is_known(
    machine: Make, series: str, count: int, chip: str, gib: int
) -> None:
    machine(series)
    found = Ascend().machine()
    assert indices(list(found.devices)) == list(range(count))
    assert {device.name for device in found.devices} == {chip}
    assert {(device.memory_total_bytes or 0) // GIB for device in found.devices} == {gib}
    assert {device.health for device in found.devices} == {"OK"}
    assert (found.series, found.built_for) == (series, series)
    assert found.versions == {
        "cann": "9.1.0",
        "driver": "25.5.1",
        "firmware": "7.8.0.5.216",
        "npu-smi": "25.5.1",
    }
    assert found.unknown == {}


def test_processes_and_health_belong_to_their_device(machine: Make) -> None:
    machine("A3", devices=4, busy=[1], unhealthy=[2])
    devices = Ascend().devices()
    assert [device.health for device in devices] == ["OK", "OK", "Alarm", "OK"]
    assert [len(device.processes) for device in devices] == [0, 1, 0, 0]
    assert (devices[1].memory_used_bytes or 0) // GIB == 59


def test_device_files_alone_tell_how_many(machine: Make) -> None:
    made = machine("A2", npu_smi=False, cann=None, driver=None, firmware=None)
    found = Ascend().machine()
    assert [(device.index, device.name) for device in found.devices] == [
        (number, "Ascend") for number in range(8)
    ]
    assert found.series is None
    assert set(found.versions.values()) == {"unknown"}
    assert set(found.unknown) == {
        *("chip", "memory", "health"),
        *("npu-smi", "cann", "driver", "firmware"),
    }
    assert found.unknown["driver"] == (f"{made.root}/usr/local/Ascend/driver/version.info",)
    assert any("ascend-toolkit/latest" in place for place in found.unknown["cann"])
    assert "not found on PATH" in found.unknown["memory"][0]


@pytest.mark.parametrize(
    "script", ["exec sleep 30", "exit 3", "printf '\\001\\002|||| 910B3 |\\n'", "yes | head -n 9"]
)
def test_a_tool_that_does_not_help_costs_the_names_alone(
    machine: Make, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(npu_smi, "TIME_LIMIT_S", 0.2)
    machine("A2").answer(script)
    found = Ascend().machine()
    assert len(found.devices) == 8
    assert found.versions["driver"] == "25.5.1"
    assert found.unknown["chip"] == found.unknown["npu-smi"]


def test_npu_smi_and_device_files_that_disagree_are_both_named(machine: Make) -> None:
    made = machine("A2")
    (made.root / "dev" / "davinci8").touch()
    found = Ascend().machine()
    assert len(found.devices) == 8
    assert found.unknown["count"] == ("npu-smi shows 8 devices", f"{made.root}/dev has 9")


def test_present_asks_device_files_alone(machine: Make) -> None:
    made = machine("A2")
    made.answer(f"touch {made.root}/asked")
    assert Ascend().present()
    for file in made.root.glob("dev/davinci[0-9]*"):
        file.unlink()
    assert not Ascend().present()
    assert (made.root / "dev" / "davinci_manager").exists()
    assert not (made.root / "asked").exists()


def test_reading_the_machine_imports_no_engine(machine: Make) -> None:
    made = machine("A2")
    code = (
        "import sys; from runner.platforms.ascend import Ascend;"
        "assert Ascend().machine().built_for == 'A2';"
        "print([m for m in ('torch', 'torch_npu', 'vllm', 'vllm_ascend') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=made.process_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_one_reading_serves_a_start_and_no_longer(
    machine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = machine("A2", devices=1)
    platform = Ascend()
    assert len(platform.devices()) == 1
    imitate(made.root.parent, "A2", devices=2)
    assert len(platform.devices()) == 1
    monkeypatch.setattr(ascend, "KEEP_S", 0.0)
    assert len(platform.devices()) == 2


def test_another_root_is_another_machine(
    machine: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine("A2", driver="25.1")
    platform = Ascend()
    assert platform.versions()["driver"] == "25.1"
    other = imitate(tmp_path / "other", "A2", driver="25.2")
    monkeypatch.setenv("ASCEND_MACHINE_ROOT", str(other.root))
    assert platform.versions()["driver"] == "25.2"


# Series


@pytest.mark.parametrize(
    ("chip", "series"),
    [
        ("910B1", "A2"),
        ("910B4-1", "A2"),
        ("Ascend 910B3", "A2"),
        ("Ascend910B2C", "A2"),
        ("Ascend910", "A3"),
        ("Ascend910_9392", "A3"),
        ("910C", "A3"),
        ("310P3", "310P"),
        ("Ascend950PR", "A5"),
        ("910A", None),
        ("910ProB", None),
        ("310", None),
        ("Ascend", None),
        ("", None),
    ],
)
def test_the_series_of_a_chip(chip: str, series: str | None) -> None:
    assert series_of(chip) == series


@pytest.mark.parametrize(
    ("content", "built_for"),
    [
        ("__device_type__ = 'A3'\n", "A3"),
        ("# Auto-generated file\n__device_type__ = '_310P'\n", "310P"),
        ("__soc_version__ = 'ASCEND910B1'\n__sleep_mode_enabled__ = True\n", "A2"),
        ("__soc_version__ = 'ascend910_9391'\n", "A3"),
        ("", None),
    ],
)
def test_what_vllm_ascend_was_built_for(machine: Make, content: str, built_for: str | None) -> None:
    made = machine("A2")
    file = made.site / "vllm_ascend" / "_build_info.py"
    file.write_text(content)
    found = Ascend().machine()
    assert found.built_for == built_for
    assert found.unknown == ({} if built_for else {"built for": (str(file),)})


# CANN, driver and firmware

TOOLKIT = """\
package_name=Ascend-cann-toolkit
compatible_version=[V100R001C21],[V100R001C23]
innerversion=V100R001C23SPC001B235
version=8.5.1
arch=aarch64
"""
DRIVER = """\
Version=25.2.1
Innerversion=V100R001C22SPC002B220
compatible_version_fw=[7.0.0,7.7.99]
package_version=25.2.1.1
"""


@pytest.fixture
def bare(machine: Make) -> Path:
    """/usr/local/Ascend of a machine without any version file."""
    return machine("A2", cann=None, driver=None, firmware=None).root / "usr/local/Ascend"


def write(file: Path, content: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode())


@pytest.mark.parametrize(
    "place",
    [
        "ascend-toolkit/latest/aarch64-linux/ascend_toolkit_install.info",
        "ascend-toolkit/latest/x86_64-linux/ascend_toolkit_install.info",
        "cann/aarch64-linux/ascend_toolkit_install.info",
        "cann/ascend_toolkit_install.info",
    ],
)
def test_cann_is_found_where_it_is_installed(bare: Path, place: str) -> None:
    write(bare / place, TOOLKIT)
    assert Ascend().versions()["cann"] == "8.5.1"


@pytest.mark.parametrize("below", ["", "aarch64-linux"])
def test_the_toolkit_that_is_in_use_goes_first(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    write(bare / "cann/ascend_toolkit_install.info", TOOLKIT)
    mine = tmp_path / "opt" / "cann-9.1.0"
    write(mine / below / "ascend_toolkit_install.info", "innerversion=V1\nversion=9.1.0\n")
    monkeypatch.setenv("ASCEND_HOME_PATH", str(mine))
    assert Ascend().versions()["cann"] == "9.1.0"


@pytest.mark.parametrize(
    ("content", "version"),
    [
        ("innerversion=V100\ncompatible_version=[V99]\n", "unknown"),
        ("version=\n", "unknown"),
        (TOOLKIT.replace("\n", "\r\n"), "8.5.1"),
        ("version=8.3.RC2", "8.3.RC2"),
    ],
)
def test_the_line_that_starts_with_version(bare: Path, content: str, version: str) -> None:
    write(bare / "cann/ascend_toolkit_install.info", content)
    assert Ascend().versions()["cann"] == version


def test_the_public_version_of_the_fallback(bare: Path) -> None:
    write(
        bare / "cann/version.cfg",
        "# version: 1.0\nruntime_running_version=[7.5.0.1.1:7.9.9]\n"
        "toolkit_running_version=[7.6.0.1.220:8.0.0]\n",
    )
    assert Ascend().versions()["cann"] == "8.0.0"


@pytest.mark.parametrize(
    ("content", "version"),
    [
        (DRIVER, "25.2.1.1"),
        (DRIVER.replace("package_version=25.2.1.1\n", ""), "25.2.1"),
        ("Innerversion=V100\n", "unknown"),
        ("\x00\xff garbage", "unknown"),
    ],
)
@pytest.mark.parametrize("package", ["driver", "firmware"])
def test_driver_and_firmware(bare: Path, package: str, content: str, version: str) -> None:
    write(bare / package / "version.info", content)
    assert Ascend().versions()[package] == version


def test_a_directory_in_place_of_a_file(bare: Path) -> None:
    (bare / "driver" / "version.info").mkdir(parents=True)
    assert Ascend().versions()["driver"] == "unknown"


# Which devices an engine sees


@pytest.mark.parametrize(
    ("text", "numbers", "reason"),
    [
        (None, (0, 1, 2, 3), ""),
        ("0,1,2,3", (0, 1, 2, 3), ""),
        ("2", (2,), ""),
        ("1,3,", (1, 3), ""),
        ("", (), "lists no device"),
        (",1", (), "lists no device"),
        ("3,1", (), "must be strictly ascending"),
        ("1,1", (), "must be strictly ascending"),
        ("0,4", (0,), "no device 4 here; the last is 3"),
        ("0,4,2", (0,), "no device 4 here; the last is 3"),
        ("0," + "9" * 6000, (0,), "here; the last is 3"),
        ("0, 1", (0,), "stops reading at ' '"),
        ("0;1", (0,), "stops reading at ';'"),
        ("-1", (), "stops reading at '-'"),
        ("all", (), "stops reading at 'a'"),
    ],
)
def test_visible_devices_as_torch_npu_reads_them(
    text: str | None, numbers: tuple[int, ...], reason: str
) -> None:
    seen, why = visible(text, 4)
    assert seen == numbers
    assert reason in why
    assert (why == "") is (reason == "")


def test_no_device_can_be_visible_where_there_is_none() -> None:
    assert visible(None, 0) == ((), "")
    assert visible("0", 0) == ((), "no device 0 here; there are none")


def test_devices_are_those_that_the_worker_would_see(
    machine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine("A2")
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "2,5")
    assert indices(Ascend().devices()) == [2, 5]
    assert indices(Ascend().devices({"ASCEND_RT_VISIBLE_DEVICES": "7"})) == [7]
    assert len(Ascend().devices({})) == 8


# Which of them it gets

IDLE = Device(
    *(0, "Ascend 910B3", 64 * GIB, int(3.3 * GIB), "OK"), memory_seen_bytes=int(60.96 * GIB)
)


@pytest.mark.parametrize("share", [0.1, 0.9, 1.0])
@pytest.mark.parametrize(
    ("total", "used"), [(64.0, 3.3), (32.0, 3.3), (128.0, 5.8), (21.0, 1.8), (43.2, 1.8)]
)
def test_an_idle_device_of_any_size_is_usable(total: float, used: float, share: float) -> None:
    """torch_npu does not count what an idle device shows as used."""
    device = replace(IDLE, memory_total_bytes=int(total * GIB), memory_used_bytes=int(used * GIB))
    assert taken(device, share) is None


def test_a_device_whose_memory_is_taken_names_who_holds_it() -> None:
    process = DeviceProcess(123, "python3", 30 * GIB)
    device = replace(IDLE, memory_used_bytes=33 * GIB, processes=(process,))
    assert taken(device, 0.9) == (
        "31.0 of 64.0 GiB free, gpu_memory_utilization=0.9 needs 54.9; "
        "held by python3 (pid 123, 30.0 GiB)"
    )
    assert taken(replace(device, processes=()), 0.9) == (
        "31.0 of 64.0 GiB free, gpu_memory_utilization=0.9 needs 54.9"
    )
    assert taken(device, 0.5) is None


@pytest.mark.parametrize(
    ("health", "refused"),
    [
        ("OK", False),
        ("Warning", False),
        ("Alarm", True),
        ("Critical", True),
        ("UNKNOWN", True),  # npu-smi's word, where it cannot tell
        ("unknown", False),  # ours, where npu-smi says nothing
    ],
)
def test_an_ill_device_is_refused_and_a_warning_is_none(health: str, refused: bool) -> None:
    assert ill(replace(IDLE, health=health)) == (f"health {health}" if refused else None)


def test_what_is_unknown_is_not_held_against_a_device() -> None:
    assert ill(Device(0, "Ascend")) is None
    assert taken(Device(0, "Ascend"), 0.9) is None


def test_healthy_devices_go_before_warned_ones_and_those_before_ill_ones() -> None:
    health = ["Alarm", "Warning", "OK", "Warning", "OK"]
    devices = [replace(IDLE, index=index, health=each) for index, each in enumerate(health)]
    order = [indices(preferred(devices, ranks, 0.9)) for ranks in (1, 2, 3, 4, 5)]
    assert order == [[2], [2, 4], [1, 2, 4], [1, 2, 3, 4], [0, 1, 2, 3, 4]]


def test_what_torch_npu_sees_of_64_gib(machine: Make) -> None:
    """Of two out-of-memory messages upstream (vllm-ascend #8621)."""
    machine("A2")
    (seen,) = {device.memory_seen_bytes for device in Ascend().devices()}
    assert round((seen or 0) / GIB, 2) == 60.96


# npu-smi's own numbers


def test_npu_smi_s_ids_stand_beside_ours(machine: Make) -> None:
    machine("310P")
    first, second = Ascend().devices()
    assert (first.ids, second.ids) == (
        DeviceIds(npu=5, chip=0, bus="0000:41:00.0"),
        DeviceIds(npu=8, chip=0, bus="0000:44:00.0"),
    )
    assert label(second) == "NPU 1 (npu-smi: NPU 8, chip 0, bus 0000:44:00.0)"


def test_a_die_of_an_a3_is_told_by_its_chip(machine: Make) -> None:
    machine("A3")
    fourth = Ascend().devices()[3]
    assert fourth.ids == DeviceIds(npu=1, chip=1, phy=3, bus="0000:4A:00.0")


def test_a_number_that_is_the_same_everywhere_is_said_once(machine: Make) -> None:
    machine("A2")
    assert [label(device) for device in Ascend().devices()] == [f"NPU {n}" for n in range(8)]


# A container: fewer device files than npu-smi shows devices


def keep(made: Imitation, *numbers: int) -> None:
    for file in made.root.glob("dev/davinci[0-9]*"):
        if int(file.name[7:]) not in numbers:
            file.unlink()


@pytest.mark.parametrize(
    ("series", "numbers", "npus"),
    [("A2", (0, 1), [0, 1]), ("A2", (4, 5, 6), [4, 5, 6]), ("A3", (2, 3), [1, 1])],
)
def test_devices_that_were_not_passed_to_the_container_are_not_counted(
    machine: Make, series: str, numbers: tuple[int, ...], npus: list[int]
) -> None:
    keep(machine(series), *numbers)
    found = Ascend().machine()
    assert indices(list(found.devices)) == list(range(len(numbers)))
    assert [device.ids and device.ids.npu for device in found.devices] == npus
    assert found.unknown == {}
    with pytest.raises(UserError, match=f"needs 4 NPUs, {len(numbers)} are visible"):
        Ascend().worker_environment(4, {})


def test_visible_devices_count_among_those_that_are_present(machine: Make) -> None:
    keep(machine("A2"), 4, 5)
    (device,) = Ascend().devices({"ASCEND_RT_VISIBLE_DEVICES": "1"})
    assert device.ids is not None and device.ids.npu == 5
    assert Ascend().devices({"ASCEND_RT_VISIBLE_DEVICES": "4"}) == []


def test_files_with_numbers_that_npu_smi_does_not_show_still_count(machine: Make) -> None:
    """Which of the devices they are is unknown, and so are their health and free memory."""
    made = machine("A2")
    keep(made, 0)
    (made.root / "dev" / "davinci11").touch()
    found = Ascend().machine()
    assert [(each.name, each.health, each.memory_used_bytes) for each in found.devices] == [
        ("Ascend 910B3", "unknown", None)
    ] * 2
    assert found.devices[0].engine_memory_bytes == int(SEEN_SHARE * 64 * GIB)
    assert found.unknown["count"][1].endswith("has 2, with different numbers")


SPAWN = {"VLLM_WORKER_MULTIPROC_METHOD": "spawn"}


@pytest.mark.parametrize(
    ("settings", "variables", "ranks", "chosen"),
    [
        ({}, {}, 4, None),
        ({"busy": [0]}, {}, 4, "1,2,3,4"),
        ({"unhealthy": [1], "busy": [3]}, {}, 3, "0,2,4"),
        ({"busy": [5]}, {}, 4, None),
        ({"busy": [0]}, {"ASCEND_RT_VISIBLE_DEVICES": "0,6,7"}, 2, "6,7"),
        ({"busy": [0]}, {"ASCEND_RT_VISIBLE_DEVICES": "0,6,7"}, 3, None),
        ({"busy": range(8)}, {}, 1, None),
    ],
)
def test_an_engine_gets_the_first_devices_that_are_free(
    machine: Make,
    settings: dict[str, Any],
    variables: dict[str, str],
    ranks: int,
    chosen: str | None,
) -> None:
    """Too few free ones are left to preflight, which says why each is not."""
    machine("A2", **settings)
    expected = SPAWN if chosen is None else {**SPAWN, "ASCEND_RT_VISIBLE_DEVICES": chosen}
    assert Ascend().worker_environment(ranks, variables) == expected


def test_a_smaller_share_fits_beside_another_engine(machine: Make) -> None:
    machine("A2", busy=[0])
    assert Ascend().worker_environment(1, {}, memory_share=0.05) == SPAWN


def test_ranks_fit_the_visible_npus(machine: Make) -> None:
    machine("A2")
    with pytest.raises(UserError, match=r"needs 16 NPUs, 8 are visible$"):
        Ascend().worker_environment(16, {})
    with pytest.raises(
        UserError, match=r"needs 2 NPUs, 0 are visible .*=1,0: must be strictly ascending"
    ):
        Ascend().worker_environment(2, {"ASCEND_RT_VISIBLE_DEVICES": "1,0"})


# What is missing


def test_what_a_bare_machine_lacks(machine: Make) -> None:
    made = machine("A2", packages={"vllm-ascend": "", "torch-npu": ""})
    (line,) = Ascend().missing()
    assert line.startswith("not installed: vllm-ascend, torch-npu;")
    imitate(made.root.parent, "A2")
    assert Ascend().missing() == []


def test_no_npu_says_where_it_was_looked_for(machine: Make) -> None:
    made = machine("A2", devices=0)
    (line,) = Ascend().missing()
    assert f"{made.root}/dev/davinci0" in line
    assert "--device /dev/davinci_manager" in line
