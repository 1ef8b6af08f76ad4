"""Wait until an ended engine has released its device memory before the next one starts."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable

from runner.plan import Plan
from runner.platforms import PLATFORMS
from runner.platforms.base import MEMORY_SHARE
from runner.platforms.npus import taken

# An NPU has been seen to take 50 s (vllm-ascend's tests wait as long, PR 7412).
LONGEST_S = 90.0
# npu-smi takes a second or two, and its answer is kept for five (runner.platforms.ascend).
EVERY_S = 5.0


def wait_for_memory(plan: Plan, say: Callable[[str], None]) -> None:
    """Wait until the plan's devices have enough free memory, or the time is up.

    Time that is up is no error here: the engine says best what it lacks.
    """
    began = time.monotonic()
    waiting = False
    while lacking := _lacking(plan):
        waited = time.monotonic() - began
        if waited > LONGEST_S:
            say(f"no memory was freed in {waited:.0f} s; continuing")
            return
        if not waiting:
            say(f"waiting for memory, up to {LONGEST_S:.0f} s: {'; '.join(lacking)}")
        waiting = True
        time.sleep(EVERY_S)
    if waiting:
        say(f"memory is free after {time.monotonic() - began:.0f} s")


def _lacking(plan: Plan) -> list[str]:
    """Each device of this machine's that the engine will use and that has no room for it."""
    arguments = plan.engine_args
    if plan.platform == "cpu" or arguments.get("distributed_executor_backend") == "ray":
        return []  # no device of its own; devices that Ray chooses, on any node
    try:
        seen = PLATFORMS[plan.platform].devices({**os.environ, **plan.environment})
    except (OSError, subprocess.SubprocessError):
        return []  # who cannot be asked is not waited for
    share = float(arguments.get("gpu_memory_utilization", MEMORY_SHARE))
    return [
        f"device {each.index}: {why}"
        for each in seen[: plan.devices]
        if (why := taken(each, share))
    ]
