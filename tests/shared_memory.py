"""What a process leaves in /dev/shm, where other tests' engines keep theirs meanwhile."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

from runner.supervision.processes import SHARED_MEMORY, shared_memory_of

# Between making a segment and mapping it, or unmapping and removing it.
MOMENT_S = 5.0


def segments() -> set[Path]:
    return {each for each in SHARED_MEMORY.iterdir() if not each.is_dir()}


def orphans(before: set[Path]) -> set[Path]:
    """Segments made since that no living process holds."""
    until = time.monotonic() + MOMENT_S
    while True:
        left = segments() - before - shared_memory_of(list(psutil.process_iter()))
        if not left or time.monotonic() > until:
            return left
        time.sleep(0.2)
