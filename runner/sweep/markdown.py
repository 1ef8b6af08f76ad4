"""Renders sweep.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from runner.language import gettext
from runner.present.formats import cell, fenced, interval, number, signed
from runner.stats.clusters import test_name
from runner.sweep.axis_findings import amount, bare_probability, settings
from runner.sweep.comparison import Comparison
from runner.sweep.conclusion import answer, counted_verdicts
from runner.sweep.effects import Effect
from runner.sweep.family import failed_lines, headline
from runner.sweep.screen import engine_start, engines, evaluation, findings, unexplained, value_of
from runner.sweep.summary import Sweep
from runner.tracking.links import Links
from runner.visible import visible


def page(
    sweep: Sweep,
    comparisons: tuple[Comparison, ...],
    links: Sequence[Links],
    figures: Mapping[str, str] | None = None,
) -> str:
    """Render the result, the points, the tests and the figures.

    `figures` maps paths in the sweep directory to alternative texts; None for a page that is read
    elsewhere and must not refer to files.
    """
    parts = [
        f"# {cell(answer(sweep, comparisons))}",
        gettext(
            "Sweep {id}, {verdicts}.", id=cell(sweep.id), verdicts=cell(counted_verdicts(sweep))
        ),
        *([gettext("{clause}.", clause=cell(headline(sweep)))] if headline(sweep) else []),
        "\n".join(
            f"{'  ' if below else ''}- {cell(line)}"
            for lines in findings(sweep, comparisons)
            for below, line in enumerate(lines)
        ),
        *([gettext("{clause}.", clause=engines(sweep))] if sweep.engine_starts else []),
        *(
            gettext(
                "In MLflow: [run table]({table}) · [charts]({charts}) · [comparison]({comparison})",
                table=each.table,
                charts=each.chart,
                comparison=each.compare,
            )
            for each in links
        ),
        "## " + gettext("Points"),
        _points(sweep, linked=figures is not None),
        "\n".join(f"- {cell(line)}" for line in [*failed_lines(sweep), *unexplained(sweep)]),
        *(_tests(sweep, comparisons) if comparisons else []),
        *(["## " + gettext("Figures")] if figures else []),
        *(f"![{cell(told)}]({path})" for path, told in (figures or {}).items()),
        *(["## " + gettext("Reproduce"), fenced(sweep.command, "bash")] if sweep.command else []),
    ]
    return visible("\n\n".join(part for part in parts if part)) + "\n"


def _points(sweep: Sweep, linked: bool) -> str:
    axes = [axis.short for axis in sweep.axes]
    head = ["", *axes, gettext("Verdict"), gettext("Metric"), gettext("Value")]
    head += [gettext("95 % interval"), "n", gettext("Baseline"), gettext("Difference")]
    head += [gettext("Evaluation"), gettext("Engine start")]
    rows = []
    for point in sweep.points:
        linked_here = linked and point.files.report.is_file()
        name = f"[{point.number}]({point.number}/report.md)" if linked_here else point.number
        places = [cell(axis.name(point.overrides.get(axis.key))) for axis in sweep.axes]
        for metric in sweep.compared_in(point):
            found = point.metrics[metric] if metric is not None else None
            value = value_of(point, metric)[0] if metric is not None else ""
            rows.append(
                [
                    str(name),
                    *places,
                    point.state,
                    cell(metric.name) if metric is not None else "",
                    value,
                    interval(found.interval, 3) if found is not None else "",
                    found.count if found is not None else "",
                    number(found.baseline, 3) if found is not None else "",
                    signed(found.difference, 3) if found is not None else "",
                    evaluation(point),
                    engine_start(point),
                ]
            )
    return _table(list(map(cell, head)), rows)


def _tests(sweep: Sweep, comparisons: tuple[Comparison, ...]) -> list[str]:
    text = gettext(
        "Points are compared in pairs on the same questions; two points are a pair if they differ "
        "in one axis only. p is adjusted (Holm) for all {count} comparisons, the interval is not. "
        "The detectable difference is detected with 80 % power.",
        count=len(comparisons),
    )
    if any(each.effect.drawn for each in comparisons):
        drawn = gettext(
            "Answers that are sampled with other seeds differ by chance; their texts are not "
            "compared (n/a)."
        )
        text = gettext("{first} {second}", first=text, second=drawn)
    head = [gettext("Axis"), gettext("Metric"), gettext("Values"), gettext("Pairs of points")]
    head += [gettext("Questions"), gettext("Unpaired"), gettext("Difference")]
    head += [gettext("95 % interval"), gettext("Better"), gettext("Worse")]
    head += [gettext("Answers differ"), gettext("Test"), "p", "p (Holm)"]
    head += [gettext("Detectable difference"), gettext("Significant")]
    yes, no = "**" + gettext("yes") + "**", gettext("no")
    rows = []
    for each in comparisons:
        seen = each.effect
        low_high = [amount(bound, seen.share) for bound in seen.interval or ()]
        rows.append(
            [
                cell(each.axis.short),
                cell(each.metric.name),
                cell(settings(each)),
                gettext("{pairs} of {possible}", pairs=seen.pairs, possible=each.possible),
                *map(str, (seen.n, seen.unpaired)),
                amount(seen.difference, seen.share),
                gettext("{low} to {high}", low=low_high[0], high=low_high[1]) if low_high else "",
                *map(str, seen.changes(sweep.higher_is_better(each.metric))),
                _differ(seen),
                test_name(seen.test),
                bare_probability(seen.p).replace("<", "&lt;"),
                bare_probability(each.p_holm).replace("<", "&lt;"),
                amount(each.detectable, seen.share, sign=False),
                yes if each.moves else no,
            ]
        )
    return ["## " + gettext("Effect of each axis"), text, _table(head, rows)]


def _differ(seen: Effect) -> str:
    """The number of questions with other answers; sampled ones with other seeds are left out."""
    if not seen.drawn:
        return str(seen.answers_differ)
    if seen.drawn == seen.n:
        return gettext("n/a")
    return gettext("{differ}, {drawn} not compared", differ=seen.answers_differ, drawn=seen.drawn)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
