"""Ascend NPUs, read with npu-smi and from files: initialising one here would break the worker's."""

from __future__ import annotations

import importlib.util
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runner.errors import UserError
from runner.platforms import cann, npu_smi
from runner.platforms.base import UNKNOWN, Device, Platform, installed_version
from runner.platforms.places import below_root, value

DEVICE_FILES = Path("/dev")
VISIBLE = "ASCEND_RT_VISIBLE_DEVICES"
# Read in vllm-ascend 0.23.0: each of these is imported when an engine starts.
PACKAGES = ("vllm", "vllm-ascend", "torch-npu")
# Names as npu-smi prints them, "Ascend" left out: an A3's dies are called plain "Ascend910".
SERIES = (
    (re.compile(r"(?i)910B\d"), "A2"),
    (re.compile(r"(?i)910(C|_93.*)?$"), "A3"),
    (re.compile(r"(?i)310P"), "310P"),
    (re.compile(r"950"), "A5"),
)
# What an idle device shows as used, and torch_npu leaves out of its total: 2.8 to 3.4 GiB of 64 (of
# 910B and A3: torch_npu then counts 60.96, vllm-ascend #8621), 5.9 of 128 (950), 1.8 of 21 (310P).
IDLE_BYTES, IDLE_SHARE = 3420 << 20, 0.06
# Long enough for the questions that one start asks, too short to miss a device that gets busy.
KEEP_S = 5.0
# Digits of a device's number that are read; no machine has a billion devices.
BEYOND_ALL = 10


@dataclass(frozen=True)
class Machine:
    """What is known of this machine and its NPUs."""

    devices: tuple[Device, ...]
    """All that are here; the index is the number that ASCEND_RT_VISIBLE_DEVICES counts in."""
    series: str | None
    """A2, A3, 310P or A5, from the chip's name."""
    built_for: str | None
    """The series that the installed vllm-ascend was built for; its worker asserts it."""
    versions: dict[str, str]
    """cann, driver, firmware, npu-smi; "unknown" where not to be read."""
    unknown: dict[str, tuple[str, ...]]
    """For each unknown thing, the places that were looked at."""


class Ascend(Platform):
    name = "ascend"

    def __init__(self) -> None:
        self._kept: tuple[tuple[str | None, ...], float, Machine] | None = None

    def present(self) -> bool:
        return _device_files() > 0

    def missing(self) -> list[str]:
        lines = []
        if not self.present():
            lines.append(
                f"no NPU: {below_root(DEVICE_FILES)}/davinci0 … do not exist (in a container: pass "
                "them with --device /dev/davinci0 --device /dev/davinci_manager)"
            )
        absent = [package for package in PACKAGES if installed_version(package) is None]
        if absent:
            lines.append(
                f"not installed: {', '.join(absent)}; use the official vllm-ascend image, or "
                "pip install 'ascend-accuracy-runner[ascend]'"
            )
        return lines

    def machine(self) -> Machine:
        """Read it, which takes npu-smi a second or two; an answer is good for five more."""
        asked = tuple(map(os.environ.get, ("ASCEND_MACHINE_ROOT", "ASCEND_HOME_PATH", "PATH")))
        if self._kept and self._kept[0] == asked and time.monotonic() - self._kept[1] < KEEP_S:
            return self._kept[2]
        machine = _read()
        self._kept = asked, time.monotonic(), machine
        return machine

    def devices(self, variables: Mapping[str, str] = os.environ) -> list[Device]:
        devices = self.machine().devices
        numbers, _ = visible(variables.get(VISIBLE), len(devices))
        return [devices[number] for number in numbers]

    def worker_environment(
        self,
        ranks: int,
        variables: Mapping[str, str] = os.environ,
        *,
        memory_share: float = 0.9,
        eager: bool = False,
    ) -> dict[str, str]:
        """As the base class says; steers the engine past devices that are ill or taken."""
        devices = self.devices(variables)
        if ranks > len(devices):
            written = variables.get(VISIBLE)
            _, reason = visible(written, len(self.machine().devices))
            raise UserError(
                f"parallelism: tp×pp×dp={ranks} needs {ranks} NPUs, {len(devices)} are visible"
                + (f" ({VISIBLE}={written}: {reason})" if reason else "")
            )
        # A forked worker dies once torch_npu has been initialised ("Cannot re-initialize NPU").
        chosen = {"VLLM_WORKER_MULTIPROC_METHOD": "spawn"}
        usable = [device for device in devices if unusable(device, memory_share) is None]
        if len(usable) >= ranks and usable[:ranks] != devices[:ranks]:
            chosen[VISIBLE] = ",".join(str(device.index) for device in usable[:ranks])
        return chosen

    def versions(self) -> dict[str, str]:
        return self.machine().versions

    def unknown(self) -> dict[str, tuple[str, ...]]:
        return self.machine().unknown


