"""Make valid MLflow names of metrics, parameters, tags, runs and experiments."""

from __future__ import annotations

import hashlib
import re

from runner.visible import visible

# What MLflow allows in a metric's name besides letters and digits, its slashes apart.
NOT_IN_NAMES = re.compile(r"[^\w\-. :]")
# MLflow takes 250 characters in a metric's name, which has three parts here and an ending.
LONGEST_PART = 70
# Of an experiment's or run's name; of a key.
LONGEST_NAME, LONGEST_KEY = 200, 250


def in_name(part: str) -> str:
    """Return a valid part of a metric's name, which MLflow treats as a path component."""
    return _short(re.sub(r"^\.+|^$", "_", NOT_IN_NAMES.sub("_", part)), LONGEST_PART)


def key(name: str) -> str:
    """Return a valid key of a parameter or a tag."""
    return _short(re.sub(r"^[./]+|^$", "_", NOT_IN_NAMES.sub("_", name)), LONGEST_KEY)


def line(name: str) -> str:
    """Return a name that fits in one line of a table."""
    return _short(visible(" ".join(name.split())) or "unnamed", LONGEST_NAME)


def _short(name: str, longest: int) -> str:
    """Cut, and still different from what begins alike."""
    if len(name) <= longest:
        return name
    return f"{name[: longest - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
