"""What lm-eval makes of a task's documents is compared with what was configured."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment, TemplateError
from PIL import Image

from runner.errors import UserError
from runner.lm.requests import departures, hidden_images
from runner.lm.tasks import LoadedTask, load_tasks, task_manager
from runner.outcome import Departure
from runner.plan import Evaluation, Plan

SHAPES = "What shape?"
WORDS = [{"q": f"Which is number {n}?", "a": f"number {n}", "id": n} for n in range(4)]
PLAIN = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
WITHOUT_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ refuse('System role not supported') }}{% endif %}"
    + PLAIN
)
USER_ALONE = (
    "{% for m in messages %}{% if m.role == 'user' %}[user]{{ m.content }}{% endif %}{% endfor %}"
)


def refuse(reason: str) -> None:
    raise TemplateError(reason)


def template(source: str) -> Callable[..., str]:
    """As lm-eval's classes for text apply one."""
    compiled = Environment().from_string(source, globals={"refuse": refuse})

    def apply(history: list[dict[str, Any]], add_generation_prompt: bool = True) -> str:
        return compiled.render(messages=history)

    return apply


def seeing(history: list[dict[str, Any]], add_generation_prompt: bool = True) -> str:
    """As lm-eval's classes for images apply one, with two images at most."""
    said = ""
    for message in history:
        parts = message["content"].split("<image>")
        shown = [{"type": "image"}] * min(len(parts) - 1, 2)
        message["content"] = [*shown, *({"type": "text", "text": part} for part in parts)]
        said += "<vision>" * len(shown) + "".join(parts)
    return said


Load = Callable[..., LoadedTask]


@pytest.fixture
def load(plan: Plan, tmp_path: Path) -> Load:
    """A task of documents and some keys of its file, as a plan asks it."""

    def loaded(
        docs: list[dict[str, Any]],
        /,
        asked: Plan = plan,
        shots: int | None = None,
        user: dict[str, Any] | None = None,
        **keys: Any,
    ) -> LoadedTask:
        (tmp_path / "data.json").write_text(json.dumps(docs))
        task = {
            "task": "ours",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(tmp_path / "data.json")}},
            "test_split": "test",
            "output_type": "generate_until",
            "doc_to_text": "{{q}}",
            "doc_to_target": " {{a}}",
            "generation_kwargs": {"until": ["\n"], "do_sample": False},
            "metric_list": [{"metric": "exact_match"}],
            **keys,
        }
        (tmp_path / "ours.yaml").write_text(json.dumps(task))
        ours = replace(ASKED, num_fewshot=shots, gen_kwargs=user or {})
        (one,) = load_tasks(
            replace(asked, evaluations=(ours,)), task_manager(str(tmp_path), ["ours"], {})
        )
        return one

    return loaded


ASKED = Evaluation("ours", None, False, False, None, "auto", {})


def built(loaded: LoadedTask, chat: Callable[..., str] | None = None, **more: Any) -> list[Any]:
    """Have lm-eval build all requests of the task."""
    (task,) = loaded.leaves.values()
    if task.config.num_fewshot is None:
        task.set_config("num_fewshot", 0)
    task.set_fewshot_seed(1234)
    task.build_all_requests(
        apply_chat_template=chat is not None,
        chat_template=chat,
        fewshot_as_multiturn=chat is not None,
        **more,
    )
    requests: list[Any] = task.instances
    return requests


def found(loaded: LoadedTask) -> tuple[Departure, ...]:
    return departures(loaded.requests, {name: set(range(100)) for name in loaded.requests})


# Sampling


@pytest.mark.parametrize(
    ("task", "user", "temperature", "by_default", "drawn"),
    [
        ({}, {}, 0.0, 4, 0),
        ({"temperature": 0.7}, {}, 0.7, 0, 4),
        ({"do_sample": True}, {}, None, 0, 4),
        ({"do_sample": False}, {}, None, 0, 0),
        ({"do_sample": True, "temperature": 0.0}, {}, 0.0, 0, 0),
        ({}, {"temperature": 0.5}, 0.5, 0, 4),
        ({}, {"do_sample": True}, None, 0, 4),
        ({}, {"top_p": 0.5}, 0.0, 4, 0),
    ],
)
def test_greedy_unless_the_task_or_the_user_says_otherwise(
    load: Load,
    plan: Plan,
    task: dict[str, Any],
    user: dict[str, Any],
    temperature: float | None,
    by_default: int,
    drawn: int,
) -> None:
    loaded = load(WORDS, user=user, generation_kwargs={"until": ["\n"], **task, **user})
    requests = built(loaded)
    assert {request.args[1].get("temperature") for request in requests} == {temperature}
    (ours,) = loaded.requests.values()
    assert (len(ours.greedy_by_default), len(ours.drawn)) == (by_default, drawn)
    assert found(loaded) == ()


