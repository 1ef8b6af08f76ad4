"""The package's own tasks: how they are found, what they ask, and their scores through lm-eval."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.models.dummy import DummyLM
from lm_eval.tasks import TaskManager

from runner.config.places import TASKS
from runner.config.schema import RunConfig
from runner.config.task_files import packaged
from runner.errors import UserError
from runner.facts import gathered
from runner.lm.answer import Answer
from runner.lm.answering import refuse_without_room
from runner.lm.building import build_requests
from runner.lm.dataset_ids import data_sets
from runner.lm.datasets import local_datasets
from runner.lm.evaluate import evaluate
from runner.lm.images import Album
from runner.lm.sample_table import SampleRow
from runner.lm.task_index import task_directories
from runner.lm.tasks import LoadedTask, load_tasks, task_manager
from runner.outcome import TaskOutcome
from runner.plan import Evaluation, Plan
from runner.preflight import Findings
from runner.present.lm_eval_command import lm_eval_command
from tests.inturn import InTurn

PROJECT = Path(__file__).parents[2]
DATA = PROJECT / "tests" / "data" / "tasks"
# Every task, its data set, and the choice of task= that selects it.
TASK_DATA = {
    "aime24_chat": ("Maxwell-Jia/AIME_2024", "aime24"),
    "aime25_chat": ("math-ai/aime25", "aime25"),
    "gpqa_diamond_chat": ("Idavidrein/gpqa", "gpqa_diamond"),
    "gsm8k_chat": ("openai/gsm8k", "gsm8k_chat"),
    "math500_chat": ("HuggingFaceH4/MATH-500", "math500"),
    "mmlu_pro_chat": ("TIGER-Lab/MMLU-Pro", "mmlu_pro"),
    "textvqa_val_chat": ("lmms-lab/textvqa", "textvqa_val"),
}
STEPS = "\n\nWork through the problem step by step and give the final answer inside \\boxed{}."
LETTER = (
    "\n\nThink the question through step by step. Then give your choice in the last line of your "
    'reply, in the form "Answer: X", where X is the letter of the right choice.'
)
PROMPTS = {
    "aime24_chat": "A gardener plants tulips in rows of $7$ and has $3$ bulbs left over; in rows "
    "of $11$ she has $5$ left over. Find the least number of bulbs above $100$ that she can have."
    + STEPS,
    "aime25_chat": "Let $S$ be the set of divisors of $36$. Find the sum of the elements of $S$."
    + STEPS,
    "gpqa_diamond_chat": "Which particle carries the electromagnetic force?\n\nA. GPQA" + LETTER,
    "gsm8k_chat": "A bakery sells 3 trays of 24 rolls and throws 5 rolls away. How many rolls did "
    "it bake?\n\nWork through the problem step by step and give the final answer, a number without "
    "its unit, inside \\boxed{}.",
    "math500_chat": "What is the probability that two coins, each tossed once, show different "
    "sides?" + STEPS,
    "mmlu_pro_chat": "Which of these planets is the largest?\n\nA. Mercury\nB. Venus\nC. Earth\n"
    "D. Mars\nE. Jupiter\nF. Saturn\nG. Uranus\nH. Neptune\nI. Ceres\nJ. Pluto" + LETTER,
    "textvqa_val_chat": "<image>What does the sign say?\nReply with nothing but the answer: a word "
    "or a short phrase.",
}
# By task: a reply and its score for each document, in the order of the data.
REPLIES: dict[str, Sequence[tuple[str, float]]] = {
    "aime24_chat": [
        ("<think>Maybe \\boxed{38}?</think>It is $\\boxed{115}$.", 1),
        ("\\boxed{72}, no: \\boxed{144}", 0),
        ("<think>It must be \\boxed{42}", 0),
    ],
    "aime25_chat": [("\\boxed{091}", 1), ("The answer is 12.", 1), ("I count 53.", 0)],
    "gpqa_diamond_chat": [],
    "gsm8k_chat": [
        ("They baked 77 rolls.", 1),
        ("It is worth \\boxed{\\$1200}.", 1),
        ("The temperature is 5 degrees.", 0),
    ],
    "math500_chat": [
        ("\\boxed{0.5}", 1),
        ("\\boxed{(2, \\pi/2)}", 1),
        ("\\boxed{1.5\\text{ m}}", 1),
        ("Ada wins.", 0),
        ("\\boxed{(x-3)(x+1)}", 1),
    ],
    "mmlu_pro_chat": [("Answer: E", 1), ("Answer: A", 0), ("It is 30, clearly.", 0)],
    "textvqa_val_chat": [("STOP", 1), ("12", 1), ("The cafe!", 0.9)],
}
UNPARSABLE = {
    "aime24_chat": 1,
    "aime25_chat": 1,
    "gpqa_diamond_chat": 1,
    "gsm8k_chat": 0,
    "math500_chat": 1,
    "mmlu_pro_chat": 1,
    "textvqa_val_chat": 0,
}


@pytest.fixture(autouse=True)
def as_in_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """lm-eval reads the variable when it is imported."""
    monkeypatch.setattr("lm_eval.evaluator.LMEVAL_HASHMM", False)


class Scripted(InTurn):
    """Answers each document with its own reply."""

    MULTIMODAL = True
    think_end_token = None

    def __init__(self, replies: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.replies = replies
        self.requests: list[Any] = []

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        self.requests += requests
        return [self.replies[each.task_name][each.doc_id] for each in requests]


class Sampled(Scripted):
    """Gives each sample of a question the next of its replies."""

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        rest = {key: iter(text.split("|")) for key, text in enumerate(*self.replies.values())}
        return [next(rest[each.doc_id]) for each in requests]

    def answers_to(self, request: Any) -> list[tuple[Answer, bool]]:
        return super().answers_to(request) * 3


def asking(plan: Plan, name: str, **settings: Any) -> Plan:
    backend = "vllm-vlm" if name.startswith("textvqa") else "vllm"
    way = Evaluation(name, None, False, False, None, "8", {}, **settings)
    return replace(plan, backend=backend, evaluations=(way,), data_dir=str(DATA))


def loaded_task(plan: Plan, name: str, **settings: Any) -> LoadedTask:
    with local_datasets(str(DATA)):
        (loaded,) = load_tasks(asking(plan, name, **settings), task_manager(None, [name], {}))
    return loaded


def replies_to(name: str, loaded: LoadedTask) -> list[tuple[str, float]]:
    """GPQA's letters follow from a digest: right, the next one, unparsable, right."""
    if name != "gpqa_diamond_chat":
        return list(REPLIES[name])
    documents = loaded.leaves[name].eval_docs
    right = [loaded.leaves[name].doc_to_target(each) for each in documents]
    wrong = "ABCD"[("ABCD".index(right[1]) + 1) % 4]
    return [
        (f"Answer: {right[0]}", 1),
        (f"Answer: {wrong}", 0),
        ("A mitochondrion", 0),
        (f"\\boxed{{{right[3]}}}", 1),
    ]


