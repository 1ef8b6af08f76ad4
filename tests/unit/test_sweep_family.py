"""FAILED points of a sweep, corrected for the number of points."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from runner.config.verdict import VerdictConfig
from runner.evidence.samples import read_samples
from runner.outcome import Outcome
from runner.plan import Plan
from runner.rundir import RunDirectory, read_json, write_json
from runner.stats import ALPHA
from runner.stats.flips import mcnemar_drop
from runner.stats.several import holm
from runner.status import Status
from runner.sweep.family import failed_lines, failures, headline
from runner.sweep.markdown import page
from runner.sweep.record import point_directory
from runner.sweep.screen import show
from runner.sweep.summary import Sweep, read_sweep
from runner.sweep.sweep_page import render
from runner.verdict import MetricVerdict, Verdict, judge
from tests.sweeps import Asked, Found, build

TESTED = VerdictConfig(rule="not_worse", margin=0.05)


def swept(directory: Path, right: list[int], config: VerdictConfig = TESTED) -> Sweep:
    """A point for each number of right answers to 100 questions; the baseline is 0.8."""
    points = [
        Asked((f"engine.seed={n}",), Found([1.0] * own + [0.0] * (100 - own)), 0)
        for n, own in enumerate(right)
    ]
    build(directory, points)
    for number in range(len(points)):
        files = point_directory(directory, number)
        outcome: Outcome = read_json(files.outcome, Outcome)
        plan: Plan = read_json(files.plan, Plan)
        samples = read_samples(files.samples)
        write_json(files.verdict, judge(outcome, plan.evaluations, config, samples))
    return read_sweep(directory)


def changed(files: RunDirectory, **changes: object) -> None:
    """Rewrite the judged metric of a point."""
    verdict: Verdict = read_json(files.verdict, Verdict)
    metrics: tuple[MetricVerdict, ...] = tuple(
        replace(each, **changes) if each.judged else each  # type: ignore[arg-type]
        for each in verdict.metrics
    )
    write_json(files.verdict, replace(verdict, metrics=metrics))


def test_a_single_failure_among_many_points_is_not_significant(tmp_path: Path) -> None:
    sweep = swept(tmp_path, [80] * 11 + [72])
    assert sweep.counts() == {"FAILED": 1, "INCONCLUSIVE": 11}
    (failure,) = failures(sweep)
    assert failure.point.number == 11
    assert 0.01 < failure.p <= ALPHA
    assert failure.p_holm == pytest.approx(12 * failure.p)
    assert headline(sweep) == (
        "1 of 12 tested points FAILED; it is not significant after Holm's correction over 12 points"
    )
    (line,) = failed_lines(sweep)
    assert line == (
        f"FAILED 11 (seed=11): p = {failure.p:.2g}; not significant among 12 points "
        f"(Holm: p = {failure.p_holm:.2g})"
    )


def test_a_large_drop_stays_significant(tmp_path: Path) -> None:
    sweep = swept(tmp_path, [80] * 9 + [72, 60, 50])
    assert [each.significant for each in failures(sweep)] == [False, True, True]
    assert headline(sweep).startswith("3 of 12 tested points FAILED; 2 are significant after Holm")
    one = failed_lines(sweep)[1]
    assert one.startswith("FAILED 10 (seed=10): p = ") and "; significant among 12 points" in one


def test_all_tests_of_all_points_are_one_family(tmp_path: Path) -> None:
    """Two metrics in each of two points are four tests."""
    swept(tmp_path, [80, 60])
    for number in range(2):
        files = point_directory(tmp_path, number)
        verdict: Verdict = read_json(files.verdict, Verdict)
        (judged,) = [each for each in verdict.metrics if each.judged]
        second = replace(judged, metric="f1", p=0.5, status=Status.INCONCLUSIVE)
        write_json(files.verdict, replace(verdict, metrics=(*verdict.metrics, second)))
    (failure,) = failures(read_sweep(tmp_path))
    assert failure.p_holm == pytest.approx(4 * failure.p)
    assert failure.points == 2


def test_points_without_a_failed_test_are_left_out(tmp_path: Path) -> None:
    assert headline(swept(tmp_path / "healthy", [80] * 12)) == ""
    assert headline(swept(tmp_path / "alone", [60])) == ""
    baseline_only = swept(tmp_path / "isclose", [80, 60], VerdictConfig())
    assert baseline_only.counts() == {"PASSED": 1, "FAILED": 1}
    assert failures(baseline_only) == ()


def test_a_value_that_is_not_a_number_needs_no_test(tmp_path: Path) -> None:
    swept(tmp_path, [80, 80, 60])
    changed(point_directory(tmp_path, 2), p=None)
    assert failures(read_sweep(tmp_path)) == ()


def test_screen_and_pages_say_it(tmp_path: Path) -> None:
    sweep = swept(tmp_path, [80] * 11 + [72])
    out = io.StringIO()
    show(Console(file=out, width=200), sweep, ())
    for text in (out.getvalue(), page(sweep, (), ()), render(sweep, (), (), ())):
        plain = text.replace("&#39;", "'")
        assert headline(sweep) in plain
        assert failed_lines(sweep)[0] in plain
    healthy = swept(tmp_path / "healthy", [80] * 3)
    assert "tested points" not in page(healthy, (), ())


@pytest.mark.slow
def test_the_level_holds_for_points_that_share_a_reference_run() -> None:
    """Of 12 points without a drop, one or more FAILED is common; after Holm's correction, rare."""
    generator, runs, points = np.random.default_rng(20261130), 400, 12
    alone = corrected = 0
    for _ in range(runs):
        own = generator.beta(1.6, 0.4, 300)
        before = generator.random(300) < own
        p_values = []
        for _ in range(points):
            after = generator.random(300) < own
            worse, better = int((before & ~after).sum()), int((after & ~before).sum())
            p_values.append(mcnemar_drop(worse, better))
        alone += min(p_values) <= ALPHA
        corrected += min(holm(p_values)) <= ALPHA
    assert alone / runs > 0.12
    assert corrected / runs <= ALPHA + 3 * (ALPHA * (1 - ALPHA) / runs) ** 0.5
