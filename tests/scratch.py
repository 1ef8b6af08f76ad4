"""What workers have left in the temporary directory."""

from __future__ import annotations

import tempfile
from pathlib import Path

import psutil

from runner.supervision.processes import SCRATCH


def scratch(workers: list[psutil.Process]) -> list[Path]:
    """The directories of theirs that are still there."""
    temporary = Path(tempfile.gettempdir())
    return [left for each in workers for left in temporary.glob(f"{SCRATCH}{each.pid}-*")]
