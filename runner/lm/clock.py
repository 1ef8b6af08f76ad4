"""Measures how long the parts of a run take."""

from __future__ import annotations

import time


class Clock:
    """Seconds between laps, summed by name, on a monotonic clock."""

    def __init__(self, timings: dict[str, float]) -> None:
        self._timings = timings
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self._timings[name] = self._timings.get(name, 0.0) + now - self._last
        self._last = now
