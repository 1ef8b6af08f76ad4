"""One sweep at a time in a directory: two would take each other's points for their own."""

from __future__ import annotations

import fcntl
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import IO

from runner.errors import UserError
from runner.rundir import remove_empty

NAME = ".lock"
# Held until this process ends, in whatever way.
_held: list[IO[str]] = []


def take(sweep: Path) -> None:
    """Keep other sweeps out of the directory, which is made.

    A directory that cannot be written to is left to whoever writes the first result.

    Raises:
        UserError: if a sweep runs there.
    """
    try:
        sweep.mkdir(parents=True, exist_ok=True)
        stream = (sweep / NAME).open("a+", encoding="utf-8")
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _held.append(stream)
        stream.seek(0)
        stream.truncate()
        stream.write(f"process {os.getpid()} on {socket.gethostname()}")
        stream.flush()
    except BlockingIOError:
        stream.seek(0)
        raise UserError(
            f"hydra.sweep.dir={sweep}: a sweep runs there ({stream.read()}); wait for its end, "
            "or leave hydra.sweep.dir out"
        ) from None
    except OSError:
        pass


def leave(sweep: Path) -> None:
    """Of a sweep that came to nothing, nothing stays: neither the lock nor what Hydra has noted."""
    made = [sweep / NAME, sweep / "multirun.yaml"]
    with suppress(OSError):
        if not set(sweep.iterdir()) - set(made):
            for file in made:
                file.unlink(missing_ok=True)
            remove_empty(sweep)
