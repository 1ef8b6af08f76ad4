"""What is done to a run: its processes, its disk, its clock, its journal, its names."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from random import Random

from runner.status import INTERRUPTED

# What is done to a run, and the exit statuses that it may end with; 0 where it came too late.
HARM: dict[str, tuple[int, ...]] = {
    "worker killed": (2, 0),
    "parent killed": (-signal.SIGKILL, 0),
    "both killed": (-signal.SIGKILL, 0),
    "terminated": (INTERRUPTED, 0),
    "worker killed, tried again": (0,),
    "worker killed, journal torn": (2, 0),
    "beside another": (0,),
    "no room for samples": (2,),
    "disk full": (2,),
    "clock set back": (0,),
}
# Names that a task or a model of a user's may have.
HOSTILE = ("../../escaped", "long" * 75, "🙂 <script>alert(1)</script>", "two\nlines", "a|b`c`")
HOSTILE += ("\x1b]0;title\x07\x1b[2J\u202e\u2028",)
# The worker's largest file where there is "no room for samples", and a disk that a run fills.
LARGEST_FILE, DISK = 9000, "size=48k"


def kill(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def set_back_clock() -> None:
    """The wall clock loses an hour with every look at it; the monotonic one does not."""
    real, looks = time.time, iter(range(1 << 30))
    time.time = lambda: real() - 3600 * next(looks)  # type: ignore[assignment]


def mounted(directory: Path) -> bool:
    """A small disk of its own, where this user may mount one."""
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", DISK, "none", str(directory)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def unmount(directory: Path) -> None:
    subprocess.run(["umount", str(directory)], check=True)


def can_mount(directory: Path) -> bool:
    able = mounted(directory)
    if able:
        unmount(directory)
    return able


def tear(file: Path, random: Random) -> None:
    """Cut the end of an attempt's answers off, or let half a line follow."""
    content = file.read_bytes()
    if random.random() < 0.5:
        file.write_bytes(content[: -random.randint(1, 300)])
    else:
        file.write_bytes(content + b'1234abcd ["0f3a')


def tasks_below(directory: Path) -> Path:
    """Those of this folder, and one for each hostile name."""
    shutil.copytree(Path(__file__).parent / "tasks", directory)
    template = (directory / "standin_generate.yaml").read_text()
    for number, name in enumerate(HOSTILE):
        text = template.replace(
            "task: standin_generate", f"task: {json.dumps(name, ensure_ascii=False)}"
        )
        (directory / f"hostile_{number}.yaml").write_text(text)
    return directory
