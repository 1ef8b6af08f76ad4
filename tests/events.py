"""A run's events while it writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def events(file: Path) -> list[dict[str, Any]]:
    """Return the events of the lines that are complete; none if there is no file yet."""
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]
