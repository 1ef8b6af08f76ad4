"""Locks a sweep directory: two sweeps there would mix up their points."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import IO

from filelock import lock_descriptor

from runner.errors import UserError
from runner.rundir import remove_empty

NAME = ".lock"
# Held until this process ends.
_held: list[IO[str]] = []


def take(sweep: Path) -> None:
    """Create and lock the directory.

    A directory that is not writable is reported when the first result is written. A file system
    without locks does not prevent the sweep.

    Raises:
        UserError: if another sweep is running there.
    """
    try:
        sweep.mkdir(parents=True, exist_ok=True)
        stream = (sweep / NAME).open("a+", encoding="utf-8")
        if not lock_descriptor(stream.fileno(), blocking=False):
            with stream:
                stream.seek(0)
                holder = stream.read()
            raise UserError(
                f"hydra.sweep.dir={sweep}: another sweep is running there ({holder}); wait until "
                "it ends, or remove hydra.sweep.dir"
            )
        _held.append(stream)
        stream.seek(0)
        stream.truncate()
        stream.write(f"process {os.getpid()} on {socket.gethostname()}")
        stream.flush()
    except OSError:
        pass


def leave(sweep: Path) -> None:
    """Remove the lock and Hydra's file of a sweep that wrote nothing else."""
    made = [sweep / NAME, sweep / "multirun.yaml"]
    with suppress(OSError):
        if not set(sweep.iterdir()) - set(made):
            for file in made:
                file.unlink(missing_ok=True)
            remove_empty(sweep)
