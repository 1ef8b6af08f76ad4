"""Machines with NPUs, imitated: device files, an npu-smi that answers, version files, packages.

The answers of npu-smi are written here after the layouts that the real tool prints.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Series = Literal["A2", "A3", "310P"]
_Row = Callable[..., str]

# What belongs to vllm-ascend 0.23.0.
PACKAGES = {
    "vllm": "0.23.0",
    "vllm-ascend": "0.23.0",
    "torch": "2.10.0",
    "torch-npu": "2.10.0.post4",
    "triton-ascend": "3.2.2",
    "transformers": "5.5.4",
}
DEVICES = {"A2": 8, "A3": 16, "310P": 2}
BUILD_INFO = {"A2": "A2", "A3": "A3", "310P": "_310P", "A5": "A5"}
# Idle and full, in MiB.
MEMORY = {"A2": (3371, 65536), "A3": (2903, 65536), "310P": (1817, 44278)}
BUSY_SHARE = 0.93
FIRST_PID = 41200


@dataclass(frozen=True)
class Imitation:
    """A machine below a directory, and the variables that make a process see it."""

    root: Path
    tools: Path
    site: Path
    environment: dict[str, str] = field(default_factory=dict)

    def process_environment(self, **more: str) -> dict[str, str]:
        """This process's variables, less those about its own devices, and the machine's."""
        foreign = ("ASCEND_", "CUDA_VISIBLE")
        mine = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        return {**mine, **self.environment, **more}

    def answer(self, script: str) -> None:
        """Let npu-smi be this shell script, instead of one that answers."""
        tool = self.tools / "npu-smi"
        tool.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        tool.chmod(0o755)


def imitate(
    directory: Path,
    series: Series,
    *,
    devices: int | None = None,
    busy: Collection[int] = (),
    unhealthy: Collection[int] = (),
    packages: Mapping[str, str] | None = None,
    cann: str | None = "9.1.0",
    driver: str | None = "25.5.1",
    firmware: str | None = "7.8.0.5.216",
    built_for: str | None = None,
    npu_smi: bool = True,
) -> Imitation:
    """Write a machine below `directory`. None leaves a version's file out.

    `busy` and `unhealthy` name devices by their logical number. `packages` are added to the set
    that belongs to vllm-ascend 0.23.0; an empty version takes one away.
    """
    count = DEVICES[series] if devices is None else devices
    machine = Imitation(
        root=directory / "machine", tools=directory / "tools", site=directory / "site"
    )
    for place in (machine.root / "dev", machine.tools, machine.site):
        place.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (machine.root / "dev" / f"davinci{number}").touch()
    (machine.root / "dev" / "davinci_manager").touch()
    if npu_smi:
        text = npu_smi_info(series, count, busy=busy, unhealthy=unhealthy)
        (directory / "npu-smi.txt").write_text(text, encoding="utf-8")
        machine.answer(f"cat '{directory / 'npu-smi.txt'}'")
    _write_versions(machine.root / "usr/local/Ascend", cann, driver, firmware)
    installed = {**PACKAGES, **(packages or {})}
    _install(machine.site, {name: version for name, version in installed.items() if version})
    if installed["vllm-ascend"]:
        built = BUILD_INFO[built_for or series]
        module = machine.site / "vllm_ascend"
        module.mkdir(exist_ok=True)
        (module / "_build_info.py").write_text(
            f"# Auto-generated file\n__device_type__ = '{built}'\n", encoding="utf-8"
        )
    machine.environment.update(
        {
            "ASCEND_MACHINE_ROOT": str(machine.root),
            # The tools of a plain system beside npu-smi, without those of a real NPU or GPU.
            "PATH": os.pathsep.join([str(machine.tools), "/usr/bin", "/bin"]),
            "PYTHONPATH": os.pathsep.join([str(machine.site), str(Path(__file__).parents[1])]),
        }
    )
    return machine


def npu_smi_info(
    series: Series,
    count: int,
    *,
    busy: Collection[int] = (),
    unhealthy: Collection[int] = (),
    version: str = "25.5.1",
    wide: bool = False,
) -> str:
    """What `npu-smi info` prints; `wide` as release 26 does."""
    columns = (31, 17, 54) if series == "310P" else (27, 15, 70 if wide else 52)
    rule = "+" + "+".join("=" * width for width in columns) + "+"
    thin = "+" + "+".join("-" * width for width in columns) + "+"
    full = "+" + "-" * (sum(columns) + 2) + "+"

    def row(*cells: str) -> str:
        fitted = (f" {cell}".ljust(width) for cell, width in zip(cells, columns, strict=True))
        return "|" + "|".join(fitted) + "|"

    head = f" npu-smi {version}".ljust(34) + f"Version: {version}"
    lines = [full, f"|{head.ljust(len(full) - 2)}|", thin, *_heads(series, row), rule]
    for number in range(count):
        lines += _device_rows(series, number, row, busy=number in busy, ill=number in unhealthy)
        second_follows = series == "A3" and number % 2 == 0 and number + 1 < count
        lines.append(full if second_follows else rule)
    return "\n".join([*lines, *_process_table(series, count, busy, columns), ""])


def _heads(series: Series, row: _Row) -> list[str]:
    if series == "310P":
        return [
            row("NPU     Name", "Health", "Power(W)     Temp(C)           Hugepages-Usage(page)"),
            row("Chip    Device", "Bus-Id", "AICore(%)    Memory-Usage(MB)"),
        ]
    chip = "Chip  Phy-ID" if series == "A3" else "Chip"
    return [
        row("NPU   Name", "Health", "Power(W)    Temp(C)           Hugepages-Usage(page)"),
        row(chip, "Bus-Id", "AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)"),
    ]


def _device_rows(series: Series, number: int, row: _Row, *, busy: bool, ill: bool) -> list[str]:
    health = "Alarm" if ill else "OK"
    used, total = _used(series, number, busy), MEMORY[series][1]
    bus = f"0000:{0x41 + 3 * number:02X}:00.0"
    if series == "310P":
        return [
            row(f"{_npu(series, number):<8}310P3", health, "NA           47                0 / 0"),
            row(f"0       {number}", bus, f"0            {used} / {total}"),
        ]
    power = "-" if series == "A3" and number % 2 else f"{88 + number}.4"
    # A used figure of five digits pushes the slash against it, as the real tool does.
    memory = f"0           0    / 0          {used:<5}/ {total}"
    name = "Ascend910" if series == "A3" else "910B3"
    ids = f"{number % 2}     {number}" if series == "A3" else "0"
    return [
        row(f"{_npu(series, number):<6}{name}", health, f"{power:<12}43                0    / 0"),
        row(ids, bus, memory),
    ]


def _process_table(
    series: Series, count: int, busy: Collection[int], columns: tuple[int, int, int]
) -> list[str]:
    width = sum(columns) + 2
    widths = (columns[0], columns[1], 26, width - columns[0] - columns[1] - 26 - 3)
    rule = "+" + "+".join("=" * each for each in (*columns[:2], columns[2])) + "+"

    def row(*cells: str) -> str:
        fitted = (f" {cell}".ljust(each) for cell, each in zip(cells, widths, strict=True))
        return "|" + "|".join(fitted) + "|"

    lines = [rule.replace("=", "-")]
    lines += [row("NPU     Chip", "Process id", "Process name", "Process memory(MB)"), rule]
    per_npu = 2 if series == "A3" else 1
    for first in range(0, count, per_npu):
        held = [number for number in range(first, first + per_npu) if number in busy]
        for number in held:
            chip = number % per_npu
            size = _used(series, number, busy=True) - MEMORY[series][0]
            pid = str(FIRST_PID + number)
            lines.append(row(f"{_npu(series, number):<8}{chip}", pid, "VLLMWorker_TP", str(size)))
        if not held:
            said = f" No running processes found in NPU {_npu(series, first)}"
            lines.append(f"|{said.ljust(width)}|")
        lines.append(rule)
    return lines


def _npu(series: Series, number: int) -> int:
    """310P boards have arbitrary numbers; an A3's dies share theirs by two."""
    return {"A2": number, "A3": number // 2, "310P": 5 + 3 * number}[series]


def _used(series: Series, number: int, busy: bool) -> int:
    idle, total = MEMORY[series]
    return int(total * BUSY_SHARE) if busy else idle + number


def _write_versions(
    ascend: Path, cann: str | None, driver: str | None, firmware: str | None
) -> None:
    arch = "aarch64"
    files = {
        f"cann/{arch}-linux/ascend_toolkit_install.info": cann
        and f"package_name=Ascend-cann-toolkit\ninnerversion=V100R001C29SPC002B310\n"
        f"compatible_version=[V100R001C15]\nversion={cann}\narch={arch}\nos=linux\n",
        "driver/version.info": driver
        and f"Version={driver}\nInnerversion=V100R001C25SPC001B207\n"
        f"compatible_version=[V100R001C19]\npackage_version={driver}\n",
        "firmware/version.info": firmware
        and f"Version={firmware}\nfirmware_version=1.0\ncompatible_version_drv=[25.0,25.0.]\n",
    }
    for name, content in files.items():
        if content:
            (ascend / name).parent.mkdir(parents=True, exist_ok=True)
            (ascend / name).write_text(content, encoding="utf-8")


def _install(site: Path, packages: Mapping[str, str]) -> None:
    """Metadata alone: enough for importlib.metadata, and shadows no module."""
    for name, version in packages.items():
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8"
        )


if __name__ == "__main__":
    # python -m tests.imitation DIRECTORY A3: the variables to export, to look at it by hand.
    made = imitate(Path(sys.argv[1]), sys.argv[2])  # type: ignore[arg-type]
    print("\n".join(f"export {name}='{text}'" for name, text in made.environment.items()))
