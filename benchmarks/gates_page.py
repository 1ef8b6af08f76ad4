"""Writes docs/gates.md: what an audit assumes, and what vllm-ascend's gates can tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from runner.audit.entry import Audit, aisbench
from runner.verdict.gates import LOSS, MOST_FAILS, share

Row = dict[str, str]
NAMES = {
    "aime2024": "AIME 2024",
    "aime2025": "AIME 2025",
    "gpqa": "GPQA diamond",
    "gsm8k": "GSM8K",
    "gsm8k-lite": "GSM8K lite",
    "gsm8k_lite": "GSM8K lite",
    "SuperGLUE": "BoolQ",
    "textvqa-lite": "TextVQA lite",
}
# Possible sizes of a data set whose size is unknown.
SIZES = (50, 200, 500, 5000)
# Of the table about tolerances: a baseline, and answers for each of so many questions.
BASELINE, QUESTIONS, SAMPLES = 0.9, 30, (1, 4, 8, 16, 32, 64)
TEXT = """\
# Accuracy gates

An accuracy gate is a baseline and a tolerance: a run passes if its value is close enough to the
baseline. With few questions, chance decides. This page shows how to find out what a gate can
tell, and does so for every accuracy gate of vllm-ascend's nightly, weekly and lm-eval tests
(commit {commit}).

`python -m benchmarks.upstream_gates` prints this page. The facts behind it are in
[upstream_gates.csv](upstream_gates.csv).

