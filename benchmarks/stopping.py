"""How early a sequential `paired` run stops, and how often it is right, by simulation.

`python -m benchmarks.stopping [--write]`: prints the table, or writes it into docs/verdict.md and
its translation. Takes some minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.canary_faults import inserted
from runner.look import Look, sizes
from runner.stats import ALPHA, betting, drops
from runner.status import Status
from runner.verdict.settle import decide

PAGES = [Path(__file__).parent.parent / "docs" / name for name in ("verdict.md", "zh/verdict.md")]
BEGIN = "<!-- written by python -m benchmarks.stopping --write -->\n"
MARGIN = 0.02
RUNS = 1000
SEED = 20261130
# Concurrent requests: the shortest steps, and vLLM's default.
SMALL, LARGE = 20, 256


@dataclass(frozen=True)
class Setting:
    """Questions of a task, and the shares of answers that turn wrong and right."""

    questions: int
    worse: float
    better: float


SETTINGS = (
    Setting(900, 0.005, 0.005),
    Setting(900, 0.01, 0.01),
    Setting(900, 0.025, 0.025),
    Setting(900, 0.025, 0.005),
    Setting(900, 0.06, 0.01),
    Setting(1319, 0.005, 0.005),
    Setting(1319, 0.025, 0.025),
    Setting(1319, 0.025, 0.005),
    Setting(1319, 0.06, 0.01),
)


def looks_at(questions: int, window: int) -> list[tuple[Look, int]]:
    """The looks at a task without subtasks, and how many questions each has."""
    ends = sizes([("task", number) for number in range(questions)], window)
    return [(Look(number, len(ends)), end) for number, end in enumerate(ends, 1)]


def decided(differences: Sequence[float], look: Look) -> Status:
    """The verdict at a look at 0/1 scores.

    Before the last look, the bound itself is not computed, but whether it is below the margin.
    """
    half = ALPHA / 2
    if not look.last:
        if betting.p_at_most([-each for each in differences], -MARGIN, -1.0, betting.EARLY) < half:
            return Status.PASSED
        failed = betting.p_at_most(differences, 0.0, -1.0, betting.EARLY) <= half
        return Status.FAILED if failed else Status.INCONCLUSIVE
    worse, better = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    drop = drops.of_flips(worse, better, len(differences), look)
    return decide(drop.drop, drop.upper, drop.p, MARGIN)[0]


@dataclass(frozen=True)
class Shares:
    """Shares of runs that pass and fail, and the mean share of the questions that are asked."""

    passed: float
    failed: float
    asked: float


def simulated(setting: Setting, window: int, runs: int = RUNS) -> Shares:
    """Simulate runs; a window of all questions leaves only the last look."""
    generator = np.random.default_rng((SEED, setting.questions))
    looks = looks_at(setting.questions, window)
    found = []
    asked = 0
    for _ in range(runs):
        drawn = generator.random(setting.questions)
        lost, won = drawn < setting.worse, drawn > 1 - setting.better
        differences = (1.0 * lost - won).tolist()
        for look, end in looks:
            status = decided(differences[:end], look)
            if status is not Status.INCONCLUSIVE:
                break
        found.append(status)
        asked += end
    return Shares(
        found.count(Status.PASSED) / runs,
        found.count(Status.FAILED) / runs,
        asked / runs / setting.questions,
    )


def table(chinese: bool, runs: int = RUNS) -> str:
    """The table in Markdown."""
    windows = [f"并发 {SMALL}", "已问", f"并发 {LARGE}", "已问"]
    heads = ["题目数", "变错 / 变对", "全部题目", *windows]
    if not chinese:
        windows = [f"window {SMALL}", "asked", f"window {LARGE}", "asked"]
        heads = ["questions", "turn wrong / right", "all", *windows]
    lines = [heads, ["---"] * len(heads)]
    for each in SETTINGS:
        cells = [f"{each.questions:,}", f"{100 * each.worse:g} % / {100 * each.better:g} %"]
        cells.append(_said(simulated(each, each.questions, runs)))
        for window in (SMALL, LARGE):
            found = simulated(each, window, runs)
            cells += [_said(found), f"{100 * found.asked:.0f} %"]
        lines.append(cells)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _said(found: Shares) -> str:
    return f"{100 * found.passed:.0f} / {100 * found.failed:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true")
    if not parser.parse_args().write:
        print(table(chinese=False), end="")
        return
    for page in PAGES:
        text = table(chinese=page.parent.name == "zh")
        page.write_text(inserted(page.read_text(encoding="utf-8"), text, BEGIN), encoding="utf-8")


if __name__ == "__main__":
    main()
