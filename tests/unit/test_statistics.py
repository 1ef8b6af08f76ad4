"""Formulas against published values, other code or their definition; every promise counted."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from runner.stats import ALPHA, drops, flips, means, power, resampling, shares
from runner.stats.clusters import in_clusters
from runner.stats.limits import Limits
from runner.stats.several import holm

TRIALS = 2000


def sure(share: float, trials: int = TRIALS) -> float:
    """Three standard errors of a simulated share."""
    return 3 * math.sqrt(share * (1 - share) / trials)


# A share


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [
        (81, 263, 0.2527, 0.3676),  # Newcombe 1998, table I, method 5 (two-sided, 95 %)
        (15, 148, 0.0578, 0.1617),
        (0, 20, 0.0, 0.1684),
        (1, 29, 0.0009, 0.1776),
    ],
)
def test_exact_bounds_against_published_values(right: int, n: int, low: float, high: float) -> None:
    assert shares.lower_bound(right, n, 0.025) == pytest.approx(low, abs=5.1e-5)
    assert shares.upper_bound(right, n, 0.025) == pytest.approx(high, abs=5.1e-5)


@given(n=st.integers(1, 2000), share=st.floats(0, 1))
@settings(deadline=None, max_examples=50)
def test_exact_bounds_and_test_are_scipys(n: int, share: float) -> None:
    from scipy.stats import binomtest

    right = round(share * n)
    found = binomtest(right, n, 0.5, alternative="less")
    assert shares.at_most(right, n, 0.5) == pytest.approx(found.pvalue)
    assert shares.upper_bound(right, n) == pytest.approx(found.proportion_ci().high, abs=1e-9)
    above = binomtest(right, n, alternative="greater").proportion_ci().low
    assert shares.lower_bound(right, n) == pytest.approx(above, abs=1e-9)


# Flips


def test_mcnemar_by_hand() -> None:
    # 2 of 10 changes went up: C(10,0) + C(10,1) + C(10,2) of 2^10 ways, on either side
    assert flips.mcnemar(8, 2) == pytest.approx(2 * (1 + 10 + 45) / 1024)
    assert flips.mcnemar_drop(8, 2) == pytest.approx((1 + 10 + 45) / 1024)
    assert flips.mcnemar_drop(2, 8) == pytest.approx(1 - (1 + 10) / 1024)
    assert flips.mcnemar(5, 5) == 1
    assert flips.mcnemar(0, 0) == flips.mcnemar_drop(0, 0) == 1


@pytest.mark.parametrize(("worse", "better"), [(6, 0), (31, 12), (3, 4), (0, 17)])
def test_mcnemar_against_its_definition(worse: int, better: int) -> None:
    m, k = worse + better, min(worse, better)
    tail = sum(math.comb(m, i) for i in range(k + 1)) / 2**m
    assert flips.mcnemar(worse, better) == pytest.approx(min(1, 2 * tail))
    above = sum(math.comb(m, i) for i in range(worse, m + 1)) / 2**m
    assert flips.mcnemar_drop(worse, better) == pytest.approx(above)


def test_interval_as_agresti_and_min_compute_it() -> None:
    # Their R function diffpropci(b=31, c=12, n=600, conflev=.95), worked by hand.
    stderr, (low, high) = flips.matched_proportions(worse=31, better=12, n=600)
    assert stderr == pytest.approx(math.sqrt(44 - 19**2 / 602) / 602)
    assert (low + high) / 2 == pytest.approx(-19 / 602)
    assert (low, high) == pytest.approx((-0.053008, -0.010115), abs=1e-5)


def test_interval_of_no_changes_has_a_width() -> None:
    _, (low, high) = flips.matched_proportions(0, 0, 600)
    assert low == -high < 0


def test_tangos_statistic_against_published_limits() -> None:
    """Fagerland, Lydersen & Laake 2014 on Bentur's 21 patients: -0.517 to -0.026 (95 %)."""
    assert flips.score(1, 7, 21, -0.517) == pytest.approx(1.96, abs=5e-3)
    assert flips.score(1, 7, 21, -0.026) == pytest.approx(-1.96, abs=5e-3)


