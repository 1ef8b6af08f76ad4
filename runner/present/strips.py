"""Judged metrics as strips: value, interval, baseline and tolerated range."""

from __future__ import annotations

import math
from collections.abc import Sequence

from runner.present.drawing import Scale, Strip, scale
from runner.verdict import MetricVerdict

# Colour class by status.
COLOURS = {"PASSED": "good", "FAILED": "bad"}


def strips(judged: Sequence[MetricVerdict]) -> tuple[Scale | None, list[Strip | None]]:
    """Return strips on a common scale if all values are shares, else on individual scales.

    The scale is None if it is not common; a metric without a value has no strip.
    """
    ends = [_ends(each) for each in judged]
    flat = [end for row in ends for end in row]
    together = bool(flat) and all(0 <= end <= 1 for end in flat)
    common = scale(flat, (0.0, 1.0)) if together else None
    return common, [
        (common or scale(own)).strip(each.value, each.interval, each.baseline, each.tolerated)
        if each.value is not None
        else None
        for each, own in zip(judged, ends, strict=True)
    ]


def told(metric: MetricVerdict) -> str:
    """Return the alternative text of a strip."""
    said = [f"value {metric.value:.3f}" if metric.value is not None else "not measured"]
    if metric.interval is not None:
        said.append(f"95 % interval {metric.interval[0]:.3f} to {metric.interval[1]:.3f}")
    if metric.baseline is not None:
        said.append(f"baseline {metric.baseline:.3f}")
    low, high = metric.tolerated or (None, None)
    if low is not None and high is not None:
        said.append(f"tolerated {low:.3f} to {high:.3f}")
    elif low is not None or high is not None:
        said.append(f"tolerated {'from' if high is None else 'up to'} {low or high:.3f}")
    return ", ".join(said)


def _ends(metric: MetricVerdict) -> list[float]:
    known = (
        *(metric.interval or ()),
        metric.value,
        metric.baseline,
        *(metric.tolerated or ()),
    )
    return [end for end in known if end is not None and math.isfinite(end)]
