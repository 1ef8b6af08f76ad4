"""Requests are built before an engine starts, by lm-eval itself, and asked as they were built."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.errors import UserError
from runner.lm.building import build_requests
from runner.lm.evaluate import evaluate
from runner.lm.images import Album
from runner.lm.tasks import LoadedTask, load_tasks, task_manager
from runner.outcome import TaskOutcome
from runner.plan import Evaluation, Plan
from tests.inturn import InTurn

DOCUMENTS = [
    {"q": f"{n} and {n}?", "a": str(2 * n), "turns": [{"role": "user", "content": "?"}]}
    for n in range(5)
]
TASK = {
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "generate_until",
    "doc_to_text": "Q: {{q}}\nA:",
    "doc_to_target": " {{a}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 4},
    "metric_list": [{"metric": "exact_match"}],
}
WAY = Evaluation("", None, False, False, None, "8", {})


class Recording(InTurn):
    """A model class without a model: keeps what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Any] = []

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        self.requests += requests
        return ["0" for _ in requests]

    def loglikelihood(self, requests: Any) -> Any:
        self.requests += requests
        return [(-1.0, False) for _ in requests]

    loglikelihood_rolling = loglikelihood

    def check_settings(self, settings: dict[str, Any], images: bool) -> None:
        if "num_beams" in settings:
            raise UserError("no beams here")


Load = Callable[..., tuple[Any, list[LoadedTask], Plan]]


@pytest.fixture
def load(plan: Plan, tmp_path: Path) -> Load:
    """Tasks by name and what is different in each from TASK; how they are asked.

    `more` is YAML for their files that is no JSON.
    """

    def loaded(tasks: dict[str, dict[str, Any]], more: str = "", **asked: Any) -> Any:
        data = tmp_path / "data.jsonl"
        data.write_text("".join(json.dumps(each) + "\n" for each in DOCUMENTS))
        for name, changes in tasks.items():
            whole = {"dataset_kwargs": {"data_files": {"test": str(data)}}, **TASK, **changes}
            text = json.dumps({"task": name, **whole}).removesuffix("}")
            (tmp_path / f"{name}.yaml").write_text(f"{text}{more}}}")
        evaluations = tuple(replace(WAY, task=name, **asked) for name in tasks)
        asking = replace(plan, evaluations=evaluations, include_path=str(tmp_path))
        manager = task_manager(str(tmp_path), list(tasks), {})
        return manager, load_tasks(asking, manager), asking

    return loaded


def finish(lm: Recording, manager: Any, loaded: list[LoadedTask], plan: Plan) -> list[TaskOutcome]:
    kept: list[TaskOutcome] = []
    evaluate(lm, manager, loaded, plan, Album(), lambda task, rows: kept.append(task))
    return kept


def test_what_was_built_is_asked_and_nothing_is_built_again(load: Load) -> None:
    manager, loaded, plan = load({"first": {}, "second": {"num_fewshot": 2}}, limit=3.0)
    lm = Recording()
    build_requests(lm, manager, loaded, plan)
    assert lm.requests == []
    built = [request for task in loaded for request in task.leaves[task.evaluation.task].instances]
    assert [request.doc_id for request in built] == [0, 1, 2, 0, 1, 2]
    kept = finish(lm, manager, loaded, plan)
    assert list(map(id, lm.requests)) == list(map(id, built))
    assert [task.evaluated for task in kept] == [3, 3]


def test_built_before_or_not_the_prompts_are_the_same(load: Load) -> None:
    tasks = {"shots": {"num_fewshot": 3, "repeats": 2, "description": "Sums."}}
    manager, loaded, plan = load(tasks)
    build_requests(Recording(), manager, loaded, plan)
    (before,) = finish(Recording(), manager, loaded, plan)
    (without,) = finish(Recording(), *load(tasks))
    assert before.prompt_digest == without.prompt_digest


def test_after_a_task_its_documents_are_let_go(load: Load) -> None:
    manager, loaded, plan = load({"only": {}})
    build_requests(Recording(), manager, loaded, plan)
    finish(Recording(), manager, loaded, plan)
    assert loaded[0].leaves["only"].instances is None


def test_generation_settings_that_the_engine_refuses_are_found_before_it_starts(load: Load) -> None:
    settings = {"until": ["\n"], "num_beams": 2}
    manager, loaded, plan = load({"one": {}, "two": {"generation_kwargs": settings}})
    with pytest.raises(UserError) as refused:
        build_requests(Recording(), manager, loaded, plan)
    assert refused.value.problems == ("task.names=two: no beams here",)