def test_tangos_statistic_of_no_drop_is_mcnemars() -> None:
    assert flips.score(31, 12, 600, 0.0) == pytest.approx((31 - 12) / math.sqrt(31 + 12))


def test_the_statistic_maximises_the_likelihood() -> None:
    """Tango's closed form against a search over the chance of a change for the better."""
    worse, better, n, drop = 20, 9, 400, 0.05
    grid = np.linspace(1e-6, 0.4, 400_001)
    likelihood = (
        worse * np.log(grid + drop)
        + better * np.log(grid)
        + (n - worse - better) * np.log(1 - 2 * grid - drop)
    )
    best = grid[np.argmax(likelihood)]
    expected = (worse - better - n * drop) / math.sqrt(n * (2 * best + drop * (1 - drop)))
    assert flips.score(worse, better, n, drop) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("n", [1, 20, 900])
def test_bounds_stay_within_reason(n: int) -> None:
    assert 0 < flips.upper_drop(0, 0, n) <= 1
    assert flips.upper_drop(n, 0, n) == 1
    assert -1 < flips.upper_drop(0, n, n) < 0 or n == 1


@pytest.mark.parametrize("n", [20, 200, 900, 2000])
def test_the_bound_of_flips_keeps_its_level(n: int) -> None:
    """Exactly: the chance of all outcomes whose bound lies below the true drop, added up."""
    found = [
        _missed(n, drop, better)
        for drop, better in itertools.product(
            (0.002, 0.01, 0.02, 0.05, 0.2), (0.0, 0.0005, 0.002, 0.01, 0.05, 0.2)
        )
    ]
    assert max(found) <= ALPHA
    assert max(found) > 0.03


@pytest.mark.parametrize("n", [1, 2, 5, 10, 19])
def test_few_samples_keep_the_level_at_any_margin(n: int) -> None:
    """Every outcome, added up; Tango's bound alone passes a lost sample in up to 15 %."""
    from scipy.stats import multinomial

    runs = [(worse, better) for worse in range(n + 1) for better in range(n + 1 - worse)]
    uppers = np.array([drops.of_flips(worse, better, n).upper for worse, better in runs])
    outcomes = np.array([(worse, better, n - worse - better) for worse, better in runs])
    for drop in (0.05, 0.2, 0.5, 0.7, 0.9):
        for changed in np.linspace(drop, 1.0, 9):
            chances = [(changed + drop) / 2, (changed - drop) / 2, 1 - changed]
            assert multinomial.pmf(outcomes, n, chances)[uppers < drop].sum() <= ALPHA


def test_why_the_bound_of_flips_is_corrected() -> None:
    assert _missed(900, 0.005, 0.0, correction=0.0) > 0.06


def _missed(n: int, drop: float, better: float, correction: float = 0.5) -> float:
    from scipy.stats import multinomial

    worse = better + drop
    most = int(n * (better + worse) + 8 * math.sqrt(n * (better + worse)) + 12)
    down, up = np.meshgrid(np.arange(min(n, most) + 1), np.arange(min(n, most) + 1), indexing="ij")
    fits = down + up <= n
    outcomes = np.stack([down[fits], up[fits], n - down[fits] - up[fits]], axis=1)
    chances = multinomial.pmf(outcomes, n, [worse, better, 1 - worse - better])
    likely = chances > 1e-9
    z = -1.6448536
    below = [flips.score(int(w), int(b), n, drop, correction) < z for w, b, _ in outcomes[likely]]
    return float(chances[likely][below].sum() + chances[~likely].sum())


# Means


def test_errors_by_hand() -> None:
    values = [1.0, 1.0, 0.0, 0.0]
    assert means.standard_error(values) == pytest.approx(math.sqrt(1 / 12))
    # Cross terms: 2 * 0.25 in each of two clusters, over n².
    assert means.clustered_error(values, "aabb") == pytest.approx(math.sqrt(1 / 12 + 1 / 16))
    assert means.clustered_error(values, "abab") == pytest.approx(math.sqrt(1 / 12 - 1 / 16))
    assert means.clustered_error(values, "abcd") == pytest.approx(means.standard_error(values))
    assert means.standard_error([0.5]) == 0


