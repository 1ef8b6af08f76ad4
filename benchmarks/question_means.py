"""How often `paired` fails and passes if questions were asked several times: docs/reasoning.md.

Simulates two runs of the same questions, whose chances of a right answer are unequal: beta
distributed with the given mean and a spread of 0.23 at a mean of 0.8. The stack of the second run
has lost some points on every question.

    python -m benchmarks.question_means
"""

from __future__ import annotations

import sys

import numpy as np

from runner.stats import ALPHA, drops

SEED, RUNS, MEAN, CONCENTRATION = 20261130, 1000, 0.8, 2.0
LOST = (0.0, 0.02, 0.05, 0.1)
CASES = ((30, 4, 0.1), (30, 8, 0.2), (30, 64, 0.2), (198, 4, 0.05), (198, 8, 0.05), (1319, 4, 0.02))


def simulated(
    n: int, answers: int, margin: float, lost: float, runs: int = RUNS
) -> tuple[int, int]:
    """Number of runs that fail and pass."""
    generator = np.random.default_rng(SEED)
    failed = passed = 0
    for _ in range(runs):
        chances = generator.beta(MEAN * CONCENTRATION, (1 - MEAN) * CONCENTRATION, n)
        scores = [
            (generator.random((n, answers)) < np.clip(chance, 0, 1)[:, None]).astype(float)
            for chance in (chances, chances - lost)
        ]
        drop = drops.of_question_means(scores[0].tolist(), scores[1].tolist(), 1, 1.0)
        passed += drop.upper < margin
        failed += drop.upper >= margin and drop.p <= ALPHA
    return failed, passed


def main() -> None:
    out = sys.stdout
    heads = " | ".join(f"lost {lost * 100:g} points" if lost else "no loss" for lost in LOST)
    out.write(f"| questions | samples | margin | {heads} |\n")
    out.write(f"| --: | --: | --: |{' --: |' * len(LOST)}\n")
    for n, answers, margin in CASES:
        cells = []
        for lost in LOST:
            failed, passed = simulated(n, answers, margin, lost)
            cells.append(f"{failed / RUNS:.0%} / {passed / RUNS:.0%}".replace("%", " %"))
        out.write(f"| {n:,} | {answers} | {margin:g} | {' | '.join(cells)} |\n")
        out.flush()


if __name__ == "__main__":
    main()
