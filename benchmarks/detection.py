"""How often each rule finds a fault of the canary: the tables in docs/verdict.md.

    python -m benchmarks.detection            prints the tables
    python -m benchmarks.detection --write    writes them into both pages, between their markers

A run is a random draw of the canary's 600 questions. It takes five minutes on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.canary_faults import inserted
from benchmarks.detection_rules import Judged, Reference
from benchmarks.detection_stacks import Stack, measured
from benchmarks.healthy_stacks import HEALTHY, RANKS
from runner.status import Status

DOCS = Path(__file__).parent.parent / "docs"
BEGIN = "<!-- written by python -m benchmarks.detection --write -->\n"
RULES = ("isclose", "not_worse", "paired", "numerics", "replay")
ALL = 600
SIZES = (20, 40, 100, 200, ALL)
RUNS = 200
SEED = 20261130
# Share of runs that have to fail for a fault to count as found.
FOUND = 0.95


@dataclass(frozen=True)
class Cell:
    """What a rule says of one stack with one number of questions.

    `failed` and `passed` are shares of runs. Of all 600 questions there is only one draw.
    """

    failed: float
    passed: float

    def __str__(self) -> str:
        return f"{100 * self.failed:.0f} / {100 * self.passed:.0f}"


# By rule, stack and number of questions.
Cells = Mapping[str, Mapping[str, Mapping[int, Cell]]]


@dataclass(frozen=True)
class Words:
    """The language of a page. Names that are missing in `stacks` stay as they are."""

    page: Path
    fault: str
    first: str
    shares: str
    passed: str
    open: str
    stacks: Mapping[str, str]


ENGLISH = Words(
    page=DOCS / "verdict.md",
    fault="stack",
    first=f"Number of questions from which at least {100 * FOUND:.0f} % of the runs fail; "
    f"otherwise the verdict with all {ALL}:",
    shares="`{rule}`, % of runs that fail / pass, by the number of questions:",
    passed="passes",
    open="inconclusive",
    stacks={HEALTHY: f"healthy: {HEALTHY}"},
)
CHINESE = Words(
    page=DOCS / "zh" / "verdict.md",
    fault="软件栈",
    first=f"从多少道题起至少 {100 * FOUND:.0f} % 的运行判为 FAILED；"
    f"达不到时，给出用全部 {ALL} 道题的判定：",
    shares="`{rule}`：按题目数，判为 FAILED / 通过的运行所占百分比：",
    passed="通过",
    open="无法判定",
    stacks={
        HEALTHY: "正常：bf16 运算，换一种注意力算子",
        "int8 weights (per row)": "int8 权重（逐行）",
        "int6 weights (per row)": "int6 权重（逐行）",
        "fp8 weights (e4m3, per channel)": "fp8 权重（e4m3，逐通道）",
        "int4 weights (per row)": "int4 权重（逐行）",
        "q/k/v bias dropped": "丢失 q/k/v 偏置",
        "M-RoPE rows and columns swapped": "M-RoPE 的行与列互换",
        "rope_theta times 1.1": "rope_theta 乘以 1.1",
        "rope_theta times 2": "rope_theta 乘以 2",
        "attention head 0 of layer 1 zeroed": "第 1 层的 0 号注意力头置零",
        "images swapped in two-image questions": "双图题目的图像顺序互换",
        "text layer 2 skipped": "跳过第 2 个文本层",
        "RMSNorm epsilon 1e-5 to 1e-2": "RMSNorm 的 epsilon 由 1e-5 变为 1e-2",
        "BGR instead of RGB": "RGB 误作 BGR",
        "partial sum of rank 1 of 2 missing": "2 个 rank 中 rank 1 的部分和缺失",
        "question cut to its last 100 characters": "题目只剩最后 100 个字符",
    },
)


def draws(size: int, runs: int = RUNS) -> list[list[int]]:
    """Questions of each run, drawn without replacement; one run if there is only one draw."""
    generator = np.random.default_rng((SEED, size))
    return [
        sorted(generator.choice(ALL, size, replace=False).tolist())
        for _ in range(1 if size == ALL else runs)
    ]


def cell(judged: Judged, rule: str, asked: Sequence[Sequence[int]]) -> Cell:
    """Shares of verdicts over runs."""
    found = [judged.status(rule, each) for each in asked]
    return Cell(*(found.count(each) / len(found) for each in (Status.FAILED, Status.PASSED)))


def cells(measured: Iterable[Stack]) -> Cells:
    """Judge all runs. The first stack is the reference; then come its noise runs."""
    first, *others = measured
    reference = Reference(first, others[: len(RANKS)])
    stacks = [Judged(reference, other) for other in others[len(RANKS) :]]
    asked = {size: draws(size) for size in SIZES}
    return {
        rule: {
            stack.name: {size: cell(stack, rule, asked[size]) for size in SIZES} for stack in stacks
        }
        for rule in RULES
    }


def summary(found: Cells, words: Words) -> str:
    """The number of questions from which each rule finds each fault, in Markdown."""
    rows = [
        [words.stacks.get(name, name), *(_first(found[rule][name], words) for rule in RULES)]
        for name in found[RULES[0]]
    ]
    heads = [words.fault, *(f"`{rule}`" for rule in RULES)]
    return f"{words.first}\n\n{_table(heads, rows)}"


def tables(found: Cells, words: Words) -> str:
    """The summary and a table for each rule, in Markdown."""
    names = list(found[RULES[0]])
    parts = [summary(found, words)]
    for rule in RULES:
        rows = [
            [words.stacks.get(name, name), *map(str, found[rule][name].values())] for name in names
        ]
        heads = [words.fault, *map(str, SIZES)]
        parts += [f"{words.shares.format(rule=rule)}\n", _table(heads, rows)]
    return "\n".join(parts)


def _first(by_size: Mapping[int, Cell], words: Words) -> str:
    enough = list(_enough(by_size))
    if enough:
        return str(enough[-1])
    return words.passed if by_size[ALL].passed else words.open


def _enough(by_size: Mapping[int, Cell]) -> Iterator[int]:
    """Sizes that find the fault, the largest first, until one doesn't."""
    for size in sorted(by_size, reverse=True):
        if by_size[size].failed < FOUND:
            return
        yield size


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    found = cells(measured())
    if not given.write:
        print(tables(found, ENGLISH), end="")
        return
    for words in (ENGLISH, CHINESE):
        page = words.page.read_text(encoding="utf-8")
        words.page.write_text(inserted(page, tables(found, words), BEGIN), encoding="utf-8")


if __name__ == "__main__":
    main()
