"""Compares every value of every axis with the first value of that axis."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runner.stats import ALPHA
from runner.stats.several import holm
from runner.sweep.answers import Answers
from runner.sweep.effects import Effect, effect
from runner.sweep.summary import Axis, MetricId, Sweep, SweptPoint

# By metric and number of the point.
Asked = Mapping[MetricId, Mapping[int, Answers]]


@dataclass(frozen=True)
class Comparison:
    """One value of an axis compared with its reference, in one metric.

    `effect` is of `effect.pairs` pairs of points, out of `possible` pairs that the sweep asked for.
    `p_holm` is adjusted for all comparisons of the sweep, `comparisons` in number.
    """

    metric: MetricId
    axis: Axis
    value: str
    reference: str
    possible: int
    effect: Effect
    p_holm: float
    comparisons: int

    @property
    def moves(self) -> bool:
        return self.p_holm < ALPHA

    @property
    def detectable(self) -> float:
        return self.effect.detectable(self.comparisons)


def compare(sweep: Sweep, asked: Asked) -> tuple[Comparison, ...]:
    """Return all possible comparisons, in the order of metrics, axes and values.

    Two points are a pair if they agree in every override but the axis's. The reference is the first
    value, as it was asked, that any point was measured with.
    """
    found: list[tuple[MetricId, Axis, str, str, int, Effect]] = []
    for metric in sweep.compared:
        answers = asked.get(metric, {})
        measured = [point for point in sweep.points if point.number in answers]
        for axis in sweep.axes:
            there = {point.overrides.get(axis.key) for point in measured}
            values = [value for value in axis.values if value in there]
            for value in values[1:]:
                pairs = [
                    (answers[first.number], answers[second.number])
                    for first, second in _pairs(measured, axis, values[0], value)
                ]
                if (judged := effect(pairs)) is not None:
                    possible = len(_pairs(_wanted(sweep, metric), axis, values[0], value))
                    found.append((metric, axis, value, values[0], possible, judged))
    adjusted = holm([each[-1].p for each in found])
    return tuple(
        Comparison(*each, p_holm=p, comparisons=len(found))
        for each, p in zip(found, adjusted, strict=True)
    )


def measured_apart(sweep: Sweep, metric: MetricId, axis: Axis) -> bool:
    """Return whether two points that differ only in this axis both have the metric."""
    measured = [point for point in sweep.points if point.measured(metric) is not None]
    return any(
        _pairs(measured, axis, first, second)
        for first, second in itertools.combinations(axis.values, 2)
    )


def _wanted(sweep: Sweep, metric: MetricId) -> list[SweptPoint]:
    """Points that were to measure the metric: not those of another task."""
    own = [point for point in sweep.points if metric in point.metrics]
    unknown = [point for point in sweep.points if not point.metrics]
    several_tasks = len(own) + len(unknown) < len(sweep.points)
    return own if several_tasks else [*own, *unknown]


def _pairs(
    points: Sequence[SweptPoint], axis: Axis, first: str, second: str
) -> list[tuple[SweptPoint, SweptPoint]]:
    def elsewhere(point: SweptPoint) -> frozenset[tuple[str, str]]:
        return frozenset(item for item in point.overrides.items() if item[0] != axis.key)

    references = {elsewhere(p): p for p in points if p.overrides.get(axis.key) == first}
    return [
        (references[place], point)
        for point in points
        if point.overrides.get(axis.key) == second and (place := elsewhere(point)) in references
    ]