## Audit your own gates

    python -m runner.audit qwen3_8b                                # a model of conf/model
    python -m runner.audit path/to/model.yaml verdict=not_worse    # your file, another rule
    python -m runner.audit tests/e2e/models/configs/*.yaml         # vllm-ascend's model files
    python -m runner.audit tests/e2e/nightly/single_node/models/configs/*.yaml   # and nightly files

For each gate, the command prints how often it passes a stack that lost 0, 2, 5 or 10 points, and
how often it fails an unchanged stack, followed by one sentence. It needs no engine, data set or
network. A point is 0.01 of the metric.

| option | effect |
| --- | --- |
| `--samples N` | also audits the gate with N answers for each question (default: 8) |
| `--figure FILE` | draws the share of runs that pass, by true accuracy (`.svg` or `.png`) |
| `--json` | prints one JSON list |
| `KEY=VALUE` | a setting of the run, such as `verdict.rtol=0.03` |

The number of questions is known for common tasks. For other tasks, give it in the model file:
`{{value: 0.90, n: 30}}`. If it is unknown, the gate is not audited.

Reports do the same with the number of questions that the run had. The terminal, `report.md` and
`report.html` have a line for each metric whose gate is weak: it passes a stack that lost 5 points
in more than 20 % of runs, or fails an unchanged stack in more than 5 %.

## Assumptions

- Every answer scores 0 or 1. Other metrics are not audited.
- The answers are independent, each right with the stack's true accuracy. The number of right
  answers is then binomial, and the shares are exact, including the gate's own rounding.
- This is the worst case for a fixed set of questions: unequal difficulty only reduces the
  variance between runs ([Hoeffding 1956](https://doi.org/10.1214/aoms/1177728178)). A stack whose
  accuracy is within the tolerance passes at least as often as shown. A stack that is outside by
  one answer or more passes at most as often as shown. The same holds for several answers to each
  question.
- With greedy decoding (temperature 0), an unchanged stack repeats most of its answers, so it
  fails far less often than shown. The shares then describe a stack whose answers differ from
  those of the baseline: another chip, precision or release.
- "Fails" has two columns. *Exact*: the baseline is the true accuracy of the unchanged stack. *1
  run*: the baseline is the result of one run of the same number of questions, as published
  baselines are. The true accuracy is then uncertain, with a Beta(right + ½, wrong + ½)
  distribution, and the gate fails more often.
- With several answers to each question, and with a baseline that states its own error, the tests
  of `not_worse` have no exact distribution. These gates are not audited.
- Each metric is judged on its own. Two metrics of the same answers tend to fail together.

AISBench's default temperature in vllm-ascend's tests is 0.6. AISBench rounds to 0.01 points, and
the test passes values from baseline − threshold to baseline + threshold. lm-eval's values are
rounded to four digits and compared by `np.isclose(baseline, value, rtol=0.05)`.

## Summary

{summary}

![Share of runs that pass, by true accuracy, for four gates](images/gates.svg)

The curves are the most common gate of each data set. The more questions, the steeper the curve;
the wider the tolerance, the further from the baseline it falls. For example, AIME's 90 ± 10
passes a stack with a true accuracy of 80 % in {aime} of runs.

## Choosing samples and tolerance

With the same tolerance, more answers per question only sharpen the decision at its edge: ± 10
points still pass a loss of 5. But they make a *narrower* tolerance possible. For {questions}
questions and a baseline of {baseline:.0f} points, this is the narrowest tolerance with which an
unchanged stack fails in at most {fails} of runs:

{tolerances}

More answers per question need sampling (temperature above 0). With greedy decoding, use more
questions, or compare with a reference run question by question: `verdict=paired` detects much
smaller drops ([verdict.md](verdict.md#detection-rates)).

## Nightly and weekly gates

Percentage of runs. *T*: temperature. *−5*: passes a stack that lost 5 points. *×8*: with 8
answers for each question, if they are sampled.

{jobs}

GSM8K lite has 32 questions according to vllm-ascend's commit 9676868d56. `num_prompts` limits the
number of questions where a file sets it.

The size of TextVQA lite is not published. All of TextVQA's validation split has 5,000 questions. If
the lite version had n questions, and every answer scored 0 or 1, its gates would pass a stack that
lost 5 points / fail an unchanged one (baseline exact) in this share of runs (%). An
answer to TextVQA can also score a part of a point. Values then vary less, so an unchanged stack
fails at most as often as shown. A loss of 5 points is at the edge of ± 5, where about half of the
runs pass whatever n is.

{sizes}

## lm-eval gates

Percentage of runs. Every gate uses rtol 0.05. Answers are greedy or are scored choices, so
repeating them would change nothing.

{lm_eval}

The tests of the speech model and the reward model use other rules and are not in the table.
"""
HEAD = {
    "jobs": (
        "file", "data set", "n", "T", "gate", "−2", "−5", "−10", "fails: exact", "1 run",
        "×8: −5", "−10", "fails: exact",
    ),
    "lm_eval": ("file", "metric", "n", "baseline", "−2", "−5", "−10", "fails: exact", "1 run"),
}  # fmt: skip


def page(audits: Sequence[tuple[Row, Audit]]) -> str:
    """Return the page as Markdown."""
    jobs = [each for each in audits if each[0]["rule"] == "aisbench"]
    others = [each for each in audits if each[0]["rule"] == "isclose"]
    jobs.sort(key=lambda each: (NAMES[each[0]["dataset"]], each[0]["file"]))
    others.sort(key=lambda each: (each[0]["dataset"], each[0]["file"]))
    return TEXT.format(
        commit=audits[0][0]["commit"],
        summary=_summary(jobs, others),
        aime=share(aisbench(0.9, 0.1, 30).passes(0.8)),
        questions=QUESTIONS,
        baseline=100 * BASELINE,
        fails=f"{100 * MOST_FAILS:g} %",
        tolerances=_tolerances(),
        jobs=_table(HEAD["jobs"], map(_job, jobs), left=2),
        sizes=_sizes([audit for _, audit in jobs if not audit.found]),
        lm_eval=_table(HEAD["lm_eval"], map(_other, others), left=2),
    )


def _summary(jobs: Sequence[tuple[Row, Audit]], others: Sequence[tuple[Row, Audit]]) -> str:
    lines = ["| | nightly and weekly | lm-eval |", "|---|--:|--:|"]
    counted = []
    for group in (jobs, others):
        found = [audit.found[0] for _, audit in group if audit.found]
        passes = [each.passes[LOSS] or 0.0 for each in found]
        large = [each.passes[0.1] or 0.0 for each in found]
        counted.append(
            {
                "gates": len(group),
                "of them, n unknown (not counted below)": len(group) - len(found),
                "pass a 5-point loss in more than half of the runs": sum(p > 0.5 for p in passes),
                "pass a 5-point loss in more than 20 % of runs": sum(p > 0.2 for p in passes),
                "pass a 10-point loss in more than half of the runs": sum(p > 0.5 for p in large),
                "fail an unchanged stack in more than 5 % of runs, baseline exact": sum(
                    each.fails > MOST_FAILS for each in found
                ),
                "the same, baseline from one run": sum(
                    each.fails_measured > MOST_FAILS for each in found
                ),
            }
        )
    first, second = counted
    lines += [f"| {name} | {number} | {second[name]} |" for name, number in first.items()]
    return "\n".join(lines)


def _tolerances() -> str:
    rows = []
    for samples in SAMPLES:
        tenths = next(
            tenths
            for tenths in range(1, 1000)
            if aisbench(BASELINE, tenths / 1000, QUESTIONS, samples).fails(BASELINE) <= MOST_FAILS
        )
        gate = aisbench(BASELINE, tenths / 1000, QUESTIONS, samples)
        losses = (_number(gate.passes(BASELINE - loss)) + " %" for loss in (LOSS, 0.1))
        rows.append((str(samples), f"± {tenths / 10:g} points", *losses))
    head = ("answers per question", "tolerance", "passes a 5-point loss", "passes a 10-point loss")
    return _table(head, rows, left=0)


def _sizes(unknown: Sequence[Audit]) -> str:
    """The gates of unknown size, for some sizes."""
    found = Counter((each.entry.baseline, each.entry.tolerance) for each in unknown)
    rows = []
    for (baseline, tolerance), number in sorted(found.items(), reverse=True):
        gates = [aisbench(baseline, tolerance, size) for size in SIZES]
        cells = (
            f"{_number(gate.passes(baseline - LOSS))} / {_number(gate.fails(baseline))}"
            for gate in gates
        )
        rows.append((f"{100 * baseline:g} ± {100 * tolerance:g}", str(number), *cells))
    return _table(("gate", "files", *(f"n = {size:,}" for size in SIZES)), rows, left=1)


def _job(each: tuple[Row, Audit]) -> tuple[str, ...]:
    row, audit = each
    name = PurePosixPath(row["file"]).stem
    start = (name, NAMES[row["dataset"]], row["n"] or "unknown", row["temperature"])
    limits = audit.entry.limits
    if not audit.found:
        return (*start, limits, *("",) * 8)
    own, more = audit.found
    parts: list[float | None] = [own.passes[0.02], own.passes[LOSS], own.passes[0.1]]
    parts += [own.fails, own.fails_measured]
    sampled = float(row["temperature"]) > 0
    parts += [more.passes[LOSS], more.passes[0.1], more.fails] if sampled else [None] * 3
    return (*start, limits, *map(_number, parts))


def _other(each: tuple[Row, Audit]) -> tuple[str, ...]:
    row, audit = each
    (own, *_) = audit.found
    parts = [own.passes[0.02], own.passes[LOSS], own.passes[0.1], own.fails, own.fails_measured]
    name = PurePosixPath(row["file"]).stem
    metric = f"{row['dataset']} {row['metric']}"
    return (name, metric, row["n"], row["baseline"], *map(_number, parts))


def _number(part: float | None) -> str:
    return "" if part is None else share(part).removesuffix(" %")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> str:
    """A Markdown table; all but the first `left` columns are numbers."""
    lines = [f"| {' | '.join(head)} |"]
    lines.append("|" + "---|" * left + "--:|" * (len(head) - left))
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)
