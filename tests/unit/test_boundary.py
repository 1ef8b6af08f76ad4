"""The boundary of a verdict: its numbers for each rule and direction, and that figures draw it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from runner.audit.entry import Entry, audit
from runner.audit.figure import figure
from runner.compare.figures import strips
from runner.compare.scores import Scores
from runner.config.verdict import MetricRuleConfig, NumericsConfig, ReplayConfig, VerdictConfig
from runner.evidence.samples import Sample
from runner.present.plots import BAD, SVG, WASH, styled
from runner.present.strips import strips as judged_strips
from runner.present.strips import told
from runner.report.subjects import by_subject
from runner.status import Status
from runner.sweep.accuracy import accuracy
from runner.sweep.figures import draw
from runner.sweep.heatmap import heat_map
from runner.sweep.summary import MetricId, Sweep, read_sweep
from runner.verdict import MetricVerdict, judge
from runner.verdict.boundary import Range, of_margin, outside, said
from runner.verdict.rule import Noise
from tests.baselines import exact
from tests.sweeps import Asked, Found, build, grid
from tests.unit.test_page import LEAVES, asked, of_rows, row
from tests.unit.test_verdict_replay import NOISE, RULE, N, judged, stack, texts
from tests.unit.test_verdict_rules import (
    PAIRED,
    against,
    only,
    paired,
    questions,
    run,
    shifted,
    spoken,
)
from tests.unit.test_verdict_rules import asked as evaluation

TP, DTYPE = "parallelism.tp", "engine.dtype"
ACC = MetricId("mini", "acc", "none")


# The numbers


def of_rule(rule: VerdictConfig, tolerance: float | None = None) -> Range | None:
    """The boundary for a baseline of 0.8."""
    own = questions([1.0] * 80 + [0.0] * 20)
    known = exact({"acc": {"none": 0.8}})
    stated = replace(known["acc"]["none"], tolerance=tolerance)
    way = replace(evaluation(0.8), baselines={"acc": {"none": stated}})
    return only(judge(run(own), (way,), rule, own)).tolerated


def lower_is_better(rule: VerdictConfig) -> VerdictConfig:
    own = {"t": {"acc": {"none": MetricRuleConfig(higher_is_better=False)}}}
    return replace(rule, metrics=own)


NOT_WORSE = VerdictConfig(rule="not_worse", margin=0.1)


@pytest.mark.parametrize(
    ("rule", "tolerance", "expected"),
    [
        (VerdictConfig(rtol=0.05), None, (0.8 / 1.05, 0.8 / 0.95)),
        (VerdictConfig(rtol=0.05), 0.03, (0.77, 0.83)),
        (lower_is_better(VerdictConfig(rtol=0.05)), None, (0.8 / 1.05, 0.8 / 0.95)),
        (NOT_WORSE, None, (0.7, None)),
        (lower_is_better(NOT_WORSE), None, (None, 0.9)),
    ],
)
def test_the_range_around_a_baseline(
    rule: VerdictConfig, tolerance: float | None, expected: Range
) -> None:
    assert of_rule(rule, tolerance) == pytest.approx(expected)


def test_the_range_of_paired_ends_below_the_reference_runs_value() -> None:
    scores = [1.0] * 60 + [0.0] * 40
    assert only(paired(scores, scores)).tolerated == pytest.approx((0.58, None))
    own = questions(scores)
    found = judge(run(own), (evaluation(),), lower_is_better(PAIRED), own, against(own))
    assert only(found).tolerated == pytest.approx((None, 0.62))


def test_the_range_of_numerics_ends_at_the_limit_of_its_value() -> None:
    base = spoken((5, 7), (-0.5, -0.1), (1.0, 3.0))
    assert shifted(base, base).tolerated == (None, 0.2)
    assert shifted(base, base, p99=0.7).tolerated == (None, 0.7)
    found = judge(
        run(base),
        (evaluation(),),
        VerdictConfig(rule="numerics", reference="other", numerics=NumericsConfig(p99=None)),
        base,
        against(base),
    )
    assert only(found).tolerated is None
    sums = [replace(each, choice_logprobs=(-1.0, -2.0)) for each in base]
    assert shifted(sums, sums).tolerated is None  # a limit per token is none for a sum


def test_the_range_of_replay_ends_where_the_mean_square_reaches_the_limit() -> None:
    """The noise moves texts by 0.01 nats per token: an RMS of sqrt(3) x 0.01 is tolerated."""
    reference = texts([-10.0] * N, 100)
    noise = [Noise("other", texts([-11.0 if n % 2 else -9.0 for n in range(N)], 100))]
    own = texts([-10.0 - 0.1 * (n % 3) for n in range(N)], 100)
    (metric,) = judged(own, noise=noise, reference=reference).metrics
    assert metric.tolerated == (None, pytest.approx(math.sqrt(3) * 0.01))
    wider = replace(RULE, replay=ReplayConfig(noise=["other"], factor=5.0))
    (metric,) = judged(own, noise=noise, reference=reference, rule=wider).metrics
    assert metric.tolerated == (None, pytest.approx(math.sqrt(5) * 0.01))
    (metric,) = judged(reference, noise=(), reference=reference).metrics
    assert metric.tolerated == (None, 0.3)
    (metric,) = judged(texts([-10.0] * N), noise=(), reference=texts([-10.0] * N)).metrics
    assert metric.tolerated is None  # sums, without noise
    (metric,) = judged(stack(0.05, 2), noise=NOISE).metrics
    assert metric.tolerated is None  # divergences, which are in another unit than the value


def a_metric(value: float, tolerated: Range | None, rule: str = "not_worse") -> MetricVerdict:
    return MetricVerdict(
        task="t", metric="acc", filter="none", status=Status.PASSED, value=value, stderr=None,
        interval=None, n=100, baseline=0.8, difference=0.0, reason="", rule=rule,
        tolerated=tolerated,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "tolerated", "rule", "expected"),
    [
        (0.70, (0.7, None), "not_worse", False),
        (0.69, (0.7, None), "not_worse", True),
        (0.91, (None, 0.9), "paired", True),
        (0.99, (0.7, None), "not_worse", False),
        (0.2001, (None, 0.2), "numerics", True),
        (0.95236, (1 / 1.05, 1 / 0.95), "isclose", False),  # rounds up, as the rule does
        (0.9523, (1 / 1.05, 1 / 0.95), "isclose", True),
        (0.1, None, "not_worse", False),
    ],
)
def test_a_value_is_outside_where_the_rule_does_not_tolerate_it(
    value: float, tolerated: Range | None, rule: str, expected: bool
) -> None:
    assert outside(a_metric(value, tolerated, rule)) is expected


def test_the_range_in_words() -> None:
    assert said((0.7, 0.9)) == "tolerated 0.700 to 0.900"
    assert said(of_margin(0.05, 0.05, True)) == "tolerated from 0.000"
    assert said(of_margin(2.0, 0.5, False)) == "tolerated up to 2.500"
    assert said(None) == said((None, None)) == ""


# The figures


def test_the_strip_of_a_verdict_has_the_range_in_its_band_and_words() -> None:
    metric = a_metric(0.75, (0.0, None))
    _, (strip,) = judged_strips([metric])
    assert strip is not None and strip.band == (0.0, 100.0)
    assert told(metric) == "value 0.750, baseline 0.800, tolerated from 0.000"
    line, (strip,) = judged_strips([a_metric(0.1, (None, 0.2), "numerics")])
    assert line is not None and strip is not None
    assert strip.band == (0.0, line.place(0.2))


def test_subjects_have_the_range_of_the_whole_task() -> None:
    rows = [row(task, place, float(place % 5 > 0)) for task in LEAVES for place in range(20)]
    task = of_rows(rows)
    verdict = judge(run_of(task), (asked(0.8),), VerdictConfig())
    samples = [Sample(each.task, each.doc_id) for each in rows]
    found = by_subject(task, verdict, samples)
    assert found is not None and found.tolerated == pytest.approx((0.8 / 1.05, 0.8 / 0.95))
    assert [each.strip.band for each in found.rows] == [(76.19, 84.21)] * 3


def run_of(task: Any) -> Any:
    return replace(run(questions([1.0])), tasks=(task,))


def swept(directory: Path, points: list[Asked]) -> Sweep:
    return read_sweep(build(directory, points))


def right(count: int) -> list[float]:
    return [1.0] * count + [0.0] * (100 - count)


def bands(plot: Any) -> list[tuple[float, float, float, float]]:
    """Left, right, lower and upper end of each band, as far as the plot shows them."""
    back = plot.transData.inverted()
    found = []
    for patch in plot.patches:
        if to_hex(patch.get_facecolor()) == WASH:
            box = patch.get_extents().transformed(back)
            found.append((box.x0, box.x1, box.y0, box.y1))
    return found


@styled()
def axes_of(sweep: Sweep, place: int = 0) -> Any:
    (plot,) = accuracy(sweep, ACC, sweep.axes[place]).axes
    return plot


def test_a_shared_range_is_drawn_across_the_sweeps_figure(tmp_path: Path) -> None:
    points = grid({TP: ["1", "2"]}, lambda chosen: Found(right(70)))
    sweep = swept(tmp_path, points)
    plot = axes_of(sweep)
    ((left, end, low, high),) = bands(plot)
    assert (left, end) == pytest.approx(plot.get_xlim())
    assert (low, high) == pytest.approx((0.8 / 1.05, 0.8 / 0.95))
    assert "tolerated" in [each.get_text() for each in plot.get_legend().get_texts()]
    by_tp, _ = draw(sweep)
    assert by_tp.told.endswith("; tolerated 0.762 to 0.842")


def test_ranges_that_differ_are_drawn_behind_each_point(tmp_path: Path) -> None:
    baselines = {"1": 0.8, "2": 0.7, "4": None}
    points = grid(
        {TP: list(baselines)}, lambda chosen: Found(right(70), baseline=baselines[chosen[TP]])
    )
    sweep = swept(tmp_path, points)
    found = bands(axes_of(sweep))
    assert [(low, high) for *_, low, high in found] == [
        pytest.approx((each / 1.05, each / 0.95)) for each in (0.8, 0.7)
    ]
    assert [(left + end) / 2 for left, end, *_ in found] == pytest.approx([0, 1])
    assert draw(sweep)[0].told.endswith("; the tolerated range differs between points")


@styled()
def map_of(sweep: Sweep) -> tuple[list[tuple[float, float]], list[float], str]:
    """Cells with a frame, the lines on the colour scale, and the footnote."""
    figure = heat_map(sweep, ACC, *sweep.axes)
    plot, scale = figure.axes
    frames = [
        (int(each.get_x()), int(each.get_y()))
        for each in plot.patches
        if isinstance(each, Rectangle) and to_hex(each.get_edgecolor()) == BAD
    ]
    lines = [each.get_ydata()[0] for each in scale.lines]
    return frames, lines, figure.get_supxlabel()


def test_a_heat_map_frames_what_is_outside_and_marks_the_limits(tmp_path: Path) -> None:
    axes = {TP: ["1", "2"], DTYPE: ["a", "b"]}
    scores = {("1", "a"): 80, ("1", "b"): 79, ("2", "a"): 70, ("2", "b"): 78}
    points = grid(axes, lambda chosen: Found(right(scores[chosen[TP], chosen[DTYPE]])))
    frames, lines, note = map_of(swept(tmp_path, points))
    assert frames == [(0, 1)]
    assert lines == pytest.approx([0.8 / 1.05 - 0.8, 0.8 / 0.95 - 0.8])
    assert note == "Frame: a value outside the tolerated range."


def test_a_heat_map_of_different_limits_has_only_frames(tmp_path: Path) -> None:
    axes = {TP: ["1", "2"], DTYPE: ["a", "b"]}
    points = grid(axes, lambda chosen: Found(right(70), baseline=0.7 + 0.1 * (chosen[TP] == "2")))
    frames, lines, _ = map_of(swept(tmp_path, points))
    assert (frames, lines) == ([(0, 1), (1, 1)], [])


def test_a_wide_tolerance_does_not_flatten_a_heat_map(tmp_path: Path) -> None:
    axes = {TP: ["1", "2"], DTYPE: ["a", "b"]}
    sweep = swept(tmp_path, grid(axes, lambda chosen: Found(right(79))))
    points = []
    for point in sweep.points:
        assert point.verdict is not None
        metrics = tuple(replace(each, tolerated=(0.1, None)) for each in point.verdict.metrics)
        points.append(replace(point, verdict=replace(point.verdict, metrics=metrics)))
    wide = replace(sweep, points=tuple(points))
    assert map_of(wide) == ([], [], "")


@pytest.mark.parametrize("higher", [True, False])
def test_a_comparisons_strip_ends_at_the_margin(higher: bool) -> None:
    scores = Scores(
        "t", "acc", "none", False, True, 100, (1, 1), 0.8, 0.8, (0.8, 0.8), 0.0, (-0.05, 0.05),
        1, 1, "", 1.0, 1.0, 0.1, True, higher,
    )  # fmt: skip
    (strip,) = strips([scores], 0.02)
    # The scale ends 8 % beyond the interval: at -0.058 and 0.058.
    assert strip.band == pytest.approx((32.76, 100.0) if higher else (0.0, 67.24), abs=0.01)


def labels(drawn: str | bytes) -> list[str]:
    tree = ElementTree.fromstring(drawn)
    return [each.text or "" for each in tree.iter(f"{{{SVG}}}text")]


ENTRIES: Sequence[tuple[str, Range]] = [
    ("isclose", (0.8 / 1.05, 0.8 / 0.95)),
    ("absolute", (0.75, 0.85)),
    ("aisbench", (0.75, 0.85)),
    ("not_worse", (0.75, None)),
]


@pytest.mark.parametrize(("rule", "expected"), ENTRIES)
def test_the_figure_of_an_audit_has_the_range_of_its_gate(rule: str, expected: Range) -> None:
    entry = Entry("mine", "acc", rule, 0.8, 0.05, 200)
    assert entry.tolerated == pytest.approx(expected)
    drawn = figure([audit(entry, 8)], ".svg")
    tree = ElementTree.fromstring(drawn)
    dotted = [p for p in tree.iter(f"{{{SVG}}}path") if "dasharray: 1,2" in p.get("style", "")]
    assert len(dotted) == sum(end is not None for end in expected)
    assert said(entry.tolerated) in tree.attrib["aria-label"]


def test_a_limit_that_no_accuracy_reaches_is_not_drawn() -> None:
    assert Entry("mine", "acc", "absolute", 0.95, 0.1, 200).tolerated == pytest.approx((0.85, None))
