"""Ascend NPUs, read with npu-smi and from files: initialising one here would break the worker's."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from runner.errors import UserError
from runner.interpreters import OWN, Interpreter
from runner.platforms import cann, npu_smi
from runner.platforms.base import MEMORY_SHARE, UNKNOWN, Device, DeviceIds, Platform
from runner.platforms.npus import VISIBLE, preferred, visible
from runner.platforms.places import below_root, value

DEVICE_FILES = Path("/dev")
# Read in vllm-ascend 0.23.0: each of these is imported when an engine starts.
PACKAGES = ("vllm", "vllm-ascend", "torch-npu")
# Names as npu-smi prints them, "Ascend" left out: an A3's dies are called plain "Ascend910".
SERIES = (
    (re.compile(r"(?i)910B\d"), "A2"),
    (re.compile(r"(?i)910(C|_93.*)?$"), "A3"),
    (re.compile(r"(?i)310P"), "310P"),
    (re.compile(r"950"), "A5"),
)
# Of the 64 GiB that npu-smi shows of a 910B or of an A3's die, torch_npu sees 60.96 (vllm-ascend
# #8621), and an engine's share is a share of those.
SEEN_SHARE = 60.96 / 64
# Long enough for the questions that one start asks, too short to miss a device that gets busy.
KEEP_S = 5.0


@dataclass(frozen=True)
class Machine:
    """This machine's NPUs and versions, as far as known."""

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
    shown: int = 0
    """How many npu-smi shows: a container may have been given fewer."""


class Ascend(Platform):
    name = "ascend"

    def __init__(self) -> None:
        self._kept: tuple[tuple[str | None, ...], float, Machine] | None = None

    def present(self) -> bool:
        return bool(_device_files())

    def missing(self, python: Interpreter = OWN) -> list[str]:
        lines = []
        if not self.present():
            lines.append(
                f"no NPU: {below_root(DEVICE_FILES)}/davinci0 … do not exist (in a container, pass "
                "the devices with --device /dev/davinci0 --device /dev/davinci_manager)"
            )
        absent = [package for package in PACKAGES if python.version(package) is None]
        if absent:
            lines.append(
                f"not installed: {', '.join(absent)}; use the official vllm-ascend image, or "
                f"{python.install('ascend', 'vllm-ascend==VERSION')}"
            )
        return lines

    def machine(self, python: Interpreter = OWN) -> Machine:
        """Read the machine with npu-smi (1 to 2 s) and cache the result for five seconds.

        `python` is the interpreter whose vllm-ascend is looked at.
        """
        asked = tuple(map(os.environ.get, ("ASCEND_MACHINE_ROOT", "ASCEND_HOME_PATH", "PATH")))
        kept = self._kept
        if kept is None or kept[0] != asked or time.monotonic() - kept[1] >= KEEP_S:
            self._kept = kept = asked, time.monotonic(), _read()
        return _with_build(kept[2], python)

    def devices(self, variables: Mapping[str, str] = os.environ) -> list[Device]:
        devices = self.machine().devices
        numbers, _ = visible(variables.get(VISIBLE), len(devices))
        return [devices[number] for number in numbers]

    def worker_environment(
        self,
        ranks: int,
        variables: Mapping[str, str] = os.environ,
        *,
        memory_share: float = MEMORY_SHARE,
        eager: bool = False,
        python: Interpreter = OWN,
    ) -> dict[str, str]:
        """Return the worker's variables, and avoid devices that are unhealthy or in use."""
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
        best = preferred(devices, ranks, memory_share)
        if best != devices[:ranks]:
            chosen[VISIBLE] = ",".join(str(device.index) for device in best)
        return chosen

    def versions(self) -> dict[str, str]:
        return self.machine().versions

    def unknown(self, python: Interpreter = OWN) -> dict[str, tuple[str, ...]]:
        return self.machine(python).unknown


def series_of(chip: str) -> str | None:
    """The series of a chip, by the name that npu-smi or this module gives it."""
    plain = _plain(chip)
    return next((series for pattern, series in SERIES if pattern.match(plain)), None)


def _with_build(machine: Machine, python: Interpreter) -> Machine:
    built_for, looked_at = _built_for(python)
    if built_for is not None or python.version("vllm-ascend") is None:
        return replace(machine, built_for=built_for)
    return replace(machine, unknown={"built for": looked_at, **machine.unknown})


