"""python -m runner.doctor: one page about this machine and its problems."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from runner.doctor.diagnosis import Diagnosis, examine
from runner.platforms import Device
from runner.platforms.npus import VISIBLE
from runner.report import terminal

HELP = """\
Checks devices, versions, hubs, caches and the MLflow store, and prints each problem with its fix.
Starts no engine, initialises no device, writes nothing.

Environment variables: ASCEND_RT_VISIBLE_DEVICES, ASCEND_HOME_PATH, HF_ENDPOINT, HF_HUB_OFFLINE,
HF_HOME, MODELSCOPE_CACHE, MLFLOW_TRACKING_URI; ASCEND_MACHINE_ROOT is the root of the machine's
file system, if it is not /.

Exit status: 0 no problems · 1 problems found
"""
WRONG = 1


def main(arguments: list[str] | None = None) -> int:
    """Print the page, or one JSON object; return the exit status."""
    parser = argparse.ArgumentParser(
        "python -m runner.doctor",
        description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print only one JSON object")
    try:
        given = parser.parse_args(arguments)
    except SystemExit as error:
        return WRONG if error.code else 0
    found = examine()
    if given.json:
        print(json.dumps(asdict(found), indent=2))
    else:
        show(terminal.console(), found)
    return WRONG if found.wrong else 0


def show(out: Console, found: Diagnosis) -> None:
    """Print the page."""
    out.print(f"engine={found.engine}: {found.hardware or 'no device'}")
    if found.engine != "cpu":
        _section(out, _devices_title(found), _device_rows(found))
    _section(out, _versions_title(found), _version_rows(found))
    _section(out, "Hubs", ([hub.name, hub.address, hub.detail] for hub in found.hubs))
    _section(out, "Caches", _cache_rows(found))
    if found.tracking is not None:
        usable = (
            "usable" if not (found.tracking.problems or found.tracking.warnings) else "see below"
        )
        _section(out, "MLflow", [[found.tracking.uri, usable]])
    _findings(out, "Notes", found.notes)
    if found.wrong:
        _findings(out, f"Problems ({len(found.wrong)})", found.wrong)
    else:
        out.print("\nNo problems found.")


def _section(out: Console, title: str, rows: Iterable[list[str]]) -> None:
    filled = [column for column in zip(*rows, strict=True) if any(column)]
    table = Table.grid(padding=(0, 2))
    for row in zip(*filled, strict=True):
        table.add_row("", *row)
    for column in table.columns:
        column.overflow = "fold"
    out.print(f"\n{title}")
    out.print(table, soft_wrap=False)


def _findings(out: Console, title: str, lines: list[str]) -> None:
    if lines:
        _section(out, title, ([f"{number}.", line] for number, line in enumerate(lines, 1)))


def _devices_title(found: Diagnosis) -> str:
    title = "NPUs" if found.engine == "ascend" else "GPUs"
    if any(device.ids for device in found.devices):
        title += ": the index that the engine uses, and npu-smi's own ids"
    written = os.environ.get(VISIBLE) if found.engine == "ascend" else None
    if written is None:
        return title
    return (
        f"{title} ({VISIBLE}={written}: {len(found.visible)} of {len(found.devices)} are visible)"
    )


def _device_rows(found: Diagnosis) -> Iterable[list[str]]:
    for device in found.devices:
        held = ", ".join(f"{each.name} (pid {each.pid})" for each in device.processes)
        seen = "" if device.index in found.visible else "not visible"
        health = "" if found.engine != "ascend" else f"health {device.health}"
        own = str(device.ids or "")
        yield [str(device.index), own, device.name, health, _memory(device), held or seen]


def _memory(device: Device) -> str:
    if device.memory_total_bytes is None:
        return "memory unknown"
    total = f"{device.memory_total_bytes / (1 << 30):.1f} GiB"
    if device.memory_used_bytes is None:
        return total
    return f"{device.memory_used_bytes / (1 << 30):4.1f} of {total} used"


def _versions_title(found: Diagnosis) -> str:
    compared = [version for version in found.versions if version.belongs]
    if compared and all(version.fits for version in compared):
        return "Versions (compatible)"
    return "Versions"


def _version_rows(found: Diagnosis) -> Iterable[list[str]]:
    for version in found.versions:
        remark = "" if version.fits or not version.belongs else f"expected: {version.belongs}"
        if version.name == "vllm-ascend" and found.built_for:
            remark = ", ".join(filter(None, [f"built for {found.built_for}", remark]))
        yield [version.name, version.here, remark]


def _cache_rows(found: Diagnosis) -> Iterable[list[str]]:
    for cache in found.caches:
        holds = f"entries: {cache.holds}" if cache.exists else "does not exist yet"
        free = "" if cache.free_bytes is None else f"{cache.free_bytes / (1 << 30):.0f} GiB free"
        yield [cache.name, cache.path, holds, free]


if __name__ == "__main__":
    sys.exit(main())