def visible(text: str | None, count: int) -> tuple[tuple[int, ...], str]:
    """The devices that torch_npu counts under ASCEND_RT_VISIBLE_DEVICES, and why not all of them.

    As torch_npu 2.10.0.post4 reads it (npu/__init__.py, _parse_visible_devices and
    _device_count_ascend_hal): up to the first character that is neither digit nor comma, and up to
    the first number that no device has; none at all unless strictly ascending.
    """
    if text is None:
        return tuple(range(count)), ""
    readable = re.match(r"[0-9,]*", text)
    assert readable is not None
    numbers: list[int] = []
    for part in readable.group().split(","):
        if not part:
            break
        number = int(part[:BEYOND_ALL])
        if numbers and number <= numbers[-1]:
            return (), "must be strictly ascending, or torch_npu sees no device at all"
        if number >= count:
            last = f"the last is {count - 1}" if count else "there is none"
            return tuple(numbers), f"no device {part[:BEYOND_ALL]} here, {last}"
        numbers.append(number)
    rest = text[len(readable.group()) :]
    if rest:
        why = f"torch_npu stops reading at {rest[0]!r}; write digits and commas only"
        return tuple(numbers), why
    return tuple(numbers), "" if numbers else "names no device"


def unusable(device: Device, share: float) -> str | None:
    """Why an engine that wants this share of the device's memory cannot have it; None if it can.

    vllm-ascend 0.23.0's worker refuses to start where free < gpu_memory_utilization × total, both
    counted without what an idle device shows as used.
    """
    if device.health not in ("OK", UNKNOWN):
        return f"health {device.health}"
    total, used = device.memory_total_bytes, device.memory_used_bytes
    if total is None or used is None:
        return None
    idle = min(used, int(max(IDLE_BYTES, IDLE_SHARE * total)))
    wanted = share * (total - idle)
    if total - used >= wanted:
        return None
    free = f"{_gib(total - used)} of {_gib(total)} GiB free"
    reason = f"{free}, gpu_memory_utilization={share:g} wants {_gib(wanted)}"
    holders = ", ".join(
        f"{process.name} (pid {process.pid}, {_gib(process.memory_bytes)} GiB)"
        for process in device.processes
    )
    return f"{reason}; held by {holders}" if holders else reason


def series_of(chip: str) -> str | None:
    """The series of a chip, by the name that npu-smi or this module gives it."""
    plain = _plain(chip)
    return next((series for pattern, series in SERIES if pattern.match(plain)), None)


def _read() -> Machine:
    reading = npu_smi.ask()
    unknown: dict[str, tuple[str, ...]] = {}
    devices = tuple(_device(index, chip) for index, chip in enumerate(reading.chips))
    files = _device_files()
    if not devices:
        unknown |= {thing: (reading.problem,) for thing in ("chip", "memory", "health")}
        devices = tuple(Device(index, "Ascend") for index in range(files))
    elif files not in (0, len(devices)):
        unknown["count"] = (
            f"npu-smi shows {len(devices)} devices",
            f"{below_root(DEVICE_FILES)} has {files}",
        )
    if reading.version == UNKNOWN:
        unknown["npu-smi"] = (reading.problem or "npu-smi info: no version in its answer",)
    named = {series_of(device.name) for device in devices}
    series = named.pop() if len(named) == 1 else None
    if series is None and reading.chips:
        unknown["series"] = tuple(sorted({f"chip {device.name}" for device in devices}))
    built_for, looked_at = _built_for()
    if built_for is None and installed_version("vllm-ascend") is not None:
        unknown["built for"] = looked_at
    versions = {"npu-smi": reading.version}
    for name, found in (
        ("cann", cann.cann()),
        ("driver", cann.driver()),
        ("firmware", cann.firmware()),
    ):
        versions[name] = found.version
        if found.version == UNKNOWN:
            unknown[name] = found.looked_at
    return Machine(devices, series, built_for, versions, unknown)


def _device(index: int, chip: npu_smi.Chip) -> Device:
    return Device(
        index=index,
        name=f"Ascend {_plain(chip.name)}".strip(),
        memory_total_bytes=chip.memory_total_bytes,
        memory_used_bytes=chip.memory_used_bytes,
        health=chip.health,
        processes=chip.processes,
    )


def _plain(chip: str) -> str:
    return re.sub(r"(?i)^ascend", "", chip).strip(" -_")


def _built_for() -> tuple[str | None, tuple[str, ...]]:
    """What vllm_ascend/_build_info.py says, without importing vllm_ascend.

    Older builds name the chip instead of its series.
    """
    try:
        spec = importlib.util.find_spec("vllm_ascend")
    except (ImportError, ValueError):
        spec = None
    found = (spec.submodule_search_locations if spec else None) or []
    places = [Path(place) / "_build_info.py" for place in found]
    for place in places:
        series = value(place, r"__device_type__\s*=\s*['\"]_?(\w+)['\"]")
        chip = value(place, r"__soc_version__\s*=\s*['\"](\w+)['\"]")
        if series or (series := series_of(chip or "")):
            return series, ()
    return None, tuple(map(str, places)) or ("no package vllm_ascend",)


def _device_files() -> int:
    """How many /dev/davinci<number> there are, one a die."""
    names = (entry.name for entry in below_root(DEVICE_FILES).glob("davinci[0-9]*"))
    return sum(name[7:].isdecimal() for name in names)


def _gib(size: float) -> str:
    return f"{size / (1 << 30):.1f}"
