"""Find the processes of one group and the shared memory that they would leave behind."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

SHARED_MEMORY = Path("/dev/shm")


def group_members(leader: int) -> list[psutil.Process]:
    """Return every living process of the leader's group, including orphaned children."""
    members = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
        except (ProcessLookupError, psutil.Error):
            continue
    return members


def has_ended(process: psutil.Process) -> bool:
    """Return whether the process has ended, also if its parent has not reaped it yet."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def name_of(process: psutil.Process) -> str:
    """Return `VLLM::EngineCore, pid 4711`; a process that has just ended has no name."""
    try:
        return f"{process.name()}, pid {process.pid}"
    except psutil.Error:
        return f"pid {process.pid}"


def shared_memory_of(processes: list[psutil.Process]) -> set[Path]:
    """Return the files in /dev/shm that the processes would leave behind when killed.

    That is what they have mapped, and the semaphores of joblib, which are named by process.
    """
    segments = set()
    for process in processes:
        segments |= set(SHARED_MEMORY.glob(f"sem.loky-{process.pid}-*"))
        try:
            maps = Path(f"/proc/{process.pid}/maps").read_text()
        except OSError:
            continue
        for line in maps.splitlines():
            name = line.partition(f"{SHARED_MEMORY}/")[2]
            if name and not name.endswith("(deleted)"):
                segments.add(SHARED_MEMORY / name)
    return segments
