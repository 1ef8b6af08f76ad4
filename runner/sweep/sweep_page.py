"""Renders sweep.html: a self-contained page with links to each point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runner.present.formats import number, signed
from runner.present.strips import COLOURS, Scale, Strip, scale, strips, told
from runner.present.template import template
from runner.stats.clusters import test_name
from runner.sweep.axis_findings import amount, bare_probability, settings
from runner.sweep.comparison import Comparison
from runner.sweep.conclusion import answer
from runner.sweep.family import failed_lines, headline
from runner.sweep.figures import Figure
from runner.sweep.screen import engine_start, engines, evaluation, findings, unexplained
from runner.sweep.summary import MetricId, Sweep, SweptPoint
from runner.tracking.links import Links
from runner.tracking.tracked import run_page
from runner.verdict import MetricVerdict


@dataclass(frozen=True)
class Row:
    """A row of the table of points: one compared metric of a point, or none."""

    point: SweptPoint
    first: bool
    metric: MetricId | None
    found: MetricVerdict | None
    mark: Strip | None
    report: str
    mlflow: str
    evaluation: str
    engine_start: str


def render(
    sweep: Sweep,
    comparisons: tuple[Comparison, ...],
    links: Sequence[Links],
    figures: Sequence[Figure],
) -> str:
    """Render the page: result, points, tests and figures."""
    rows, line = _rows(sweep)
    page = template(
        "sweep.html.j2",
        amount=amount,
        number=number,
        probability=bare_probability,
        settings=settings,
        signed=signed,
        test_name=test_name,
    )
    return page.render(
        sweep=sweep,
        answer=answer(sweep, comparisons),
        counts=sweep.counts(),
        headline=headline(sweep),
        findings=findings(sweep, comparisons),
        engines=engines(sweep) if sweep.engine_starts else "",
        notes=[*failed_lines(sweep), *unexplained(sweep)],
        rows=rows,
        line=line,
        tests=list(zip(comparisons, _differences(comparisons), strict=True)),
        figures=figures,
        links=links,
        colours=COLOURS,
        told=told,
    )


def _rows(sweep: Sweep) -> tuple[list[Row], Scale | None]:
    places = [(point, metric) for point in sweep.points for metric in sweep.compared_in(point)]
    found = [point.metrics[metric] if metric is not None else None for point, metric in places]
    line, marks = strips([each for each in found if each is not None])
    waiting = iter(marks)
    rows = []
    for number_, ((point, metric), verdict) in enumerate(zip(places, found, strict=True)):
        rows.append(
            Row(
                point=point,
                first=number_ == 0 or places[number_ - 1][0] is not point,
                metric=metric,
                found=verdict,
                mark=next(waiting) if verdict is not None else None,
                report=_report(point),
                mlflow=run_page(point.tracked) if point.tracked is not None else "",
                evaluation=evaluation(point),
                engine_start=engine_start(point),
            )
        )
    return rows, line


def _report(point: SweptPoint) -> str:
    """Relative path of the point's own page; empty if there is none."""
    for file in (point.files.report_html, point.files.report):
        if file.is_file():
            return f"{point.number}/{file.name}"
    return ""


def _differences(comparisons: Sequence[Comparison]) -> list[Strip]:
    """On one scale where all scores are shares, else each on its own."""
    ends = [[each.effect.difference, 0.0, *(each.effect.interval or ())] for each in comparisons]
    together = all(each.effect.share for each in comparisons)
    common = scale([end for row in ends for end in row]) if together else None
    return [
        (common or scale(own)).strip(each.effect.difference, each.effect.interval, 0.0)
        for each, own in zip(comparisons, ends, strict=True)
    ]
