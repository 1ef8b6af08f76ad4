"""What we refuse in preflight and what vllm-ascend refuses, case by case."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from runner.memory.architecture import longest
from tests.contract.client import Answer, Upstream
from tests.contract.explained import EXPLAINED
from tests.contract.grid import SERIES, Case, grid, models, presets
from tests.contract.judge import Judged, differences

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def judged(upstream: Callable[[str], Upstream]) -> list[Judged]:
    """The whole grid; a series each thread, because the work is in the processes asked."""
    cases = {series: list(grid(series)) for series in SERIES}
    questions = {
        series: [(each.engine_args(), each.plan.environment) for each in cases[series]]
        for series in SERIES
    }

    def ask(series: str) -> list[Answer]:
        process, known = upstream(series), dict[str, Answer]()
        answers = []
        for args, env in questions[series]:
            key = json.dumps([args, env], sort_keys=True)
            if key not in known:  # presets and lengths often come to the same
                known[key] = process.ask(args, env)
            answers.append(known[key])
        return answers

    with ThreadPoolExecutor(max_workers=len(SERIES)) as pool:
        answered = pool.map(ask, SERIES)
        return [
            Judged(case, answer, tuple(case.ours()))
            for series, answers in zip(SERIES, answered, strict=True)
            for case, answer in zip(cases[series], answers, strict=True)
        ]


def test_every_difference_is_explained(judged: list[Judged]) -> None:
    unexplained = [
        f"{difference} ({len(shown)} cases: {', '.join(sorted({e.case.model for e in shown}))})\n"
        f"    {shown[0].case}\n"
        f"    upstream: {(shown[0].answer.refused or 'accepts').strip()[:300]}\n"
        f"    we: {'; '.join(shown[0].ours) or 'accept'}"
        for difference, shown in differences(judged).items()
        if difference not in EXPLAINED
    ]
    assert not unexplained, "\n".join(["mend preflight, or explain:", *unexplained])


def test_every_explanation_is_still_needed(judged: list[Judged]) -> None:
    assert not set(EXPLAINED) - set(differences(judged))


def test_the_grid_has_every_model_preset_and_series(judged: list[Judged]) -> None:
    seen = {(each.case.series, each.case.model, each.case.engine) for each in judged}
    assert seen == set(itertools.product(SERIES, models(), presets()))
    assert len(models()) >= 21
    assert "ascend" in presets()


def test_both_accept_and_both_refuse_often(judged: list[Judged]) -> None:
    """A grid in which nothing is ever accepted, or refused, would compare nothing."""
    both = [(bool(each.ours), each.answer.refused is not None) for each in judged]
    assert both.count((False, False)) > 500
    assert both.count((True, True)) > 100


@pytest.mark.parametrize("model", models())
def test_a_model_as_shipped_comes_to_what_its_file_says(
    model: str, upstream: Callable[[str], Upstream]
) -> None:
    """conf/model's serving settings survive vLLM's and vllm-ascend's own rewriting."""
    case = Case("A2", model)
    answer = upstream("A2").ask(case.engine_args(), case.plan.environment)
    assert answer.refused is None
    assert not case.ours()
    config, facts = case.config, answer.facts
    wanted = {
        "max_model_len": config.engine.max_model_len,
        "tensor_parallel_size": config.parallelism.tp,
        "pipeline_parallel_size": config.parallelism.pp,
        "expert_parallel": config.parallelism.ep,
        "quantization": config.engine.quantization,
        "enforce_eager": config.engine.enforce_eager,
        "gpu_memory_utilization": config.engine.gpu_memory_utilization,
        "cudagraph_mode": "NONE" if config.engine.enforce_eager else "FULL_AND_PIECEWISE",
        "worker_cls": "vllm_ascend.worker.worker.NPUWorker",
        "use_inductor": False,
        "seed": 0,
        "alloc_conf": "expandable_segments:True",
    }
    assert {key: facts[key] for key in wanted} == wanted
    # llava's own type is float16, the canary's on an NPU; molmo's float32 is cut to what the
    # platform prefers.
    half = model.startswith(("llava", "canary"))
    assert facts["dtype"] == ("float16" if half else "bfloat16")
    hybrid = model.startswith("qwen3_next")
    assert facts["block_size"] == 128 or hybrid


@pytest.mark.parametrize("model", models())
def test_the_longest_sequence_is_what_vllm_derives(
    model: str, upstream: Callable[[str], Upstream]
) -> None:
    """From positions, a class's defaults and rope scaling: the memory estimate reckons with it."""
    case = Case("A2", model, changes={"engine.max_model_len": None})
    answer = upstream("A2").ask(case.engine_args(), case.plan.environment)
    assert answer.facts["max_model_len"] == longest(case.weights.config)
