"""Groups points that share an engine."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TypeVar

from runner.config.schema import RunConfig


@dataclass(frozen=True)
class Size:
    """Devices that one engine needs."""

    platform: str
    ranks: int


def engine_key(config: RunConfig) -> str:
    """Return a key that is equal for points one engine can serve, from the configuration alone.

    The machine adds the same to each of them; the supervisor compares whole fingerprints.
    """
    model = asdict(config.model)
    for name in ("name", "hardware", "source", "ask", "baselines", "by_series", "origins"):
        del model[name]
    parts = [model, asdict(config.parallelism), asdict(config.engine), asdict(config.source)]
    return json.dumps([*parts, config.sweep.repeat], sort_keys=True, default=str)


def size(config: RunConfig) -> Size:
    return Size(config.engine.platform, config.parallelism.devices)


T = TypeVar("T")


def grouped(items: Iterable[tuple[RunConfig, T]]) -> list[list[T]]:
    """Group items by engine, in the order of their first item."""
    groups: dict[str, list[T]] = {}
    for config, item in items:
        groups.setdefault(engine_key(config), []).append(item)
    return list(groups.values())
