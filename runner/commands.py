"""What the commands beside `python -m runner` share: the MLflow option, the output directory,
and the exit status.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from runner import language
from runner.errors import UserError, cause
from runner.messages import complain
from runner.status import INFRASTRUCTURE, INTERRUPTED, USAGE_ERROR


def add_uri(parser: argparse.ArgumentParser) -> None:
    """Add `--uri`, the MLflow store in which run ids and aliases are looked up."""
    parser.add_argument(
        "--uri",
        default=os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd()}/mlflow.db",
        help="MLflow tracking URI (default: MLFLOW_TRACKING_URI, or mlflow.db in the working "
        "directory)",
    )


def add_language(parser: argparse.ArgumentParser) -> None:
    """Add `--lang`, the language of what the command writes; pass it to `language.use`."""
    parser.add_argument(
        "--lang",
        choices=language.LANGUAGES,
        help="language of the result (default: that of LC_ALL, LC_MESSAGES or LANG)",
    )


def create(output: Path) -> None:
    """Create the directory that `--output` names.

    Raises:
        UserError: if it can't be created.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {output}: not writable ({error.strerror})") from error


def perform(action: Callable[[], int], result: str, interrupted: str = "interrupted") -> int:
    """Return the exit status of an action; its errors are printed.

    `result` is what it writes, for the message if it can't.
    """
    try:
        return action()
    except UserError as error:
        complain(error)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        complain(UserError(f"could not write the {result}: {cause(error)}"))
        return INFRASTRUCTURE
    except Exception:
        traceback.print_exc()
        return INFRASTRUCTURE
