"""Questions asked several times: seeds, one scoring pass per sample, and full records."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.errors import UserError
from runner.evidence.unparsable import INVALID
from runner.lm.answer import Answer
from runner.lm.building import build_requests
from runner.lm.evaluate import evaluate
from runner.lm.images import Album
from runner.lm.repeats import SEEDS, noted, repeats, seed_of
from runner.lm.sample_table import SampleRow
from runner.lm.tasks import load_tasks, task_manager
from runner.outcome import TaskOutcome
from runner.plan import Evaluation, Plan
from tests.inturn import InTurn

DRAWN = {"until": ["\n"], "do_sample": True, "temperature": 1.0}
NUMBER = {"name": "number", "filter": [{"function": "regex", "regex_pattern": "is (\\d+)"},
                                       {"function": "take_first"}]}  # fmt: skip
TASK = {
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "generate_until",
    "doc_to_text": "Q: {{q}}\nA:",
    "doc_to_target": "{{a}}",
    "generation_kwargs": DRAWN,
    "filter_list": [NUMBER],
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}
DOCUMENTS = [{"q": f"{n} and {n}?", "a": str(2 * n)} for n in range(3)]
# What the model writes to each question, in the order of its repeats.
WRITTEN = {
    0: ["It is 0.", "It is 0.", "It is 0.", "It is 0."],
    1: ["It is 2.", "It is 3.", "No idea.", "It is 2."],
    2: ["It is 5.", "It is 5.", "It is 4.", "No idea."],
}


class Speaking(InTurn):
    """A model class without a model: writes what it was told, and notes seeds like a real one."""

    def __init__(self, written: dict[int, list[str]]) -> None:
        super().__init__()
        self.written = written
        self.sent: list[tuple[int, int, int]] = []
        self.think_end_token = None

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        texts = []
        for place, asked in enumerate(repeats(requests)):
            request = asked.request
            text = self.written[request.doc_id][asked.number]
            self.sent.append((request.doc_id, asked.number, request.args[1].get("seed")))
            tokens = (place, asked.number)
            asked.note([(Answer(9, tokens, (-0.5, -0.1), (1.0, 1.0), "stop", text), False)])
            texts.append(text)
        return texts

    def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        for asked in repeats(requests):
            length = len(asked.request.args[1])
            answer = Answer(9, (), (), (), "length", scored=-0.5 * length, scored_tokens=length)
            asked.note([(answer, False)])
        return [(-0.5 * len(each.args[1]), False) for each in requests]

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        return [-2.0 * len(each.args[0]) for each in requests]

    def tok_encode(self, text: str) -> list[int]:
        return list(text.encode())

    def answers_to(self, request: Any) -> list[tuple[Answer, bool]]:
        return noted(request)


Run = Callable[..., tuple[TaskOutcome, list[SampleRow], Speaking]]


@pytest.fixture
def run(plan: Plan, tmp_path: Path) -> Run:
    def evaluated(
        samples: int, written: dict[int, list[str]] = WRITTEN, seed: int = 1234, **keys: Any
    ) -> tuple[TaskOutcome, list[SampleRow], Speaking]:
        (tmp_path / "data.json").write_text(json.dumps(DOCUMENTS))
        task = {
            **TASK,
            "task": "ours",
            "dataset_kwargs": {"data_files": {"test": str(tmp_path / "data.json")}},
            **keys,
        }
        (tmp_path / "ours.yaml").write_text(json.dumps(task))
        way = Evaluation("ours", 0, False, False, None, "8", {}, samples=samples)
        asked = replace(plan, evaluations=(way,), seed=seed)
        manager = task_manager(str(tmp_path), ["ours"], {})
        lm: Any = Speaking(written)
        loaded = load_tasks(asked, manager)
        build_requests(lm, manager, loaded, asked)
        found: list[tuple[TaskOutcome, list[SampleRow]]] = []
        evaluate(lm, manager, loaded, asked, Album(), lambda *each: found.append(each))
        ((outcome, rows),) = found
        return outcome, rows, lm

    return evaluated


def test_every_answer_is_scored_by_the_tasks_own_code_and_kept(run: Run) -> None:
    outcome, rows, _ = run(4)
    scores = {(row.doc_id, row.repeat): row.scores["exact_match"] for row in rows}
    assert [scores[0, n] for n in range(4)] == [1, 1, 1, 1]
    assert [scores[1, n] for n in range(4)] == [1, 0, 0, 1]
    assert [scores[2, n] for n in range(4)] == [0, 0, 1, 0]
    texts = {(row.doc_id, row.repeat): row.responses for row in rows}
    assert texts == {(d, n): [text] for d, all_ in WRITTEN.items() for n, text in enumerate(all_)}
    by_repeat = {(row.doc_id, row.repeat): row.token_ids[1] for row in rows}
    assert by_repeat == {(d, n): n for d in range(3) for n in range(4)}
    assert {row.filtered for row in rows if row.responses == ["No idea."]} == {INVALID}
    assert (outcome.evaluated, outcome.samples, outcome.scored, outcome.answers) == (3, 4, 12, 12)
    assert outcome.unparsable == 2


def test_the_metric_is_the_mean_over_questions_with_their_error(run: Run) -> None:
    (metric,) = run(4)[0].metrics
    assert (metric.value, metric.n, metric.binary) == (
        pytest.approx((1 + 0.5 + 0.25) / 3),
        3,
        False,
    )
    # Deviations 5/12, -1/12, -4/12: sum of squares 42/144, divided by n (n - 1) = 6.
    assert metric.stderr == pytest.approx((42 / 144 / 6) ** 0.5)
    repeated = metric.repeated
    assert repeated is not None
    assert repeated.samples == 4
    assert (repeated.always, repeated.never) == (pytest.approx(1 / 3), 0)
    assert repeated.sometimes == pytest.approx(2 / 3)
    assert repeated.passed is not None
    # With c right of 4: 1 - C(4-c, 2) / C(4, 2) is 1, 5/6 and 1/2.
    assert repeated.passed == {
        1: pytest.approx(metric.value),
        2: pytest.approx((1 + 5 / 6 + 1 / 2) / 3),
        4: 1.0,
    }
    assert repeated.majority == pytest.approx(2 / 3)  # 5 is the most frequent answer to 2 and 2
    assert repeated.within == pytest.approx((0 + 1 / 3 + 1 / 4) / 3)


def test_once_is_as_before(run: Run) -> None:
    outcome, rows, _ = run(1)
    (metric,) = outcome.metrics
    assert (metric.value, metric.binary, metric.repeated) == (pytest.approx(2 / 3), True, None)
    assert [row.repeat for row in rows] == [0, 0, 0]
    assert [row.responses for row in rows] == [[WRITTEN[n][0]] for n in range(3)]


def test_each_sample_has_a_seed_of_its_own_and_a_rerun_the_same(run: Run) -> None:
    _, rows, first = run(4)
    _, _, again = run(4)
    _, _, fewer = run(2)
    _, _, other = run(4, seed=1)
    assert len({seed for _, _, seed in first.sent}) == 12
    assert first.sent == again.sent
    assert set(fewer.sent) <= set(first.sent)
    assert {seed for *_, seed in first.sent}.isdisjoint({seed for *_, seed in other.sent})
    recorded = {(row.doc_id, row.repeat): row.seeds for row in rows}
    assert recorded == {(doc, number): [seed] for doc, number, seed in first.sent}


def test_repeats_of_the_tasks_own_stay_within_each_sample(run: Run) -> None:
    """A majority vote of two, in each of two samples."""
    vote = {"name": "vote", "filter": [NUMBER["filter"][0], {"function": "majority_vote"},  # type: ignore[index]
                                       {"function": "take_first"}]}  # fmt: skip
    outcome, rows, lm = run(2, repeats=2, filter_list=[vote])
    assert len(lm.sent) == 12
    assert outcome.answers == 12
    (metric,) = outcome.metrics
    assert metric.repeated is not None
    assert metric.repeated.samples == 2
    of_last = [row for row in rows if row.doc_id == 2]
    assert [row.responses for row in of_last] == [WRITTEN[2][:2], WRITTEN[2][2:]]
    assert [len(row.seeds) for row in of_last] == [2, 2]
    assert [row.answer_tokens for row in of_last] == [[2, 2], [2, 2]]
    assert [row.scores["exact_match"] for row in of_last] == [0.0, 1.0]


CHOICES = {
    "output_type": "multiple_choice",
    "doc_to_choice": ["0", "two", "four"],
    "doc_to_target": 0,
    "filter_list": None,
    "generation_kwargs": None,
    "metric_list": [{"metric": "acc"}],
}
TEXTS = {
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "{{q}}",
    "filter_list": None,
    "generation_kwargs": None,
    "metric_list": [{"metric": "byte_perplexity"}],
}


def test_the_number_of_tokens_of_each_choice_is_recorded(run: Run) -> None:
    _, rows, _ = run(1, **CHOICES)
    assert [row.choice_tokens for row in rows] == [[2, 4, 5]] * 3  # with the space before them
    assert [row.choice_logprobs for row in rows] == [[-1.0, -2.0, -2.5]] * 3


def test_the_number_of_tokens_of_a_text_is_recorded(run: Run) -> None:
    _, rows, _ = run(1, **TEXTS)
    lengths = [len(each["q"]) for each in DOCUMENTS]
    assert [row.choice_tokens for row in rows] == [[each] for each in lengths]
    assert [row.choice_logprobs for row in rows] == [[-2.0 * each] for each in lengths]


def test_an_unknown_number_of_tokens_leaves_all_out(run: Run) -> None:
    class Silent(Speaking):
        def answers_to(self, request: Any) -> list[tuple[Answer, bool]]:
            return [(replace(a, scored_tokens=0), cut) for a, cut in noted(request)][:1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.unit.test_repeated_questions.Speaking", Silent)
        _, rows, _ = run(1, **CHOICES)
    assert [row.choice_tokens for row in rows] == [[]] * 3


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            {"generation_kwargs": {"until": ["\n"], "do_sample": False}},
            r"^task.samples=4: ours is decoded greedily, so all samples would be equal; set "
            r"task.gen_kwargs.do_sample=true and a task.gen_kwargs.temperature above 0",
        ),
        (
            {
                "output_type": "multiple_choice",
                "doc_to_choice": ["0", "2", "4"],
                "filter_list": None,
                "metric_list": [{"metric": "acc"}],
            },
            r"^task.samples=4: ours scores given answers, so all samples would be equal; set 1",
        ),
    ],
)
def test_samples_that_would_all_be_equal_are_rejected(
    run: Run, keys: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        run(4, **keys)


def test_seeds_differ_by_task_question_and_request() -> None:
    found = {
        seed_of(base, task, doc, request)
        for base in (1, 2)
        for task in ("a", "b")
        for doc in range(20)
        for request in range(2)
    }
    assert len(found) == 160
    assert all(0 <= seed < SEEDS for seed in found)
    assert seed_of(1234, "aime25", 7, 0) == seed_of(1234, "aime25", 7, 0)
