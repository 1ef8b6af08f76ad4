"""Numbers of samples that decide: checked by exact counts, and by simulated runs of that size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from runner.stats import ALPHA, drops, flips, needed
from runner.stats.drops import Drop
from runner.stats.limits import Limits
from runner.status import Status
from runner.verdict.settle import decide

SHARES = Limits(-1.0, 1.0)
# Draws the drop of a run with so many samples and such a true drop.
Draw = Callable[[np.random.Generator, int, float], Drop]


def test_runs_of_flips_pass_as_often_as_counted() -> None:
    """Every run of 200 questions by its flips, by the bound itself."""
    n, margin = 200, 0.03
    allowed = flips.passing(np.arange(12), n, margin)
    for changed in range(12):
        passed = [
            worse
            for worse in range(changed + 1)
            if flips.upper_drop(worse, changed - worse, n) < margin
        ]
        assert allowed[changed] == (max(passed) if passed else -1)
    draws = np.random.default_rng(2).multinomial(n, [0.01, 0.01, 0.98], 2000)
    simulated = np.mean([flips.upper_drop(int(w), int(b), n) < margin for w, b, _ in draws])
    assert needed.of_flips(0.02).passes(n, margin) == pytest.approx(simulated, abs=0.04)


def test_without_flips_the_bound_alone_decides() -> None:
    """180 questions of which none flipped pass at a margin of 0.02, and 179 do not."""
    assert flips.upper_drop(0, 0, 179) >= 0.02 > flips.upper_drop(0, 0, 180)
    assert needed.of_flips(0.0).to_pass(30, 0.02) == 180
    assert needed.of_flips(0.0).to_pass(500, 0.02) == 501


def test_shares_pass_and_fail_as_often_as_counted() -> None:
    n, known, margin = 300, 0.6, 0.05
    chances = needed.of_share(known)
    passed = failed = 0.0
    for right in range(n + 1):
        drop = drops.of_share(right, n, known)
        passed += binom.pmf(right, n, known) * (drop.upper < margin)
        p = binomtest(right, n, known, alternative="less").pvalue if right < n else 1.0
        failed += binom.pmf(right, n, known - 0.1) * (p <= ALPHA)
    assert chances.passes(n, margin) == pytest.approx(passed)
    assert chances.finds(n, 0.1, ALPHA) == pytest.approx(failed)


def test_an_error_of_the_baseline_limits_what_samples_decide() -> None:
    """Of a drop of 0.05, an error of 0.02 leaves 2.5 errors, and 2.49 are needed for 80 %."""
    assert needed.of_mean(0.5, 0.0202).to_pass(100, 0.05) is None
    many = needed.of_mean(0.5, 0.0195).to_pass(100, 0.05)
    assert many is not None and many > 5000
    # Without it, 2.4865² 0.5² / 0.05².
    assert needed.of_mean(0.5).to_pass(100, 0.05) == pytest.approx(618.3, abs=1)


def _flipped(generator: np.random.Generator, n: int, drop: float) -> Drop:
    share = max(0.05, drop)
    worse, better, _ = generator.multinomial(n, [(share + drop) / 2, (share - drop) / 2, 1 - share])
    return drops.of_flips(int(worse), int(better), n)


def _right(generator: np.random.Generator, n: int, drop: float) -> Drop:
    return drops.of_share(int(generator.binomial(n, 0.51 - drop)), n, 0.51)


def _jitter(generator: np.random.Generator, n: int, drop: float) -> Drop:
    """Small changes, and rare total losses."""
    lost = np.where(generator.random(n) < drop / 0.9, 0.9, 0.0)
    return drops.of_differences((lost + generator.normal(0, 0.05, n)).clip(-1, 1).tolist(), SHARES)


def _unbounded(generator: np.random.Generator, n: int, drop: float) -> Drop:
    limits = Limits(-40.0, 40.0, known=False)
    return drops.of_differences(generator.normal(100 * drop, 8, n).clip(-40, 40).tolist(), limits)


def _repeated(generator: np.random.Generator, n: int, drop: float) -> Drop:
    chances = generator.beta(1.6, 0.4, n)
    before, after = (
        (generator.random((n, 4)) < (chances * left)[:, None]).astype(float).tolist()
        for left in (1.0, 1 - drop / 0.8)
    )
    return drops.of_question_means(before, after, 1, 1.0)


CASES: dict[str, tuple[Draw, int, float, float]] = {
    "flips": (_flipped, 100, 0.02, 1.0),
    "many flips": (_flipped, 900, 0.02, 1.0),
    "share": (_right, 198, 0.05, 1.0),
    "jitter": (_jitter, 100, 0.05, 1.0),
    "unknown limits": (_unbounded, 30, 0.02, 100.0),
    "repeated": (_repeated, 100, 0.1, 1.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_three_of_four_runs_with_that_many_samples_decide(case: str) -> None:
    draw, n, margin, unit = CASES[case]
    generator, found = np.random.default_rng(5), dict[float, list[bool]]({0.0: [], 2.0: []})
    for _ in range(2000):
        seen = draw(generator, n, 0.0)
        if _decided(seen, margin * unit):
            continue
        for times, size in ((0.0, seen.to_pass(margin * unit)), (2.0, seen.to_fail(margin * unit))):
            assert size is not None and size > n
            found[times] += [
                _decided(draw(generator, size, times * margin), margin * unit) for _ in range(4)
            ]
        if len(found[0.0]) >= 240:
            break
    for times, decided in found.items():
        assert len(decided) >= 40, "enough runs are inconclusive"
        assert np.mean(decided) >= 0.75, f"{times} margins"


def _decided(drop: Drop, margin: float) -> bool:
    return decide(drop.drop, drop.upper, drop.p, margin)[0] is not Status.INCONCLUSIVE
