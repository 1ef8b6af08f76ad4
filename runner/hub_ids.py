"""What a name for weights means: an id on a hub, or a place on this machine."""

from __future__ import annotations

import re
from pathlib import Path

CACHED = re.compile(r"models--.+--(?P<name>[^/]+)/snapshots/[^/]+")


def is_path(name: str) -> bool:
    """Whether a name means a place on this machine; a hub's id reads owner/name."""
    return (
        Path(name).expanduser().exists()
        or Path(name).is_absolute()
        or name.startswith((".", "~"))
        or name.count("/") != 1
    )


def weights_name(pretrained: str) -> str:
    """What weights are called: the last part of a hub's id or of a directory."""
    cached = CACHED.search(pretrained)
    if cached:
        return cached["name"]
    return Path(pretrained).name or Path(pretrained).expanduser().resolve().name