def test_every_task_of_the_package_is_tested_here() -> None:
    assert {file.stem for file in TASKS.glob("*.yaml")} == set(TASK_DATA)


def test_tasks_are_found_without_lm_evals_thousands() -> None:
    manager = task_manager(None, list(TASK_DATA), {})
    assert set(manager.all_tasks) == set(TASK_DATA)


@pytest.mark.slow
def test_no_name_is_one_of_lm_evals_and_theirs_stay() -> None:
    theirs = set(TaskManager().all_tasks)
    assert not theirs & set(TASK_DATA)
    assert {"gsm8k", "mmmu_val", "ceval-valid"} <= set(task_manager(None, ["gsm8k"], {}).all_tasks)
    assert data_sets([*TASK_DATA], None) == {
        name: {identifier: None} for name, (identifier, _) in TASK_DATA.items()
    }


def test_a_users_task_of_the_same_name_comes_first(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("task: aime25_chat\ndataset_path: mine/own\n")
    manager = task_manager(str(tmp_path), ["aime25_chat"], {})
    assert manager.task_index["aime25_chat"].cfg["dataset_path"] == "mine/own"
    assert task_directories(None) == [TASKS]


@pytest.mark.parametrize("name", TASK_DATA)
def test_a_choice_of_the_configuration_selects_the_task(
    name: str, compose: Callable[..., RunConfig]
) -> None:
    task = compose("model=qwen3_8b", f"task={TASK_DATA[name][1]}").task
    assert (task.names, task.include_path) == ([name], None)


@pytest.mark.parametrize("name", TASK_DATA)
def test_the_prompt_is_exactly_this(name: str, plan: Plan) -> None:
    task = loaded_task(plan, name).leaves[name]
    document = next(iter(task.eval_docs))
    if name == "gpqa_diamond_chat":
        listed = "A. the photon\nB. the W boson\nC. the graviton\nD. the gluon"
        assert task.doc_to_text(document) == PROMPTS[name].replace("A. GPQA", listed)
    else:
        assert task.doc_to_text(document) == PROMPTS[name]
    assert task.config.num_fewshot == 0


def asked(
    plan: Plan, name: str, loaded: LoadedTask, replies: list[str]
) -> tuple[Scripted, TaskOutcome, list[SampleRow]]:
    """What the runner makes of the replies."""
    return scored(Scripted({name: replies}), plan, name, loaded)


def scored(
    lm: Scripted, plan: Plan, name: str, loaded: LoadedTask
) -> tuple[Scripted, TaskOutcome, list[SampleRow]]:
    kept: list[tuple[TaskOutcome, list[SampleRow]]] = []
    manager = task_manager(None, [name], {})
    build_requests(lm, manager, [loaded], asking(plan, name))
    evaluate(
        lm,
        manager,
        [loaded],
        asking(plan, name),
        Album(),
        lambda task, rows: kept.append((task, rows)),
    )
    ((outcome, rows),) = kept
    return lm, outcome, rows


@pytest.mark.parametrize("name", TASK_DATA)
def test_replies_are_scored_through_lm_eval(name: str, plan: Plan) -> None:
    loaded = loaded_task(plan, name)
    script = replies_to(name, loaded)
    lm, outcome, rows = asked(plan, name, loaded, [reply for reply, _ in script])
    assert [row.scores["exact_match"] for row in rows] == pytest.approx(
        [score for _, score in script]
    )
    (metric,) = outcome.metrics
    assert (metric.metric, metric.filter, metric.n) == ("exact_match", "none", len(script))
    assert metric.value == pytest.approx(sum(score for _, score in script) / len(script))
    assert (outcome.unparsable, outcome.guessed) == (UNPARSABLE[name], 0)
    for request in lm.requests:
        settings = request.args[1]
        assert settings["until"] == []
        assert (settings["do_sample"], settings["temperature"]) == (False, 0.0)
        long = name.startswith(("aime", "gpqa", "math"))
        assert settings["max_gen_toks"] == (32768 if long else 2048)


def test_the_image_is_shown(plan: Plan) -> None:
    name = "textvqa_val_chat"
    loaded = loaded_task(plan, name)
    lm, _, rows = asked(plan, name, loaded, ["x"] * 3)
    assert [request.args[2]["visual"][0].size for request in lm.requests] == [(96, 48)] * 3
    assert [row.target for row in rows] == ["stop", "12", "cafe"]
    assert len({row.image_hashes[0] for row in rows}) == 3


def test_a_models_generation_settings_replace_greedy_decoding(plan: Plan) -> None:
    name, sampling = "aime25_chat", {"do_sample": True, "temperature": 0.6, "top_p": 0.95}
    loaded = loaded_task(plan, name, gen_kwargs=sampling)
    lm, _, _ = asked(plan, name, loaded, ["x"] * 3)
    for request in lm.requests:
        assert {key: request.args[1][key] for key in sampling} == sampling
        assert request.args[1]["max_gen_toks"] == 32768


class Lol(DummyLM):  # type: ignore[misc]
    """lm-eval's dummy model, which always answers "lol", without a tokenizer from the hub."""

    tokenizer = None


def test_every_sample_of_a_question_is_scored_and_votes(plan: Plan) -> None:
    """The answers vote, not the texts around them."""
    name = "aime25_chat"
    sampling = {"do_sample": True, "temperature": 0.6}
    loaded = loaded_task(plan, name, samples=3, gen_kwargs=sampling)
    lm = Sampled(
        {
            name: [
                "\\boxed{91}|So \\boxed{91}.|\\boxed{90}",
                "\\boxed{11}|\\boxed{12}|no answer",
                "53|53|53",
            ]
        }
    )
    _, outcome, rows = scored(lm, plan, name, loaded)
    (metric,) = outcome.metrics
    assert metric.value == pytest.approx((2 / 3 + 1 / 3 + 0) / 3)
    assert metric.repeated is not None
    assert metric.repeated.majority == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert outcome.unparsable == 4
    assert [row.filtered for row in rows if row.doc_id == 0] == ["91", "91", "90"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["math500_chat", "gpqa_diamond_chat"])
def test_lm_eval_alone_evaluates_the_task(name: str) -> None:
    manager = TaskManager(include_path=str(TASKS), include_defaults=False)
    with local_datasets(str(DATA)):
        results = simple_evaluate(model=Lol(), tasks=[name], task_manager=manager)
    assert results is not None
    assert results["results"][name]["exact_match,none"] == 0.0
    assert {sample["filtered_resps"][0] for sample in results["samples"][name]} == {"[invalid]"}


def test_the_lm_eval_command_has_the_tasks_file(plan: Plan) -> None:
    command = lm_eval_command(asking(plan, "math500_chat"))
    assert f"--tasks {packaged('math500_chat')} " in command
    assert packaged("gsm8k") is None and packaged("../tasks/math500_chat") is None


def test_the_content_of_the_tasks_identifies_only_runs_that_ask_them(
    config: RunConfig, environment: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def data(name: str) -> str:
        asked = replace(config, task=replace(config.task, names=[name]))
        return gathered(Findings(asked), environment).data

    before = {name: data(name) for name in ("math500_chat", "gsm8k")}
    for file in TASKS.glob("*"):
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "mathematics.py").write_text("")
    for module in ("runner.facts", "runner.config.task_files"):
        monkeypatch.setattr(f"{module}.TASKS", tmp_path)
    assert data("math500_chat") != before["math500_chat"]
    assert data("gsm8k") == before["gsm8k"] == ""


def test_an_answer_that_leaves_no_room_for_a_prompt_is_rejected() -> None:
    refuse_without_room(4095, 4096)
    with pytest.raises(UserError) as refused:
        refuse_without_room(32768, 4096)
    assert refused.value.problems == (
        "engine.max_model_len=4096: no room for a prompt in addition to an answer of 32768 tokens; "
        "raise it, or lower task.max_gen_toks",
    )


THINKING = {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20}
DIRECT = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20}
ON = ("model.enable_thinking=true", "model.think_end_token='</think>'")


