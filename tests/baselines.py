"""Baselines of which nothing is known but their values."""

from __future__ import annotations

from runner.baseline import Baseline, Baselines


def exact(values: dict[str, dict[str, float]]) -> Baselines:
    return {
        metric: {name: Baseline(value) for name, value in filters.items()}
        for metric, filters in values.items()
    }
