"""Run and parse `npu-smi info`, the only tool that shows NPUs without initialising them.

Its table has no other form (no JSON, no CSV), and its layout differs between chips and releases;
tests/unit/test_npu_smi.py shows the known ones. What cannot be read is left out, never guessed.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from runner.platforms.base import UNKNOWN, DeviceProcess
from runner.platforms.places import below_root

# On a machine whose driver is broken npu-smi hangs for ever; sixteen dies answer within three.
TIME_LIMIT_S = 10.0
# Where drivers and containers put it: vllm-ascend's installation guide mounts the first and the
# last into its containers.
PLACES = (
    "/usr/local/bin/npu-smi",
    "/usr/local/sbin/npu-smi",
    "/usr/local/Ascend/driver/tools/npu-smi",
)
MIB = 1 << 20
# Far above any machine's counts and sizes: a longer number is damage, and slow to convert.
NUMBER = r"[0-9]{1,9}"
USED_OF_TOTAL = re.compile(rf"({NUMBER})\s*/\s*({NUMBER})(?![0-9])")
VERSION = re.compile(r"npu-smi\s+([0-9][\w.\-]{0,40})")
NO_PROCESSES = "No running processes"


@dataclass(frozen=True)
class Chip:
    """One die: two rows of the table."""

    npu: int
    chip: int
    name: str
    health: str
    phy: int | None = None
    logical: int | None = None
    bus_id: str | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    processes: tuple[DeviceProcess, ...] = ()

    @property
    def number(self) -> int:
        """N of its /dev/davinciN: an A3 shows it as Phy-ID, a 310P as Device, an A2 as NPU."""
        return next(each for each in (self.phy, self.logical, self.npu) if each is not None)


@dataclass(frozen=True)
class Reading:
    """The parsed output; `problem` gives the reason if there are no chips."""

    version: str = UNKNOWN
    chips: tuple[Chip, ...] = ()
    problem: str = ""


def ask() -> Reading:
    """Run the tool, if present, with a timeout; never raises."""
    tool = find_tool()
    if tool is None:
        return Reading(problem=f"npu-smi: not found on PATH or at {', '.join(_places())}")
    try:
        status, text, complaints = _run([tool, "info"])
    except subprocess.TimeoutExpired:
        return Reading(problem=f"{tool} info: timed out after {TIME_LIMIT_S:g} s")
    except OSError as error:
        return Reading(problem=f"{tool} info: {error.strerror or error}")
    reading = parse(text)
    if reading.chips:
        return reading
    said = (text + complaints).strip().splitlines()
    detail = f": {said[0].strip()[:200]}" if said else ""
    return replace(reading, problem=f"{tool} info: no NPU in its output (status {status}){detail}")


def _run(command: list[str]) -> tuple[int, str, str]:
    """Status and output. subprocess.run would wait for one that hangs in the driver even so."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=TIME_LIMIT_S)
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1)
        raise
    return process.returncode, out.decode(errors="replace"), err.decode(errors="replace")


def parse(text: str) -> Reading:
    """Parse as much of the table as possible; other text gives an empty reading."""
    found = VERSION.search(text)
    chips: list[Chip] = []
    processes: dict[tuple[int, int | None], list[DeviceProcess]] = {}
    first: tuple[int, str, str] | None = None
    second_id = ""
    listing_processes = False
    for cells in _rows(text):
        if "process id" in " ".join(cells).lower():
            listing_processes = True
        elif listing_processes:
            _add_process(processes, cells)
        elif "Chip" in cells[0].split():
            second_id = cells[0].split()[-1]
        elif first is None:
            first = _first_row(cells)
        elif (again := _first_row(cells)) is not None and not _is_second_row(cells):
            first = again  # the second row of the one before is missing
        else:
            chips.append(_chip(first, cells, second_id, chips))
            first = None
    return Reading(
        version=found.group(1) if found else UNKNOWN,
        chips=tuple(_with_processes(chip, processes) for chip in chips),
    )


