"""What we refuse in preflight and what vllm-ascend refuses, case by case."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.contract.client import Answer, Upstream
from tests.contract.explained import EXPLAINED
from tests.contract.grid import SERIES, grid, models, presets
from tests.contract.judge import Judged, differences
from tests.contract.wheels import RELEASES

# The stable release alone, for the time that it takes; test_rules.py and test_models.py have all.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.exhaustive,
    pytest.mark.parametrize("release", [next(iter(RELEASES))], indirect=True, scope="session"),
]


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
