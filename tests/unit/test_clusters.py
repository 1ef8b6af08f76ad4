"""Bounds of drops of clustered samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from runner.stats import drops
from runner.stats.clusters import in_clusters
from runner.stats.drops import Drop

MARGIN = 0.02


def judged(differences: Sequence[float], clusters: Sequence[int]) -> Drop:
    worse, better = sum(each > 0 for each in differences), sum(each < 0 for each in differences)
    plain = drops.of_flips(worse, better, len(differences))
    return in_clusters(plain, differences, clusters, tested=False)


def test_the_error_is_that_of_leaving_out_each_cluster() -> None:
    """The jackknife, by brute force, for clusters of 2 to 40 samples."""
    generator = np.random.default_rng(1)
    clusters = np.repeat(np.arange(8), [2, 5, 40, 9, 9, 17, 30, 3])
    differences = generator.choice([-1.0, 0.0, 1.0], len(clusters), p=[0.1, 0.7, 0.2])
    left_out = [differences[clusters != each].mean() for each in range(8)]
    expected = math.sqrt(sum((each - differences.mean()) ** 2 for each in left_out))
    found = judged(differences.tolist(), clusters.tolist())
    assert found.spread == pytest.approx(expected)


def test_clusters_that_lose_much_raise_the_bound_more_than_those_that_gain() -> None:
    """Student's t, which treats both alike, is the bound if losses are not skewed."""
    clusters = [place // 20 for place in range(600)]
    few_lost = [1.0] * 20 + [0.0] * 580
    few_won = [-1.0] * 20 + [0.0] * 580
    lost, won = judged(few_lost, clusters), judged(few_won, clusters)
    # Student's t with 29 degrees of freedom; a jackknifed error of one cluster of thirty.
    assert won.upper == pytest.approx(won.drop + 1.699 * won.spread, rel=1e-3)
    assert lost.upper - lost.drop > 2 * (won.upper - won.drop)


def test_a_single_cluster_passes_with_no_number_of_samples() -> None:
    found = judged([1.0] * 3 + [0.0] * 600, [0] * 603)
    assert found.upper == math.inf
    assert found.to_pass(MARGIN) is None


def subjects(generator: np.random.Generator) -> np.ndarray:
    """Sizes of 57 subjects, from 100 to 1,500 questions, unequal as those of MMLU."""
    sizes = np.exp(generator.normal(math.log(180), 0.75, 57)).clip(100, 1500).astype(int)
    sizes[0] = 1500
    return sizes


def share_passed(lost: float, runs: int, flips: float = 0.03) -> float:
    """Share of runs that pass if each subject is broken with a probability of 1/10.

    Broken subjects lose so much that the drop of all subjects is `lost`.
    """
    generator, passed = np.random.default_rng(20261130), 0
    sizes = subjects(np.random.default_rng(1))
    clusters = np.repeat(np.arange(57), sizes).tolist()
    for _ in range(runs):
        broken = np.where(generator.random(57) < 0.1, lost * 10, 0.0)
        worse = np.repeat(flips / 2 + broken, sizes)
        drawn = generator.random(len(worse))
        differences = (drawn < worse).astype(float) - (drawn > 1 - flips / 2)
        passed += judged(differences.tolist(), clusters).upper < MARGIN
    return passed / runs


@pytest.mark.slow
def test_one_broken_subject_in_ten_is_passed_in_at_most_5_percent() -> None:
    """A clustered t passes 14 %: a run with few broken subjects has a small error as well."""
    assert share_passed(MARGIN, 600) <= 0.05


def test_fifty_seven_sound_subjects_pass() -> None:
    assert share_passed(0.0, 50) == 1.0