def find_tool() -> str | None:
    """Return the path of npu-smi; None if this machine has none."""
    found = shutil.which("npu-smi")
    if found is not None:
        return found
    return next((place for place in _places() if os.access(place, os.X_OK)), None)


def _places() -> list[str]:
    return [str(below_root(Path(place))) for place in PLACES]


def _rows(text: str) -> Iterator[list[str]]:
    """The cells of each row; the 950's column of NPU ids joins that of the names, as elsewhere."""
    split = False
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped.startswith("|"):
            continue
        cells = [cell.strip() for cell in stripped.strip("|").split("|")]
        if len(cells) > 3 and cells[0] == "NPU ID" and cells[1] == "Name":
            split = True
        if "process id" in stripped.lower():
            split = False
        yield [f"{cells[0]} {cells[1]}".strip(), *cells[2:]] if split and len(cells) > 3 else cells


def _first_row(cells: list[str]) -> tuple[int, str, str] | None:
    """`0  910B4 | OK | …`: id, name and health; a bus id in its place is a chip's second row.

    A name has a letter: `1  0 | 41201 | …` is a process, whose table has lost its head.
    """
    named = re.fullmatch(rf"({NUMBER})\s+(\S*[A-Za-z].*)", cells[0])
    if named is None or len(cells) < 2 or ":" in cells[1]:
        return None
    health = cells[1] if cells[1] not in ("", "-", "NA") else UNKNOWN
    return int(named.group(1)), named.group(2), health


def _is_second_row(cells: list[str]) -> bool:
    """A chip's and perhaps a physical id, or none on the 950; then the memory at its end."""
    numbers = re.fullmatch(rf"(?:{NUMBER}(?:\s+{NUMBER})?)?", cells[0])
    return numbers is not None and len(cells) >= 3


def _chip(
    first: tuple[int, str, str], cells: list[str], second_id: str, before: list[Chip]
) -> Chip:
    npu, name, health = first
    ids = [int(number) for number in re.findall(rf"\b{NUMBER}\b", cells[0])]
    second = ids[1] if len(ids) > 1 else None
    chip = Chip(
        npu=npu,
        # The 950 shows no chip id, and has one die an NPU.
        chip=ids[0] if ids else sum(other.npu == npu for other in before),
        name=name,
        health=health,
        phy=second if second_id == "Phy-ID" else None,
        logical=second if second_id == "Device" else None,
    )
    if len(cells) < 3 or not _is_second_row(cells):
        return chip
    # HBM where there is some, else (310P) the chip's DDR: always the last pair that is shown.
    pairs = USED_OF_TOTAL.findall(cells[-1])
    used, total = (int(number) * MIB for number in pairs[-1]) if pairs else (None, None)
    return replace(
        chip,
        bus_id=cells[1] if ":" in cells[1] else None,
        memory_used_bytes=used if total else None,
        memory_total_bytes=total or None,
    )


def _add_process(
    processes: dict[tuple[int, int | None], list[DeviceProcess]], cells: list[str]
) -> None:
    """`0  0 | 19334 | VLLMWorker_TP | 58472`; the 950 shows no chip."""
    ids = re.fullmatch(rf"({NUMBER})(?:\s+({NUMBER}))?", cells[0])
    if ids is None or len(cells) < 4 or not re.fullmatch(NUMBER, cells[1]):
        return
    size = re.search(NUMBER, cells[3])
    held = int(size.group()) * MIB if size else 0
    key = int(ids.group(1)), int(ids.group(2)) if ids.group(2) else None
    processes.setdefault(key, []).append(DeviceProcess(int(cells[1]), cells[2], held))


def _with_processes(
    chip: Chip, processes: dict[tuple[int, int | None], list[DeviceProcess]]
) -> Chip:
    held = [*processes.get((chip.npu, chip.chip), []), *processes.get((chip.npu, None), [])]
    return replace(chip, processes=tuple(held))
