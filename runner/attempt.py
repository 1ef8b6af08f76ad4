"""Run once: user errors become a message, internal failures leave a traceback."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from runner import secrecy
from runner.errors import FULL, UserError
from runner.messages import complain
from runner.rundir import RunDirectory, write_json
from runner.status import EXIT_STATUS, INFRASTRUCTURE, USAGE_ERROR, Status
from runner.verdict import Verdict


def attempt(action: Callable[[], int], directory: Path) -> tuple[int, tuple[str, ...]]:
    """Run the action; return its exit status and the problems of a refused run."""
    try:
        return action(), ()
    except UserError as error:
        complain(error)
        return USAGE_ERROR, error.problems
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL:
            complain(UserError(f"{_place(error, directory)}: {error.strerror}; the run stopped"))
        else:
            traceback.print_exc()
            with suppress(OSError):
                record_failure(directory, error)
        return INFRASTRUCTURE, ()


def record_failure(directory: Path, error: Exception) -> None:
    """Record an internal failure: traceback in the run's log, verdict ERROR.

    A directory that no run has claimed, and a verdict that was reached before, stay as they are.
    """
    files = RunDirectory(directory)
    if not files.config.exists() or files.verdict.exists():
        return
    with files.engine_log.open("a", encoding="utf-8") as log:
        traceback.print_exception(type(error), error, error.__traceback__, file=log)
    secrecy.blot(files.engine_log)
    reason = secrecy.blotted(f"{type(error).__name__}: {error}")
    write_json(files.verdict, Verdict(Status.ERROR, reason, "", (), EXIT_STATUS[Status.ERROR]))


def _place(error: OSError, directory: Path) -> str:
    """What is full: where the run's files go, or wherever else a file was to be written."""
    file = error.filename
    if isinstance(file, str) and not Path(file).absolute().is_relative_to(directory.absolute()):
        return file
    return f"output_dir={directory}"
