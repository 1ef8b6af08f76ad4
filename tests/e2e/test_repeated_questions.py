"""Questions asked several times, by real engines: the canary at temperature 1."""

from __future__ import annotations

import math
import os
from pathlib import Path
from statistics import fmean
from typing import Any

import psutil
import pytest

from tests.e2e.conftest import Finished, Run
from tests.e2e.started import Started

pytestmark = pytest.mark.slow

FIRST_SEED = 100
SAMPLES = 8
DRAWN = ("+task.gen_kwargs.do_sample=true", "+task.gen_kwargs.temperature=1.0", "task.limit=10")
SEEDED = (*DRAWN, f"+task.gen_kwargs.seed={FIRST_SEED}", "verdict.allow_partial=true")
OFTEN = (*SEEDED, f"task.samples={SAMPLES}")


@pytest.fixture(scope="module")
def often(run: Run) -> Finished:
    return run(*OFTEN)


def answers(finished: Finished) -> dict[tuple[str, int, int], list[Any]]:
    return {
        (row["task"], row["doc_id"], row["repeat"]): [row["responses"], dict(row["scores"])]
        for row in finished.samples()
    }


def metric(finished: Finished) -> dict[str, Any]:
    found: dict[str, Any] = finished.json("outcome.json")["tasks"][0]["metrics"][0]
    assert (found["task"], found["metric"]) == ("canary", "acc")
    return found


def test_the_mean_is_that_of_separate_runs_with_the_same_seeds(run: Run, often: Finished) -> None:
    seeds = ",".join(str(FIRST_SEED + number) for number in range(SAMPLES))
    seeded = (f"+task.gen_kwargs.seed={seeds}", "hydra.sweep.dir=swept")
    swept = run(*DRAWN, "tracking=off", "--multirun", *seeded)
    place = swept.directory.parent / "swept"
    runs = [
        Finished(0, "", place / name, "")
        for name in sorted(os.listdir(place))
        if (place / name / "outcome.json").is_file()
    ]
    assert len(runs) == SAMPLES, swept.printed
    assert metric(often)["value"] == pytest.approx(fmean(metric(one)["value"] for one in runs))
    together = answers(often)
    for number, one in enumerate(runs):
        for (task, doc, _), answer in answers(one).items():
            assert together[task, doc, number] == answer


def test_every_answer_is_kept_and_the_questions_are_the_evidence(often: Finished) -> None:
    rows = often.samples()
    assert len(rows) == 60 * SAMPLES
    assert {tuple(row["seeds"]) for row in rows} == {
        (FIRST_SEED + number,) for number in range(SAMPLES)
    }
    assert all(sum(row["answer_tokens"]) == len(row["token_ids"]) for row in rows)
    assert all(len(row["logprobs"]) == len(row["token_ids"]) for row in rows)
    found = metric(often)
    by_question: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        by_question.setdefault((row["task"], row["doc_id"]), []).append(dict(row["scores"])["acc"])
    means = [fmean(each) for each in by_question.values()]
    assert (found["n"], found["value"]) == (60, pytest.approx(fmean(means)))
    spread = sum((each - fmean(means)) ** 2 for each in means)
    assert found["stderr"] == pytest.approx(math.sqrt(spread / (60 * 59)))
    assert found["repeated"]["always"] == pytest.approx(fmean(each == 1 for each in means))
    assert f"canary acc: avg@8 {found['value']:.3f} over 60 questions, pass@2 " in often.printed
    assert "480 requests" in often.printed


@pytest.mark.exhaustive
def test_a_killed_engine_goes_on_with_the_same_answers(
    often: Finished, tmp_path: Path, store: str
) -> None:
    started = Started(tmp_path, store, *OFTEN, "tracking=off", "engine.window=32", step_s=0.2)
    begun = started.wait_for("progress")
    started.wait_for("progress", lambda event: event["done"] > begun["total"] // 2)
    psutil.Process(started.worker).kill()
    finished = started.finish(timeout=300)
    assert finished.status == often.status, finished.printed
    fed = finished.json("outcome.json")["feeding"]
    assert fed["resumed"] > 240
    assert fed["asked"] + fed["resumed"] == 480
    assert answers(finished) == answers(often)


@pytest.mark.exhaustive
def test_a_server_draws_the_same(run: Run, often: Finished) -> None:
    served = run(*SEEDED, "tracking=off", "engine=served", "task.samples=2")
    assert len(served.samples()) == 120, served.printed
    together = answers(often)
    assert all(together[key] == answer for key, answer in answers(served).items())


@pytest.mark.exhaustive
def test_with_transformers_an_answer_depends_on_its_seed_not_on_its_batch(run: Run) -> None:
    transformers = ("engine=transformers", "tracking=off")
    asked = (*DRAWN, *transformers, "task.samples=3", "verdict.allow_partial=true")
    small, large = (run(*asked, f"task.batch_size={size}") for size in (7, 32))
    assert len(answers(small)) == 180, small.printed
    assert answers(small) == answers(large)
    drawn = {row["doc_id"]: set[str]() for row in small.samples() if row["task"] == "canary_count"}
    for row in small.samples():
        if row["task"] == "canary_count":
            drawn[row["doc_id"]].update(row["responses"])
    assert any(len(texts) > 1 for texts in drawn.values())