@pytest.mark.parametrize(
    ("task", "user", "said"),
    [
        (
            {"do_sample": False},
            {"temperature": 0.7},
            r"^task.gen_kwargs.temperature=0.7: ours would still be decoded greedily because of "
            r"do_sample=false and temperature=0.7; set task.gen_kwargs.do_sample=true",
        ),
        (
            {"temperature": 0.0},
            {"do_sample": True},
            r"^task.gen_kwargs.do_sample=true: ours would still be decoded greedily",
        ),
        (
            {"max_gen_toks": 8},
            {"max_new_tokens": 64},
            r"^task.gen_kwargs.max_new_tokens=64: ours sets max_gen_toks, which lm-eval prefers",
        ),
    ],
)
def test_a_setting_that_another_overrules_is_refused(
    load: Load, plan: Plan, task: dict[str, Any], user: dict[str, Any], said: str
) -> None:
    loaded = load(WORDS, user=user, generation_kwargs={"until": ["\n"], **task, **user})
    with pytest.raises(UserError, match=said):
        built(loaded)


def test_a_setting_that_the_task_does_not_pass_on_is_counted(load: Load, plan: Plan) -> None:
    loaded = load(
        WORDS,
        user={"top_p": 0.5},
    )
    built(loaded)
    (one,) = found(loaded)
    assert (one.kind, one.samples, one.doc_id) == ("setting ignored", 4, 0)
    assert one.said == "the task ignores task.gen_kwargs.top_p=0.5"


# The conversation


def test_a_system_message_that_the_template_does_not_show_is_refused(
    load: Load, plan: Plan
) -> None:
    asked = replace(plan, system_instruction="Be brief.")
    for source in (WITHOUT_SYSTEM, USER_ALONE):
        with pytest.raises(UserError, match=r"^task.system_instruction: the chat template of /wei"):
            built(load(WORDS, asked=asked), template(source), system_instruction="Be brief.")
    loaded = load(WORDS, asked=asked)
    (first, *_) = built(loaded, template(PLAIN), system_instruction="Be brief.")
    assert first.args[0].startswith("[system]Be brief.") and found(loaded) == ()


def test_a_description_that_the_template_does_not_show_is_counted(load: Load) -> None:
    loaded = load(WORDS, description="Count.")
    (first, *_) = built(loaded, template(WITHOUT_SYSTEM))
    assert first.args[0] == "[user]Which is number 0?"
    (one,) = found(loaded)
    assert (one.kind, one.samples) == ("system message lost", 4)


def test_a_message_that_the_template_leaves_out_is_counted(load: Load) -> None:
    examples = {"samples": [{"q": "Who?", "a": "me"}], "sampler": "first_n"}
    loaded = load(WORDS, num_fewshot=1, fewshot_config=examples)
    built(loaded, template(USER_ALONE))
    (one,) = found(loaded)
    assert (one.kind, one.samples) == ("message lost", 4)


def test_a_template_that_refuses_the_conversation_is_one_message(load: Load) -> None:
    with pytest.raises(UserError, match=r"does not render this conversation: not you"):
        built(load(WORDS), template("{{ refuse('not you') }}"))


def test_a_template_may_strip_and_break_what_it_shows(load: Load) -> None:
    loaded = load([{"q": "  Two \n words ", "a": "x"}])
    built(loaded, template("{% for m in messages %}{{ m.content.split()|join(' ') }}{% endfor %}"))
    assert found(loaded) == ()


# Few-shot examples


def test_examples_that_hold_the_question_and_its_answer_are_counted(load: Load) -> None:
    examples = {"samples": [*WORDS[1:3], {"q": "Which is number 3?", "a": "another"}]}
    loaded = load(WORDS, num_fewshot=3, fewshot_config={**examples, "sampler": "first_n"})
    built(loaded)
    (one,) = found(loaded)
    assert (one.kind, one.samples, one.doc_id) == ("answer in examples", 2, 1)


