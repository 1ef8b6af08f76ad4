"""A whole evaluation by lm-eval, with a model that answers half of the questions with nonsense."""

from __future__ import annotations

from typing import Any

import pytest

from runner.config.places import PACKAGE
from runner.lm.datasets import local_datasets
from runner.lm.evaluate import evaluate
from runner.lm.images import Album
from runner.lm.sample_table import SampleRow
from runner.lm.tasks import load_tasks, task_manager
from runner.outcome import TaskOutcome
from runner.plan import Evaluation, Plan
from tests.inturn import InTurn

ASKED = 40


class Rambling(InTurn):
    """Answers A to every other question, and to the others nothing that is an option."""

    MULTIMODAL = True
    tokenizer_name = "none"

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        return ["A" if request.doc_id % 2 else "hard to say" for request in requests]


@pytest.fixture(scope="module")
def found() -> tuple[TaskOutcome, list[SampleRow]]:
    asked = Evaluation("canary_colour", None, False, False, float(ASKED), "auto", {})
    canary = PACKAGE / "canary"
    plan = Plan(
        model="rambling",
        backend="vllm-vlm",
        platform="cpu",
        hardware=None,
        baseline_source=None,
        engine_args={},
        environment={},
        evaluations=(asked,),
        system_instruction=None,
        seed=1234,
        data_source="hf",
        data_dir=str(canary / "datasets"),
        include_path=str(canary / "tasks"),
        engine_fingerprint="",
        evaluation_fingerprint="",
    )
    kept: list[tuple[TaskOutcome, list[SampleRow]]] = []
    with local_datasets(plan.data_dir, plan.data_source), pytest.MonkeyPatch.context() as patch:
        patch.setattr("lm_eval.evaluator.LMEVAL_HASHMM", False)  # as a worker's environment has it
        manager = task_manager(plan.include_path, [each.task for each in plan.evaluations], {})
        loaded = load_tasks(plan, manager)
        evaluate(Rambling(), manager, loaded, plan, Album(), lambda *each: kept.append(each))
    (only,) = kept
    return only


def test_guesses_are_counted_and_kept_with_their_samples(
    found: tuple[TaskOutcome, list[SampleRow]],
) -> None:
    task, rows = found
    assert task.evaluated == task.expected == task.metrics[0].n == ASKED
    assert task.whole == task.metrics[0].whole == 100
    assert [row.guessed for row in rows] == [row.doc_id % 2 == 0 for row in rows]
    assert (task.guessed, task.unparsable) == (ASKED // 2, ASKED // 2)


def test_luck_is_what_the_guesses_earned(found: tuple[TaskOutcome, list[SampleRow]]) -> None:
    task, rows = found
    (metric,) = task.metrics
    read = sum(row.scores["acc"] for row in rows if not row.guessed)
    assert metric.luck > 0, "no guess was right: nothing is shown"
    assert metric.value - metric.luck == pytest.approx(read / ASKED)
