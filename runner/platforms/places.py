"""Where a machine's files lie: `ASCEND_MACHINE_ROOT` stands for `/` where it is set.

For a host's file system that is mounted elsewhere (`ASCEND_MACHINE_ROOT=/host`), and for tests.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

ROOT_VARIABLE = "ASCEND_MACHINE_ROOT"
LONGEST_FILE = 1 << 20


def below_root(path: Path) -> Path:
    """The place that stands for an absolute path."""
    root = os.environ.get(ROOT_VARIABLE)
    return Path(root) / path.relative_to("/") if root else path


def value(file: Path, pattern: str) -> str | None:
    """Return the first group of the pattern, matched at the start of a line of the file.

    From its start, because `innerversion=` and `compatible_version=` hold the word `version=` too.
    """
    try:
        with file.open("rb") as stream:
            text = stream.read(LONGEST_FILE).decode(errors="replace")
    except (OSError, ValueError):
        return None
    found = re.search(rf"^{pattern}\s*$", text, re.MULTILINE)
    return found.group(1).strip() or None if found else None
