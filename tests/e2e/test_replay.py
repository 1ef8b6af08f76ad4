"""verdict=replay with real engines: the same answers again, and how their probabilities moved."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from runner.canary import WEIGHTS
from runner.evidence.likeliest import with_likeliest
from runner.evidence.samples import read_samples
from tests.e2e.conftest import Finished, Run

pytestmark = pytest.mark.slow

# 17 of each of the canary's six kinds of question.
QUESTIONS = 102


@pytest.fixture(scope="module")
def replay(run: Run, default_run: Finished) -> Run:
    """Start a replay of the default run."""

    def start(*overrides: str, **options: Any) -> Finished:
        reference = f"verdict.reference={default_run.directory}"
        return run("verdict=replay", reference, "task.limit=17", *overrides, **options)

    return start


@pytest.fixture(scope="module")
def noise(replay: Run) -> str:
    """A replay on the reference's own stack, and one with other arithmetic."""
    same, rounded = replay("tracking=off"), replay("tracking=off", "engine.dtype=bfloat16")
    (metric,) = same.json("verdict.json")["metrics"]
    assert same.status == rounded.status == 4  # without noise nothing passes
    assert (metric["metric"], metric["value"], metric["n"]) == ("replay", 0.0, QUESTIONS)
    assert "verdict.replay.noise" in same.printed
    return f"verdict.replay.noise=[{same.directory},{rounded.directory}]"


def without_bias(directory: Path) -> Path:
    """The canary with its q/k/v biases zeroed."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(WEIGHTS, directory)
    file = directory / "model.safetensors"
    tensors = {
        name: torch.zeros_like(tensor) if "self_attn" in name and name.endswith("bias") else tensor
        for name, tensor in load_file(file).items()
    }
    save_file(tensors, file, metadata={"format": "pt"})
    return directory


def judged(finished: Finished) -> dict[str, Any]:
    (metric,) = finished.json("verdict.json")["metrics"]
    found: dict[str, Any] = metric
    return found


def test_answers_are_those_of_the_reference_and_have_no_scores(
    replay: Run, noise: str, default_run: Finished
) -> None:
    finished = replay(noise, "engine.window=1")
    assert finished.status == 0, finished.printed
    tokens = {(row["task"], row["doc_id"]): row["token_ids"] for row in default_run.samples()}
    rows = finished.samples()
    assert len(rows) == QUESTIONS
    for row in rows:
        assert row["token_ids"] == tokens[row["task"], row["doc_id"]]
        assert row["scores"] == []
        assert len(row["top_ids"]) == len(row["top_logprobs"]) == 20 * len(row["token_ids"])
    assert finished.json("outcome.json")["tasks"][0]["metrics"] == []
    assert "noise" in judged(finished)["evidence"]
    assert "× the noise" in finished.report
    assert "lm-eval command" not in finished.report
    compared = subprocess.run(
        [sys.executable, "-m", "runner.compare", default_run.directory, finished.directory],
        capture_output=True,
        text=True,
        check=False,
    )
    assert compared.returncode == 1
    assert "the run is a replay" in compared.stderr


def test_a_dropped_bias_fails_with_a_hundred_questions(
    replay: Run, noise: str, tmp_path: Path
) -> None:
    """Accuracy does not show it (docs/canary.md)."""
    damaged = f"model.pretrained={without_bias(tmp_path / 'w')}"
    finished = replay(noise, "tracking=off", "model=canary_vl", damaged)
    assert finished.status == 3, finished.printed
    assert judged(finished)["p"] < 0.001


@pytest.mark.parametrize(
    "engine",
    [
        "cpu",
        *(pytest.param(each, marks=pytest.mark.exhaustive) for each in ("transformers", "served")),
    ],
)
def test_every_engine_records_the_likeliest_tokens(run: Run, engine: str) -> None:
    finished = run(
        "task.limit=4", "task.distributions=true", "tracking=off", "journal=off", f"engine={engine}"
    )
    rows, file = finished.samples(), finished.directory / "likeliest.parquet"
    assert not any(row["top_ids"] for row in rows)
    samples = with_likeliest(read_samples(finished.directory / "samples.parquet"), file)
    assert all(len(each.top_ids) == 20 * len(each.token_ids) > 0 for each in samples)


@pytest.mark.exhaustive
def test_one_noise_run_is_enough_if_the_reference_recorded_distributions(
    run: Run, tmp_path: Path
) -> None:
    alone = ("task.limit=17", "tracking=off", "journal=off")
    reference = run(*alone, "task.distributions=true")
    same = (*alone, "verdict=replay", f"verdict.reference={reference.directory}")
    rounded = run(*same, "engine.dtype=bfloat16")
    noise = f"verdict.replay.noise=[{rounded.directory}]"
    damaged = f"model.pretrained={without_bias(tmp_path / 'w')}"
    finished = run(*same, noise, "model=canary_vl", damaged)
    assert finished.status == 3, finished.printed
    assert "difference from the reference run: mean variance" in judged(finished)["evidence"]
    healthy = run(*same, noise, "engine.window=1")
    assert healthy.status == 0, healthy.printed


@pytest.mark.exhaustive
def test_transformers_and_a_server_of_the_run_s_own_are_within_the_noise(
    replay: Run, noise: str
) -> None:
    for engine in ("transformers", "served"):
        finished = replay(noise, "tracking=off", f"engine={engine}")
        assert finished.status == 0, finished.printed
        assert judged(finished)["value"] < 1e-4


def test_chosen_questions(replay: Run, noise: str, default_run: Finished) -> None:
    tasks = sorted({row["task"] for row in default_run.samples()})
    chosen = {task: [number, 10, 12, 16] for number, task in enumerate(tasks)}
    listed = ",".join(f"{task}:{documents}" for task, documents in chosen.items())
    finished = replay(
        noise, "tracking=off", "engine=transformers", f"verdict.replay.questions={{{listed}}}"
    )
    assert finished.status == 0, finished.printed
    asked = {(row["task"], row["doc_id"]) for row in finished.samples()}
    assert asked == {(task, each) for task, documents in chosen.items() for each in documents}
    part = "canary: 24 of 600 samples (verdict.replay.questions)"
    assert part in finished.printed and part in finished.report
    assert judged(finished)["n"] == 24


def test_questions_that_are_not_asked_are_named(replay: Run) -> None:
    finished = replay("verdict.replay.questions={canary_shap:[0],canary_count:[3,17,99]}")
    assert finished.status == 1
    assert "verdict.replay.questions.canary_shap: not a task of this run" in finished.printed
    assert "canary_count: does not ask documents 17, 99" in finished.printed
    assert "canary_place: list at least one document of each subtask" in finished.printed


@pytest.mark.exhaustive
def test_text_in_one_prefill_step(run: Run, ask_text: tuple[str, ...]) -> None:
    """The way of a running server; generated answers and scored choices."""
    # Else the few-shot examples hold the answers, and the run can't be a reference.
    asked = (*ask_text, f"model.pretrained={WEIGHTS}", "task.num_fewshot=0")
    reference = run(*asked, "tracking=off")
    finished = run(
        *asked,
        "verdict=replay",
        f"verdict.reference={reference.directory}",
        "verdict.replay.way=prefill",
    )
    assert finished.status == 4, finished.printed
    found = {each["task"]: each for each in finished.json("verdict.json")["metrics"]}
    assert found.keys() == {"gsm8k", "ceval-valid_accountant"}
    for metric in found.values():
        assert metric["n"] == 8 and metric["value"] < 1e-4
        assert "too few questions: 8" in metric["reason"]