@given(st.lists(st.tuples(st.floats(-1, 1), st.integers(0, 4)), min_size=2, max_size=30))
@settings(deadline=None, max_examples=60)
def test_the_clustered_error_against_its_definition(rows: list[tuple[float, int]]) -> None:
    values, clusters = [value for value, _ in rows], [cluster for _, cluster in rows]
    n, center = len(rows), sum(values) / len(rows)
    square = sum((x - center) ** 2 for x in values) / (n * (n - 1))
    for i, j in itertools.permutations(range(n), 2):
        if clusters[i] == clusters[j]:
            square += (values[i] - center) * (values[j] - center) / n**2
    found = means.clustered_error(values, clusters)
    assert found == pytest.approx(math.sqrt(max(square, 0)), abs=1e-7)


def test_student_is_scipys() -> None:
    from scipy.stats import ttest_1samp

    values = [0.1, 0.3, -0.2, 0.4, 0.2] * 4
    center, stderr = means.mean(values), means.standard_error(values)
    theirs = ttest_1samp(values, 0, alternative="greater")
    assert means.above_zero(center, stderr, 19) == pytest.approx(theirs.pvalue)
    below = ttest_1samp(values, 0, alternative="less").confidence_interval(0.95).high
    assert means.upper(center, stderr, 19) == pytest.approx(below)
    two_sided = ttest_1samp(values, 0)
    assert means.t_test(values) == pytest.approx(two_sided.pvalue)
    assert means.t_interval(values)[1] == pytest.approx(tuple(two_sided.confidence_interval(0.95)))


# Resampling


def test_sign_flip_against_scipy() -> None:
    from scipy.stats import permutation_test

    differences = [0.5, -0.25, 0.75, 0.5, -0.5, 1.0, 0.0, 0.25]
    for alternative, ours in (
        ("two-sided", resampling.sign_flip),
        ("greater", resampling.sign_flip_drop),
    ):
        theirs = permutation_test(
            (differences,), lambda x, axis: x.mean(axis=axis), permutation_type="samples",
            n_resamples=10_000, vectorized=True, alternative=alternative,
        )  # fmt: skip
        assert ours(differences) == pytest.approx(theirs.pvalue)


def test_sign_flip_of_flips_is_mcnemar() -> None:
    differences = [1.0] * 7 + [-1.0] * 2 + [0.0] * 91
    assert resampling.sign_flip_drop(differences) == pytest.approx(flips.mcnemar_drop(7, 2))


def test_t_alone_would_raise_false_alarms_on_few_changes() -> None:
    """Why FEW is there: with four changes Student's t says 0.046 where 1 in 8 is the truth."""
    from scipy.stats import ttest_1samp

    differences = [-1.0] * 4 + [0.0] * 596
    assert ttest_1samp(differences, 0).pvalue < 0.05 < resampling.sign_flip(differences)
    assert resampling.FEW > 4


def test_t_is_doubted_where_few_values_are_skewed() -> None:
    generator = np.random.default_rng(0)
    assert not resampling.t_is_doubtful(generator.normal(size=100).tolist())
    assert resampling.t_is_doubtful(generator.normal(size=20).tolist())
    assert resampling.t_is_doubtful(generator.lognormal(size=100).tolist())


def test_the_bootstrap_is_students_t_where_that_is_right() -> None:
    values = np.random.default_rng(1).normal(0.03, 1, 400).tolist()
    center, stderr = means.mean(values), means.standard_error(values)
    p, upper = resampling.bootstrap(values)
    assert p == pytest.approx(means.above_zero(center, stderr, 399), abs=0.02)
    assert upper == pytest.approx(means.upper(center, stderr, 399), abs=0.1 * stderr)
    assert resampling.bootstrap(values) == (p, upper), "seeded"


