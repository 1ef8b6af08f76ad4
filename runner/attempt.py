"""One run, to whatever end: a user's mistake is a message, our own failure leaves a traceback."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from runner import secrecy
from runner.errors import FULL, UserError
from runner.visible import visible

USAGE_ERROR, INFRASTRUCTURE, INTERRUPTED = 1, 2, 130


def attempt(action: Callable[[], int], directory: Path) -> tuple[int, tuple[str, ...]]:
    """The exit status, and the problems of a run that was refused; an interruption passes."""
    try:
        return action(), ()
    except UserError as error:
        complain(error)
        return USAGE_ERROR, error.problems
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL:
            complain(UserError(f"{_place(error, directory)}: {error.strerror}; the run ends here"))
        else:
            traceback.print_exc()
            from runner.run import record_failure

            with suppress(OSError):
                record_failure(directory, error)
        return INFRASTRUCTURE, ()


def _place(error: OSError, directory: Path) -> str:
    """What is full: where the run's files go, or wherever else a file was to be written."""
    file = error.filename
    if isinstance(file, str) and not Path(file).absolute().is_relative_to(directory.absolute()):
        return file
    return f"output_dir={directory}"


def complain(error: UserError) -> None:
    """One message on standard error, a line a problem."""
    for number, problem in enumerate(error.problems):
        tell(f"{'error:' if number == 0 else '      '} {problem}")


def warn(text: str) -> None:
    """A line on standard error."""
    tell(f"warning: {text}")


def tell(line: str) -> None:
    """The same without a word before it; no secret and nothing unseen is in it."""
    print(secrecy.blotted(visible(line)), file=sys.stderr)
