"""A run that may stop early: which questions lm-eval asks and scores at each look."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.lm.building import build_requests
from runner.lm.evaluate import evaluate
from runner.lm.images import Album
from runner.lm.sample_table import SampleRow
from runner.lm.tasks import load_tasks, task_manager
from runner.look import Look, shuffled, sizes
from runner.outcome import Feeding, TaskOutcome
from runner.plan import Evaluation, Plan
from tests.unit.test_repeated_questions import DRAWN, TASK, Speaking

ODD, EVEN = 30, 50
WRITTEN = {
    n: [f"It is {2 * n if n % 3 else 7}.", f"It is {2 * n if n % 5 else 7}."] for n in range(50)
}


class Windowed(Speaking):
    """One whose window is so small that a look has the smallest number of questions."""

    def fed(self) -> Feeding:
        return Feeding(8, 0, 0, 0, 0.0)


Looks = list[tuple[TaskOutcome, list[SampleRow]]]
Run = Callable[..., tuple[TaskOutcome, list[SampleRow], Looks, Speaking]]


@pytest.fixture
def run(plan: Plan, tmp_path: Path) -> Run:
    """Evaluates a group of two tasks with 30 and 50 documents, and stops at look `stop`."""

    def evaluated(
        stop: int, samples: int = 1, sequential: bool = True
    ) -> tuple[TaskOutcome, list[SampleRow], Looks, Speaking]:
        for name, size in (("odd", ODD), ("even", EVEN)):
            documents = [{"q": f"{name} {n}?", "a": str(2 * n)} for n in range(size)]
            (tmp_path / f"{name}.json").write_text(json.dumps(documents))
            files = {"data_files": {"test": str(tmp_path / f"{name}.json")}}
            how = {"generation_kwargs": DRAWN if samples > 1 else {"until": ["\n"]}}
            task = {**TASK, **how, "task": name, "dataset_kwargs": files}
            (tmp_path / f"{name}.yaml").write_text(json.dumps(task))
        means = [{"metric": "exact_match", "weight_by_size": True, "filter_list": ["number"]}]
        group = {"group": "both", "task": ["odd", "even"], "aggregate_metric_list": means}
        (tmp_path / "both.yaml").write_text(json.dumps(group))
        way = Evaluation("both", 0, False, False, None, "8", {}, samples=samples)
        asked = replace(plan, evaluations=(way,), seed=3, sequential=sequential)
        manager = task_manager(str(tmp_path), ["both"], {})
        lm: Any = Windowed(WRITTEN)
        loaded = load_tasks(asked, manager)
        build_requests(lm, manager, loaded, asked)
        found: Looks = []
        seen: Looks = []

        def certain(outcome: TaskOutcome, rows: list[SampleRow]) -> bool:
            seen.append((outcome, rows))
            return len(seen) == stop

        evaluate(lm, manager, loaded, asked, Album(), lambda *each: found.append(each), certain)
        ((outcome, rows),) = found
        return outcome, rows, seen, lm

    return evaluated


ORDER = shuffled([*(("odd", n) for n in range(ODD)), *(("even", n) for n in range(EVEN))], 3)
ENDS = sizes(ORDER, 8)


def test_each_look_has_the_first_questions_of_the_random_order(run: Run) -> None:
    assert ENDS == [20, 40, 60, 80]
    outcome, rows, seen, lm = run(stop=0)
    for end, (looked, so_far) in zip(ENDS, seen, strict=False):
        assert {row.sample for row in so_far} == set(ORDER[:end])
        assert (looked.evaluated, looked.expected, looked.whole) == (end, end, 80)
    assert [looked.look for looked, _ in seen] == [Look(n, 4) for n in (1, 2, 3)]
    assert outcome.look == Look(4, 4) and len(rows) == 80
    assert len(lm.sent) == 80  # nothing is asked twice


def test_a_stopped_run_asks_nothing_more_and_says_what_it_left_out(run: Run) -> None:
    outcome, rows, _, lm = run(stop=2)
    assert len(lm.sent) == len(rows) == 40
    assert (outcome.look, outcome.evaluated, outcome.whole) == (Look(2, 4), 40, 80)
    assert outcome.partial and outcome.left_out == "verdict.sequential"
    metric = outcome.metrics[0]
    right = [n % 3 != 0 or 2 * n == 7 for _, n in ORDER[:40]]
    assert metric.task == "both"
    assert (metric.n, metric.whole) == (40, 80)
    assert metric.value == pytest.approx(sum(right) / 40)
    sizes_of = {each.task: each.n for each in outcome.metrics}
    assert sizes_of == {"both": 40, **{t: sum(name == t for name, _ in ORDER[:40])
                                       for t in ("odd", "even")}}  # fmt: skip


def test_asked_to_the_end_it_scores_what_a_plain_run_does(run: Run) -> None:
    looked, rows, _, _ = run(stop=0)
    plain, plain_rows, seen, _ = run(stop=0, sequential=False)
    assert seen == []
    assert looked.metrics == plain.metrics
    assert (looked.prompt_digest, looked.data_digest) == (plain.prompt_digest, plain.data_digest)
    by_question = {row.sample: row for row in plain_rows}
    assert all(row.scores == by_question[row.sample].scores for row in rows)


def test_several_samples_of_a_question_belong_to_one_look(run: Run) -> None:
    outcome, rows, _, lm = run(stop=1, samples=2)
    assert len(lm.sent) == len(rows) == 40
    assert {(row.sample, row.repeat) for row in rows} == {
        (question, repeat) for question in ORDER[:20] for repeat in (0, 1)
    }
    metric = outcome.metrics[0]
    assert metric.repeated is not None and (metric.n, metric.repeated.samples) == (20, 2)
    scores = [(n % 3 != 0) + (n % 5 != 0) for _, n in ORDER[:20]]
    assert metric.value == pytest.approx(sum(scores) / 40)
    seeds = {(row.sample, row.repeat): row.seeds for row in rows}
    every = run(stop=0, samples=2)[1]
    assert all(row.seeds == seeds.get((row.sample, row.repeat), row.seeds) for row in every)
