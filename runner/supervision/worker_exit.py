"""How a worker process exits: by command, by the supervisor's signal, or without a supervisor."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import signal
import sys
from types import FrameType
from typing import NoReturn

from runner.supervision.processes import group_members, shared_memory_of


class Stopped(SystemExit):
    """Raised for the supervisor's SIGTERM. Any other SystemExit comes from a library."""


def stop(number: int, frame: FrameType | None) -> NoReturn:
    """Handle SIGTERM: what runs ends, and reports what it has."""
    raise Stopped(128 + number)


def leave() -> NoReturn:
    """Exit like Python, including vLLM's exit handlers, but without freeing memory.

    Freeing it object by object took two of a small run's seventeen seconds, and the two garbage
    collections in vLLM's exit handlers another one.
    """
    gc.disable()
    gc.collect = _collect_nothing
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _collect_nothing(generation: int = 2) -> int:
    return 0


def end_group(scratch: str) -> None:
    """Kill this process and its group, including the engine; remove what they leave behind."""
    for segment in shared_memory_of(group_members(os.getpgrp())):
        segment.unlink(missing_ok=True)
    shutil.rmtree(scratch, ignore_errors=True)
    os.killpg(os.getpgrp(), signal.SIGKILL)
