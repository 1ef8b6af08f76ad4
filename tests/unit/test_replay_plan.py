"""What a replay asks: the reference run's tokens, for each question and each of its answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance

from runner.compare.sides import read_side
from runner.config.schema import RunConfig
from runner.errors import UserError
from runner.evidence.samples import Sample
from runner.lm.building import build_requests
from runner.lm.repeats import repeats
from runner.lm.sample_table import SampleRow, sample_table, write_samples
from runner.lm.script import Script, answers
from runner.lm.tasks import LoadedTask, load_tasks
from runner.outcome import Outcome, State
from runner.plan import Plan, ReplayPlan
from runner.planning import Facts, make_plan
from runner.platforms import PLATFORMS
from runner.rundir import RunDirectory, write_json
from runner.runtimes import runtime_of
from tests.unit.test_building import Load, Recording, finish, load

__all__ = ["load"]


def sample(doc_id: int, tokens: list[int], **fields: Any) -> Sample:
    return Sample("one", doc_id, token_ids=tokens, **fields)


def reference(tmp_path: Path, *rows: tuple[int, int, list[int]]) -> ReplayPlan:
    """The samples of a run: document, repeat and tokens of each answer."""
    blank = SampleRow(
        task="one", doc_id=0, filter="none", doc_hash="", prompt_hash="", image_hashes=[],
        image_sizes=[], prompt="", target="", responses=[], filtered="", scores={},
        truncated=False, prompt_tokens=[], token_ids=[], logprobs=[], margins=[],
        finish_reasons=[],
    )  # fmt: skip
    table = sample_table(
        [
            replace(blank, doc_id=doc, repeat=repeat, token_ids=ids, answer_tokens=[len(ids)])
            for doc, repeat, ids in rows
        ]
    )
    file = tmp_path / "samples.parquet"
    write_samples(file, [table])
    return ReplayPlan(str(file), "digest")


def replaying(plan: Plan, manager: Any, replay: ReplayPlan) -> tuple[Plan, list[LoadedTask]]:
    plan = replace(plan, replay=replay)
    return plan, load_tasks(plan, manager)


def test_each_request_has_the_tokens_of_its_question(load: Load, tmp_path: Path) -> None:
    drawn = {"until": ["\n"], "do_sample": True, "temperature": 0.7}
    manager, _, plan = load({"one": {"generation_kwargs": drawn}}, limit=3.0)
    asked = reference(tmp_path, (0, 0, [7, 8]), (1, 0, [9]), (2, 0, []), (3, 0, [1]))
    plan, loaded = replaying(plan, manager, asked)
    lm = Recording()
    build_requests(lm, manager, loaded, plan)
    (outcome,) = finish(lm, manager, loaded, plan)
    assert [each.args[1]["replay"] for each in lm.requests] == [[[7, 8]], [[9]], [[]]]
    # Greedy, without a seed: the model chooses nothing.
    assert all(each.args[1]["temperature"] == 0.0 for each in lm.requests)
    assert not any("seed" in each.args[1] for each in lm.requests)
    assert [each.request.args[1]["replay"] for each in repeats(lm.requests)] == [[7, 8], [9], []]
    assert (outcome.drawn, outcome.metrics, outcome.evaluated) == (0, (), 3)


def test_each_repeat_has_its_own_tokens(load: Load, tmp_path: Path) -> None:
    manager, _, plan = load({"one": {}}, limit=1.0, samples=2)
    plan, loaded = replaying(plan, manager, reference(tmp_path, (0, 1, [5]), (0, 0, [4])))
    lm = Recording()
    build_requests(lm, manager, loaded, plan)
    (request,) = loaded[0].leaves["one"].instances
    tokens = [each.request.args[1]["replay"] for each in repeats([request, request])]
    assert tokens == [[4], [5]]


def test_a_question_that_the_reference_did_not_answer_is_named(load: Load, tmp_path: Path) -> None:
    manager, _, plan = load({"one": {}}, limit=2.0)
    plan, loaded = replaying(plan, manager, reference(tmp_path, (0, 0, [4])))
    with pytest.raises(UserError, match="no answer to document 1 of one"):
        build_requests(Recording(), manager, loaded, plan)


def test_more_samples_than_the_reference_has_are_rejected(load: Load, tmp_path: Path) -> None:
    manager, _, plan = load({"one": {}}, limit=1.0, samples=2)
    plan, loaded = replaying(plan, manager, reference(tmp_path, (0, 0, [4])))
    with pytest.raises(UserError, match="fewer answers to document 0 of one"):
        build_requests(Recording(), manager, loaded, plan)


def test_answers_are_told_apart_by_their_lengths_and_filters_are_one() -> None:
    assert answers(sample(0, [1, 2, 3], answer_tokens=(1, 2))) == [[1], [2, 3]]
    assert answers(sample(0, [1, 2, 3])) == [[1, 2, 3]]  # as version 0.1 wrote it
    script = Script([sample(0, [1], filter="strict"), sample(0, [1], filter="flexible")])
    assert script.of("one", 0) == [[1]]


def test_the_engine_is_told_to_force_tokens_only_if_it_generates_them(
    compose: Callable[..., RunConfig], facts: Facts
) -> None:
    replaying = ("verdict=replay", "verdict.reference=other")
    processor = "runner.runtimes.vllm.forcing:Forced"
    plain = make_plan(compose("model=qwen3_8b"), facts)
    decode = make_plan(compose("model=qwen3_8b", *replaying), facts)
    way = "verdict.replay.way=prefill"
    prefill = make_plan(compose("model=qwen3_8b", *replaying, way), facts)
    assert decode.engine_args == plain.engine_args | {"logits_processors": [processor]}
    assert prefill.engine_args == plain.engine_args
    own = "+engine.extra.logits_processors=[mine:Own]"
    both = make_plan(compose("model=qwen3_8b", *replaying, own), facts)
    assert both.engine_args["logits_processors"] == ["mine:Own", processor]
    assert decode.engine_fingerprint != plain.engine_fingerprint
    other = make_plan(compose("model=qwen3_8b", *replaying), replace(facts, replay=SCRIPT))
    assert other.replay == SCRIPT
    assert other.evaluation_fingerprint != decode.evaluation_fingerprint


SCRIPT = ReplayPlan("/runs/other/samples.parquet", "digest")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["engine=cpu", "+engine.extra.speculative_config={method: ngram}"],
            "engine.extra.speculative_config: vLLM can't be made to generate given tokens while it "
            "drafts; use verdict.replay.way=prefill",
        ),
        (
            ["engine=served", "+engine.extra.speculative_config={method: ngram}"],
            "engine.extra.speculative_config: vLLM can't be made",
        ),
        (
            ["engine=cpu", "+engine.extra.logprobs_mode=processed_logprobs"],
            "engine.extra.logprobs_mode=processed_logprobs: a replay compares what the model "
            "computes; use engine.extra.logprobs_mode=raw_logprobs",
        ),
        (
            ["engine=cpu", "+engine.extra.max_logprobs=5"],
            "engine.extra.max_logprobs=5: a replay records 20 tokens of each step",
        ),
        (
            ["engine=endpoint", "engine.endpoint.url=http://host:8000/v1"],
            "verdict.replay.way=decode: a running server can't be made to generate given tokens; "
            "use verdict.replay.way=prefill",
        ),
        (
            ["engine=transformers", "verdict.replay.way=prefill"],
            "verdict.replay.way=prefill: transformers generates each token; use "
            "verdict.replay.way=decode",
        ),
    ],
)
def test_what_an_engine_cannot_do_is_rejected(
    compose: Callable[..., RunConfig], overrides: list[str], said: str
) -> None:
    config = compose("model=qwen3_8b", "verdict=replay", "verdict.reference=other", *overrides)
    found = [str(each) for each in runtime_of(config.engine.runtime).problems(config, None)]
    assert any(each.startswith(said) for each in found), found


def test_vllm_s_second_model_runner_is_off_unless_the_user_chose_it(
    compose: Callable[..., RunConfig],
) -> None:
    """It takes no logits processor of this kind."""
    name = "VLLM_USE_V2_MODEL_RUNNER"
    platform = PLATFORMS["cpu"]

    def environment(*overrides: str) -> dict[str, str]:
        config = compose("model=qwen3_8b", "engine=cpu", *overrides)
        return runtime_of(config.engine.runtime).environment(config, platform, config.engine.env)

    asked = ("verdict=replay", "verdict.reference=other")
    assert name not in environment()
    assert name not in environment(*asked, "verdict.replay.way=prefill")
    assert environment(*asked)[name] == "0"
    assert name not in environment(*asked, f"+engine.env.{name}='1'")


def test_a_document_with_a_generated_and_a_scored_answer_is_not_replayed(
    load: Load, tmp_path: Path
) -> None:
    """As in squadv2: the samples of the reference run don't tell the two apart."""
    manager, _, plan = load({"one": {}}, limit=1.0)
    plan, loaded = replaying(plan, manager, reference(tmp_path, (0, 0, [4])))
    kinds = ("generate_until", "loglikelihood")
    requests = [
        Instance(kind, {}, ("Q", {"until": []} if kind == kinds[0] else " A"), 0, ("one", 0, 1))
        for kind in kinds
    ]
    checks = loaded[0].requests["one"]
    with pytest.raises(UserError, match="sends other requests for the same document"):
        checks._check_replayable(requests)
    checks._check_replayable(requests[1:])


def test_a_replay_is_not_compared(tmp_path: Path, plan: Plan) -> None:
    run = RunDirectory(tmp_path)
    write_json(run.plan, replace(plan, replay=SCRIPT))
    write_json(run.outcome, Outcome(State.COMPLETED))
    with pytest.raises(UserError, match="B: the run is a replay"):
        read_side("B", tmp_path)


def test_a_plan_of_an_earlier_version_has_no_replay(tmp_path: Path, plan: Plan) -> None:
    run = RunDirectory(tmp_path)
    write_json(run.plan, plan)
    earlier = json.loads(run.plan.read_text())
    assert earlier.pop("replay") is None
    run.plan.write_text(json.dumps(earlier))
    write_json(run.outcome, Outcome(State.COMPLETED))
    assert read_side("B", tmp_path).plan.replay is None