def test_a_question_that_the_data_holds_twice_is_its_own_example(load: Load) -> None:
    twice = [*WORDS, {**WORDS[0], "id": 9}]
    loaded = load(twice, num_fewshot=4, fewshot_split="test")
    built(loaded)  # of five documents, lm-eval leaves out the one that is asked
    (one,) = found(loaded)
    assert (one.kind, one.samples, one.doc_id) == ("answer in examples", 2, 0)


def test_examples_from_the_only_split_can_be_the_question_itself(load: Load) -> None:
    loaded = load(WORDS, num_fewshot=3)  # and no fewshot_split: lm-eval takes those under test
    requests = built(loaded)
    own = {n for n, each in enumerate(requests) if each.args[0].count(WORDS[n]["q"]) > 1}
    (one,) = found(loaded)
    assert own and (one.kind, one.samples, one.doc_id) == ("answer in examples", len(own), min(own))


def test_a_number_of_examples_that_the_task_fixes_is_refused(load: Load, plan: Plan) -> None:
    with pytest.raises(UserError, match=r"^task.num_fewshot=5: ours sets num_fewshot: 0 in its"):
        built(load(WORDS, shots=5, num_fewshot=0))


# Images


def pictures(
    load: Load, plan: Plan, text: str, count: int, backend: str = "vllm-vlm", most: int = 2
) -> tuple[LoadedTask, list[Any]]:
    """A document with so many images, built."""
    seen = replace(plan, backend=backend, engine_args={**plan.engine_args, "max_images": most})
    loaded = load([{"q": text, "a": "x"}], asked=seen, doc_to_image=["q"])
    (task,) = loaded.leaves.values()
    images = [Image.new("RGB", (8, 8), (40 * n, 0, 0)) for n in range(count)]
    task.doc_to_image = lambda doc: images
    return loaded, built(loaded, seeing)


def test_images_that_would_not_be_shown_are_refused(load: Load, plan: Plan) -> None:
    loaded, _ = pictures(load, plan, "<image><image><image> Which is red?", 3)
    assert hidden_images(loaded.requests.values(), 2) == [
        "model.max_images=2: 1 question of ours has more images; set model.max_images=3"
    ]
    loaded, _ = pictures(load, plan, "<image><image> Which is red?", 2)
    assert hidden_images(loaded.requests.values(), 2) == []


@pytest.mark.parametrize(("text", "count"), [("<image> Which?", 1), ("<image><image>", 2), ("", 0)])
def test_an_image_for_each_placeholder_is_right(
    load: Load, plan: Plan, text: str, count: int
) -> None:
    loaded, _ = pictures(load, plan, text + SHAPES, count)
    assert found(loaded) == ()


def test_a_placeholder_without_an_image_is_counted(load: Load, plan: Plan) -> None:
    loaded, _ = pictures(load, plan, "What is <image>? <image>", 1)
    (one,) = found(loaded)
    assert (one.kind, one.samples) == ("placeholder without image", 1)
    with pytest.raises(UserError, match="document 0 has 2 image placeholders and 1 image; fix"):
        pictures(load, plan, "What is <image>? <image>", 1, backend="hf-multimodal")


def test_an_image_without_a_placeholder_is_refused(load: Load, plan: Plan) -> None:
    with pytest.raises(UserError, match=r"^task.names=ours: the prompt of document 0 has 0 image "):
        pictures(load, plan, SHAPES, 1)


def test_departures_of_a_group_are_added_up(load: Load, plan: Plan) -> None:
    first, _ = pictures(load, plan, "What is <image>? <image>", 1)
    second, _ = pictures(load, plan, "What is <image>? <image>", 1)
    both = {"first": first.requests["ours"], "second": second.requests["ours"]}
    (one,) = departures(both, {"first": {0}, "second": {0, 1}})
    assert (one.samples, one.task, one.doc_id) == (2, "ours", 0)


def test_departures_of_questions_that_were_not_asked_do_not_count(load: Load, plan: Plan) -> None:
    loaded, _ = pictures(load, plan, "What is <image>? <image>", 1)
    assert departures(loaded.requests, {"ours": {1}}) == ()
