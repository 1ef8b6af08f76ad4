"""What the rules promise, simulated; `python -m tests.promises` prints docs/verdict.md's tables.

MMMU's validation split is the example: 900 questions, a baseline of 0.51, and two runs of one model
that differ in 5 % of their answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from runner.stats import ALPHA, clusters, drops
from runner.stats.drops import Drop
from runner.status import Status
from runner.verdict.settle import decide

N, BASELINE, FLIPS = 900, 0.51, 0.05
SUBJECTS, SPREAD = 30, 0.13
PAIRED_MARGIN, FIXED_MARGIN = 0.02, 0.05
DROPS = (0.0, 0.01, 0.02, 0.03, 0.05)
SEED = 20260101

Counts = NDArray[np.int64]


def flips(generator: np.random.Generator, drop: float, trials: int, n: int = N) -> Counts:
    """Trials × (answers that turned wrong, answers that turned right)."""
    chances = [(FLIPS + drop) / 2, (FLIPS - drop) / 2, 1 - FLIPS]
    found: Counts = generator.multinomial(n, chances, trials)[:, :2]
    return found


def right(generator: np.random.Generator, drop: float, trials: int) -> Counts:
    """Right answers of runs that were asked other questions of the same kind."""
    found: Counts = generator.binomial(N, BASELINE - drop, trials)
    return found


# Alarms


def isclose_independent(generator: np.random.Generator, drop: float, trials: int) -> float:
    return _not_close(right(generator, drop, trials) / N)


def isclose_same(generator: np.random.Generator, drop: float, trials: int) -> float:
    worse, better = flips(generator, drop, trials).T
    return _not_close(BASELINE - (worse - better) / N)


def paired(generator: np.random.Generator, drop: float, trials: int) -> float:
    return float(
        np.mean([_flips(int(w), int(b)).p <= ALPHA for w, b in flips(generator, drop, trials)])
    )


def not_worse(generator: np.random.Generator, drop: float, trials: int) -> float:
    """The baseline is exact."""
    return float(np.mean([_share(int(k)).p <= ALPHA for k in right(generator, drop, trials)]))


def two_runs(generator: np.random.Generator, drop: float, trials: int) -> float:
    """What remains of a baseline that is a run of its own, once its samples are lost."""
    first, second = right(generator, 0.0, trials) / N, right(generator, drop, trials) / N
    error = np.sqrt((first * (1 - first) + second * (1 - second)) / N)
    return float(np.mean((first - second) / error > 1.6448536))


ALARMS: dict[str, Callable[[np.random.Generator, float, int], float]] = {
    "`isclose`, other questions": isclose_independent,
    "`isclose`, same questions": isclose_same,
    "`paired`": paired,
    "`not_worse`": not_worse,
    "two independent runs": two_runs,
}


# Verdicts

Shares = dict[Status, float]


def paired_verdicts(generator: np.random.Generator, drop: float, trials: int) -> Shares:
    return _shares(
        [_flips(int(w), int(b)) for w, b in flips(generator, drop, trials)], PAIRED_MARGIN
    )


def paired_by_subject(generator: np.random.Generator, drop: float, trials: int) -> Shares:
    """The drop is the same in every subject."""
    size = N // SUBJECTS
    subjects = np.repeat(np.arange(SUBJECTS), size).tolist()
    found = []
    for _ in range(trials):
        by_subject = flips(generator, drop, SUBJECTS, n=size)
        differences = [
            value
            for worse, better in by_subject
            for value in [1.0] * worse + [-1.0] * better + [0.0] * (size - worse - better)
        ]
        plain = _flips(int(by_subject[:, 0].sum()), int(by_subject[:, 1].sum()))
        found.append(clusters.in_clusters(plain, differences, subjects, tested=False))
    return _shares(found, PAIRED_MARGIN)


def not_worse_verdicts(generator: np.random.Generator, drop: float, trials: int) -> Shares:
    return _shares([_share(int(k)) for k in right(generator, drop, trials)], FIXED_MARGIN)


def not_worse_by_subject(generator: np.random.Generator, drop: float, trials: int) -> Shares:
    """Subjects differ in difficulty, and are the same in every run."""
    size = N // SUBJECTS
    subjects = np.repeat(np.arange(SUBJECTS), size).tolist()
    hardness = np.linspace(-1, 1, SUBJECTS) * SPREAD * math.sqrt(3)
    found = []
    for _ in range(trials):
        scores = generator.random((SUBJECTS, size)) < (BASELINE - drop + hardness)[:, None]
        differences = (BASELINE - scores.ravel()).tolist()
        plain = _share(int(scores.sum()))
        found.append(clusters.in_clusters(plain, differences, subjects, tested=False))
    return _shares(found, FIXED_MARGIN)


VERDICTS: dict[str, tuple[Callable[[np.random.Generator, float, int], Shares], int]] = {
    "`paired`, margin 0.02, `cluster=none`": (paired_verdicts, 20),
    "`paired`, margin 0.02, 30 subjects": (paired_by_subject, 1),
    "`not_worse`, margin 0.05, `cluster=none`": (not_worse_verdicts, 20),
    "`not_worse`, margin 0.05, 30 subjects": (not_worse_by_subject, 1),
}
SETTLED = (Status.PASSED, Status.FAILED, Status.INCONCLUSIVE)


@cache
def _flips(worse: int, better: int) -> Drop:
    return drops.of_flips(worse, better, N)


@cache
def _share(count: int) -> Drop:
    return drops.of_share(count, N, BASELINE)


def _shares(found: list[Drop], margin: float) -> Shares:
    said = [decide(each.drop, each.upper, each.p, margin)[0] for each in found]
    return {status: said.count(status) / len(said) for status in SETTLED}


def _not_close(measured: NDArray[np.float64]) -> float:
    return float(np.mean(~np.isclose(BASELINE, np.round(measured, 4), rtol=0.05)))


def alarm_table(trials: int) -> str:
    """Markdown: the share of runs that fail, by true drop."""
    lines = [f"| true drop (points) | {' | '.join(ALARMS)} |", "|---" * (len(ALARMS) + 1) + "|"]
    for drop in DROPS:
        cells = [
            f"{100 * alarm(np.random.default_rng(SEED), drop, trials):.1f} %"
            for alarm in ALARMS.values()
        ]
        lines.append(f"| {100 * drop:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def verdict_table(trials: int) -> str:
    """Markdown: the share of runs that pass, fail, and are inconclusive, by true drop."""
    lines = [f"| true drop (points) | {' | '.join(VERDICTS)} |", "|---" * (len(VERDICTS) + 1) + "|"]
    for drop in DROPS:
        cells = []
        for draw, factor in VERDICTS.values():
            shares = draw(np.random.default_rng(SEED), drop, trials * factor)
            cells.append(" / ".join(f"{100 * shares[status]:.0f}" for status in SETTLED) + " %")
        lines.append(f"| {100 * drop:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(alarm_table(200_000))
    print()
    print(verdict_table(4_000))
