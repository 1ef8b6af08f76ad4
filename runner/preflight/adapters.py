"""Check a local adapter before an engine loads it."""

from __future__ import annotations

from pathlib import Path

from runner.adapters import CONFIG
from runner.config.schema import RunConfig
from runner.hub_ids import is_path
from runner.runtimes import runtime_of


def problems(config: RunConfig) -> list[str]:
    """Return a line if a local adapter is missing or is not an adapter."""
    key = runtime_of(config.engine.runtime).adapter_key
    place = config.engine.extra.get(key)
    if not isinstance(place, str) or not is_path(place):
        return []  # none, or a hub's
    directory = Path(place).expanduser()
    if not directory.is_dir():
        return [f"engine.extra.{key}={place}: no such directory"]
    if not (directory / CONFIG).is_file():
        return [f"engine.extra.{key}={place}: not an adapter; {CONFIG} is missing"]
    return []