def _read() -> Machine:
    """The machine without the series that vllm-ascend was built for."""
    reading = npu_smi.ask()
    unknown: dict[str, tuple[str, ...]] = {}
    numbers = _device_files()
    if not reading.chips:
        unknown |= {thing: (reading.problem,) for thing in ("chip", "memory", "health")}
        devices = tuple(Device(index, "Ascend") for index in range(len(numbers)))
    else:
        devices = _present(reading.chips, numbers)
        shown, here = len(reading.chips), len(numbers)
        which = any(device.ids is None for device in devices)
        if here > shown or which:
            unknown["count"] = (
                f"npu-smi shows {shown} devices",
                f"{below_root(DEVICE_FILES)} has "
                f"{here}{', with different numbers' if which else ''}",
            )
    if reading.version == UNKNOWN:
        unknown["npu-smi"] = (reading.problem or "npu-smi info: no version in its output",)
    named = {series_of(device.name) for device in devices}
    series = named.pop() if len(named) == 1 else None
    if series is None and reading.chips:
        unknown["series"] = tuple(sorted({f"chip {device.name}" for device in devices}))
    versions = {"npu-smi": reading.version}
    for name, found in (
        ("cann", cann.cann()),
        ("driver", cann.driver()),
        ("firmware", cann.firmware()),
    ):
        versions[name] = found.version
        if found.version == UNKNOWN:
            unknown[name] = found.looked_at
    return Machine(devices, series, None, versions, unknown, len(reading.chips))


def _present(chips: Sequence[npu_smi.Chip], numbers: Sequence[int]) -> tuple[Device, ...]:
    """Of what npu-smi shows, the devices that can be opened here.

    A container has the device files that it was given; npu-smi may show the host's other NPUs too.
    torch_npu counts those that it can open from 0, in ascending order.
    """
    if len(numbers) in (0, len(chips)) or len(numbers) > len(chips):
        return tuple(_device(index, chip) for index, chip in enumerate(chips))
    by_number = {chip.number: chip for chip in chips}
    if len(by_number) == len(chips) and by_number.keys() >= set(numbers):
        return tuple(_device(index, by_number[number]) for index, number in enumerate(numbers))
    # Which of them these are is not known: only what all have in common is.
    alike = {(_device(0, chip).name, chip.memory_total_bytes) for chip in chips}
    name, total = alike.pop() if len(alike) == 1 else ("Ascend", None)
    return tuple(
        Device(index, name, total, memory_seen_bytes=_seen(total)) for index in range(len(numbers))
    )


def _device(index: int, chip: npu_smi.Chip) -> Device:
    return Device(
        index=index,
        name=f"Ascend {_plain(chip.name)}".strip(),
        memory_total_bytes=chip.memory_total_bytes,
        memory_used_bytes=chip.memory_used_bytes,
        health=chip.health,
        processes=chip.processes,
        memory_seen_bytes=_seen(chip.memory_total_bytes),
        ids=DeviceIds(chip.npu, chip.chip, chip.phy, chip.bus_id),
    )


def _seen(total: int | None) -> int | None:
    return None if total is None else int(SEEN_SHARE * total)


def _plain(chip: str) -> str:
    return re.sub(r"(?i)^ascend", "", chip).strip(" -_")


def _built_for(python: Interpreter) -> tuple[str | None, tuple[str, ...]]:
    """What vllm_ascend/_build_info.py says, without importing vllm_ascend.

    Older builds name the chip instead of its series.
    """
    places = [Path(place) / "_build_info.py" for place in python.places("vllm_ascend")]
    for place in places:
        series = value(place, r"__device_type__\s*=\s*['\"]_?(\w+)['\"]")
        chip = value(place, r"__soc_version__\s*=\s*['\"](\w+)['\"]")
        if series or (series := series_of(chip or "")):
            return series, ()
    return None, tuple(map(str, places)) or ("no package vllm_ascend",)


def _device_files() -> list[int]:
    """The numbers of /dev/davinci<number>, one a die, in ascending order."""
    names = (entry.name[7:] for entry in below_root(DEVICE_FILES).glob("davinci[0-9]*"))
    return sorted(int(name) for name in names if name.isdecimal())