@pytest.mark.parametrize(
    ("model", "settings", "expected"),
    [
        ("qwen3_8b", (), DIRECT),
        ("qwen3_8b", ON, THINKING),
        ("qwen3_8b_w8a8", ON, THINKING),
        ("qwen3_30b_a3b", (), THINKING),
        ("qwen3_30b_a3b", ("model.enable_thinking=false",), DIRECT),
        ("qwen3_30b_a3b_w8a8", (), THINKING),
        ("qwen3_next_80b_a3b", (), DIRECT),
    ],
)
def test_models_bring_their_cards_settings(
    model: str, settings: Sequence[str], expected: dict[str, Any], compose: Callable[..., RunConfig]
) -> None:
    ask = compose(f"model={model}", *settings).model.ask
    asked = {name for name in TASK_DATA if name != "textvqa_val_chat"}
    assert asked <= set(ask)
    for name in asked:
        assert ask[name].gen_kwargs == expected
        assert ask[name].samples == (8 if name.startswith("aime") else None)
        assert ask[name].max_gen_toks == (16384 if model == "qwen3_next_80b_a3b" else 32768)
    assert all(not way.gen_kwargs for name, way in ask.items() if name not in TASK_DATA)


def test_the_document_lists_every_task() -> None:
    text = (PROJECT / "docs" / "tasks.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| `task=")]
    listed = {row[2].strip().strip("`"): row for row in rows}
    assert {name for name in listed if name.endswith("_chat")} == set(TASK_DATA)
    for name, (identifier, choice) in TASK_DATA.items():
        row = listed[name]
        assert row[1].strip() == f"`task={choice}`"
        assert identifier in row[4]
        limit = re.search(r"\d+", row[6].replace(" ", ""))
        long = name.startswith(("aime", "gpqa", "math"))
        assert limit is not None and limit.group() == ("32768" if long else "2048")


def test_the_data_has_the_columns_of_the_public_data_sets() -> None:
    """As their cards list them; the tests above would not notice a column too many."""
    first = json.loads((DATA / "math-ai/aime25/test.jsonl").read_text().splitlines()[0])
    assert list(first) == ["problem", "answer", "id"] and isinstance(first["answer"], str)
    with (DATA / "Idavidrein/gpqa/gpqa_diamond.csv").open() as file:
        assert next(csv.reader(file))[:5] == [
            "Question",
            "Correct Answer",
            *(f"Incorrect Answer {number}" for number in (1, 2, 3)),
        ]