def test_the_bootstrap_against_scipys_percentiles_of_t() -> None:
    """Independent code for the same quantity: scipy resamples, we take the quantile."""
    values = np.random.default_rng(2).exponential(size=60)

    def t(sample: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        distance = sample.mean(axis=axis) - values.mean()
        found: NDArray[np.float64] = distance / (sample.std(axis=axis, ddof=1) / math.sqrt(60))
        return found

    from scipy.stats import bootstrap

    theirs = bootstrap((values,), t, n_resamples=9999, method="percentile", rng=3)
    lowest = np.quantile(theirs.bootstrap_distribution, 0.05)
    expected = values.mean() - lowest * values.std(ddof=1) / math.sqrt(60)
    assert resampling.bootstrap(values.tolist())[1] == pytest.approx(expected, rel=0.02)


# Several


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([]) == []


def test_holm_keeps_the_chance_of_any_false_alarm() -> None:
    draws = np.random.default_rng(5).random((TRIALS, 6))
    alarms = np.mean([min(holm(row.tolist())) <= ALPHA for row in draws])
    assert abs(alarms - ALPHA) < sure(ALPHA)
    assert np.mean(draws.min(axis=1) <= ALPHA) > 0.2, "without it"


# Power


def test_reach_is_millers() -> None:
    assert power.reach() == pytest.approx(1.6449 + 0.8416, abs=1e-4)


def test_no_power_is_promised_below_what_the_exact_test_can_see() -> None:
    assert flips.mcnemar_drop(4, 0) > ALPHA > flips.mcnemar_drop(5, 0)
    # Five changes to one side in 4 of 5 runs: a Poisson count of mean 6.72 is at least 5.
    assert power.detectable_flips(0, 60_000) == pytest.approx(6.721 / 60_000, rel=3e-3)
    assert power.detectable_flips(0, 5) == pytest.approx(0.8 ** (1 / 5), rel=1e-3)
    assert power.detectable_flips(0, 4) == 1


@pytest.mark.parametrize(("changed", "n"), [(0, 600), (3, 900), (45, 900), (18, 900), (120, 600)])
def test_a_detectable_drop_is_found_as_often_as_it_says(changed: int, n: int) -> None:
    drop = power.detectable_flips(changed, n)
    share = max(changed / n, drop)
    draws = np.random.default_rng(6).multinomial(
        n, [(share + drop) / 2, (share - drop) / 2, 1 - share], TRIALS
    )
    found = np.mean([flips.mcnemar_drop(int(w), int(b)) <= ALPHA for w, b, _ in draws])
    assert found == pytest.approx(0.8, abs=sure(0.8))


# Drops: what each kind of score promises

# Limits of the difference of two scores between 0 and 1; the same if they were only seen.
SHARES = Limits(-1.0, 1.0)
SEEN = Limits(-1.0, 1.0, known=False)


def _binary_flips(generator: np.random.Generator, drop: float) -> drops.Drop:
    worse, better, _ = generator.multinomial(900, [0.025 + drop / 2, 0.025 - drop / 2, 0.95])
    return drops.of_flips(int(worse), int(better), 900)


def _share(generator: np.random.Generator, drop: float) -> drops.Drop:
    return drops.of_share(int(generator.binomial(900, 0.51 - drop)), 900, 0.51)


def _symmetric(generator: np.random.Generator, drop: float) -> drops.Drop:
    return drops.of_differences((generator.normal(drop, 0.2, 200)).tolist(), SEEN)


def _skewed(generator: np.random.Generator, drop: float) -> drops.Drop:
    """Some samples lose much, most gain a little: where Student's t is too bold."""
    differences = 0.2 * (generator.gamma(0.5, size=60) - 0.5) + drop
    return drops.of_differences(differences.tolist(), SEEN)


def _rare(generator: np.random.Generator, drop: float) -> drops.Drop:
    """Few fractional scores change at all."""
    size = generator.choice([0.25, 0.5, 1.0], 400) * (generator.random(400) < 0.02)
    toward = np.where(generator.random(400) < 0.5 + drop / (0.02 * 1.75 / 3) / 2, 1.0, -1.0)
    return drops.of_differences((size * toward).tolist(), SEEN)


def _clustered(generator: np.random.Generator, drop: float) -> drops.Drop:
    """Thirty passages of ten questions, each with a fate of its own."""
    fate = np.repeat(generator.normal(0, 0.1, 30), 10)
    differences = (fate + generator.normal(drop, 0.2, 300)).tolist()
    plain = drops.of_differences(differences, SEEN)
    return in_clusters(plain, differences, np.repeat(np.arange(30), 10).tolist(), tested=True)


KINDS = {
    "flips": (_binary_flips, 0.02, TRIALS),
    "share": (_share, 0.04, TRIALS),
    "symmetric": (_symmetric, 0.03, 800),
    "skewed": (_skewed, 0.05, 400),
    "rare": (_rare, 0.005, 1000),
    "clustered": (_clustered, 0.04, 600),
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_drop_is_found_where_there_is_none(kind: str) -> None:
    draw, _, trials = KINDS[kind]
    generator = np.random.default_rng(11)
    alarms = np.mean([draw(generator, 0.0).p <= ALPHA for _ in range(trials)])
    assert alarms <= ALPHA + sure(ALPHA, trials)


@pytest.mark.parametrize("kind", KINDS)
def test_no_bound_lies_below_the_drop_that_is_there(kind: str) -> None:
    draw, drop, trials = KINDS[kind]
    generator = np.random.default_rng(12)
    missed = np.mean([draw(generator, drop).upper < drop for _ in range(trials)])
    assert missed <= ALPHA + sure(ALPHA, trials)


@pytest.mark.parametrize("kind", ["flips", "share", "symmetric", "clustered"])
def test_the_detectable_drop_is_found_in_four_of_five(kind: str) -> None:
    draw, _, trials = KINDS[kind]
    generator = np.random.default_rng(13)
    drop = float(np.median([draw(generator, 0.0).detectable() for _ in range(50)]))
    found = np.mean([draw(generator, drop).p <= ALPHA for _ in range(trials)])
    assert found == pytest.approx(0.8, abs=0.02 + sure(0.8, trials))


def test_ignoring_clusters_would_raise_false_alarms() -> None:
    generator = np.random.default_rng(14)

    def plain() -> drops.Drop:
        fate = np.repeat(generator.normal(0, 0.1, 30), 10)
        return drops.of_differences((fate + generator.normal(0, 0.2, 300)).tolist(), SEEN)

    assert np.mean([plain().p <= ALPHA for _ in range(400)]) > 0.1


def test_each_kind_of_score_has_its_test() -> None:
    generator = np.random.default_rng(15)
    tests = {kind: draw(generator, 0.0).test for kind, (draw, _, _) in KINDS.items()}
    assert tests["flips"] == drops.MCNEMAR
    assert tests["share"] == drops.BINOMIAL
    assert tests["symmetric"] == drops.T_TEST
    assert tests["skewed"] == drops.BOOTSTRAP
    assert tests["rare"] == drops.SIGN_FLIP
    assert drops.of_estimate(0.1, 0.05, 100).test == drops.NORMAL


@pytest.mark.parametrize("differences", [[0.0] * 40, [0.1] * 40, [-0.1] * 40, [0.0]])
def test_differences_without_spread(differences: Sequence[float]) -> None:
    found = drops.of_differences(differences, SHARES)
    assert (found.p <= ALPHA) is (differences[0] > 0)
    assert found.upper > found.drop
    assert found.detectable() > 0 or differences[0] != 0


def test_subjects_widen_the_bound_and_leave_the_test() -> None:
    """A drop in one of six subjects is a drop; that it is small everywhere is another claim."""
    differences = [1.0] * 20 + [0.0] * 580
    clusters = [place // 100 for place in range(600)]
    plain = drops.of_flips(20, 0, 600)
    subjects = in_clusters(plain, differences, clusters, tested=False)
    assert (subjects.p, subjects.test) == (plain.p, drops.MCNEMAR)
    assert subjects.upper > plain.upper
    passages = in_clusters(plain, differences, clusters, tested=True)
    assert passages.p > ALPHA > plain.p
    assert passages.test == "exact McNemar and clustered t"
    alone = in_clusters(plain, differences, ["a"] * 600, tested=True)
    assert (alone.p, alone.upper) == (1.0, math.inf)


def test_clusters_that_change_nothing_change_nothing() -> None:
    plain = drops.of_flips(0, 0, 600)
    assert in_clusters(plain, [0.0] * 600, list(range(600)), tested=True) == plain
