"""engine=transformers held against vLLM: the same questions, answered alike to the last token."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors import deserialize
from safetensors.numpy import save_file

from runner.canary import WEIGHTS
from runner.evidence.pairing import pair
from runner.evidence.samples import Sample, read_samples
from runner.journal.attempts import records
from tests.e2e.conftest import PROJECT, Finished, Run, command, environment, unhurried
from tests.e2e.started import Started

pytestmark = pytest.mark.slow

# The canary is so small that threads which wait for each other cost more than they compute.
REFERENCE = ("engine=transformers", "engine.platform=cpu", "engine.env.OMP_NUM_THREADS=1")
# 120 questions in 60 batches: enough for a run to be killed between two of them.
IN_PAIRS = ("task.limit=20", "task.batch_size=2")
# Of a log-probability, in float32. Measured: 1e-5 over 1,383 tokens (docs/reference_engine.md).
ROUNDING = 1e-3


@pytest.fixture(scope="module")
def reference_run(run: Run) -> Finished:
    """120 questions of the canary."""
    return run(*REFERENCE, *IN_PAIRS)


@pytest.fixture(scope="module")
def text_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The canary's language model as a model of its own: Qwen2.5-VL's is Qwen2."""
    directory = tmp_path_factory.mktemp("text_weights")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(WEIGHTS / name, directory)
    text = json.loads((WEIGHTS / "config.json").read_text())["text_config"]
    text |= {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0}
    (directory / "config.json").write_text(json.dumps(text))
    stored = deserialize((WEIGHTS / "model.safetensors").read_bytes())
    tensors = {
        name: _float32(each["data"]).reshape(each["shape"])
        for name, each in stored
        if not name.startswith("visual.")
    }
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    return directory


@pytest.fixture(scope="module")
def text_reference_run(
    run: Run,
    ask_text: tuple[str, ...],
    text_weights: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Finished:
    """In a worker that cannot import vLLM."""
    absent = tmp_path_factory.mktemp("absent")
    for name in ("vllm", "ray"):
        (absent / f"{name}.py").write_text(f'raise ImportError("no {name} here")')
    path = f"engine.env.PYTHONPATH={absent}:{PROJECT}"
    return run(*ask_text, *REFERENCE, f"model.pretrained={text_weights}", path)


def _float32(bfloat16: bytes) -> np.ndarray:
    return (np.frombuffer(bfloat16, "<u2").astype("<u4") << 16).view("<f4")


def paired(one: Finished, other: Finished) -> Sequence[tuple[Sample, Sample]]:
    """All of the first's samples, each with the other's that was asked the same."""
    samples = read_samples(one.directory / "samples.parquet")
    pairs = pair(samples, read_samples(other.directory / "samples.parquet")).pairs
    assert len(pairs) == len(samples) > 0
    return pairs


def test_every_sample_is_asked_the_same_and_answered_the_same(
    reference_run: Finished, default_run: Finished
) -> None:
    assert reference_run.status == 4, reference_run.printed  # 120 of 600 questions
    pairs = paired(reference_run, default_run)
    assert len(pairs) == 120
    for ours, vllms in pairs:
        assert list(ours.token_ids) == list(vllms.token_ids)
        assert ours.responses == vllms.responses
        assert ours.prompt_tokens == vllms.prompt_tokens
        assert ours.finish_reasons == vllms.finish_reasons == ("stop",)
        assert ours.scores == vllms.scores
        assert list(ours.logprobs) == pytest.approx(list(vllms.logprobs), abs=ROUNDING)
        assert list(ours.margins) == pytest.approx(list(vllms.margins), abs=ROUNDING)


def answers(run: Finished) -> list[dict[str, Any]]:
    """All samples, but for how long each took."""
    return [{**row, "seconds": None} for row in run.samples()]


@pytest.mark.exhaustive
def test_a_run_that_was_killed_asks_what_is_missing_and_ends_as_if_nothing_had_been(
    reference_run: Finished, tmp_path: Path, store: str
) -> None:
    killed = Started(tmp_path, store, *REFERENCE, *IN_PAIRS)
    worker = psutil.Process(killed.worker)
    killed.wait_for_answers()
    killed.process.kill()
    with suppress(psutil.NoSuchProcess):  # it ends itself when its parent is gone
        worker.kill()
    psutil.wait_procs([worker], timeout=20)
    (file,) = (tmp_path / "journal").rglob("*.answers")
    with file.open("rb") as lines:
        answered = sum(content.startswith(b"[") for _, content in records(lines))
    again = tmp_path / "again"
    ended = subprocess.run(
        command(again, store, *REFERENCE, *IN_PAIRS),
        cwd=tmp_path,
        env=unhurried(0.0),  # the same code on PYTHONPATH: the same engine
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    finished = Finished(ended.returncode, ended.stdout, again, store)
    assert finished.status == reference_run.status, finished.printed
    fed = finished.json("outcome.json")["feeding"]
    assert 0 < answered < 120
    assert (fed["resumed"], fed["asked"]) == (answered, 120 - answered)
    assert f"{answered} answered in an earlier attempt that did not finish" in finished.report
    # To the last bit of every log-probability: the batches are the same.
    assert answers(finished) == answers(reference_run)
    metrics = reference_run.json("outcome.json")["tasks"][0]["metrics"]
    assert finished.json("outcome.json")["tasks"][0]["metrics"] == metrics
    assert not list((tmp_path / "journal").rglob("*.answers"))


def test_who_answered_is_recorded(reference_run: Finished) -> None:
    outcome, plan = reference_run.json("outcome.json"), reference_run.json("plan.json")
    assert (plan["runtime"], plan["backend"]) == ("transformers", "hf-multimodal")
    engine = outcome["engine"]
    assert engine["architectures"] == ["Qwen2_5_VLForConditionalGeneration"]
    assert (engine["dtype"], engine["attention"]) == ("float32", "sdpa")
    assert (
        engine["transformers"] == reference_run.json("environment.json")["packages"]["transformers"]
    )
    assert [task["unmatched"] for task in outcome["tasks"]] == [0]
    assert f"transformers {engine['transformers']}, sdpa attention" in reference_run.report
    assert "vLLM: not used" in reference_run.report
    assert "canary_vl on cpu (transformers)" in reference_run.printed
    assert "canary: 120/120 requests" in reference_run.printed


def test_text_alone_and_choices_are_answered_the_same(
    text_reference_run: Finished, text_run: Finished
) -> None:
    outcome = text_reference_run.json("outcome.json")
    assert outcome["engine"]["architectures"] == ["Qwen2ForCausalLM"], text_reference_run.printed
    assert [task["unmatched"] for task in outcome["tasks"]] == [0, 0]
    assert [task["truncated"] for task in outcome["tasks"]] == [0, 0]
    choices = 0
    for ours, vllms in paired(text_reference_run, text_run):
        assert ours.prompt_tokens == vllms.prompt_tokens
        assert ours.scores == vllms.scores
        assert ours.choice_logprobs == pytest.approx(vllms.choice_logprobs, abs=ROUNDING)
        choices += len(ours.choice_logprobs)
        if not ours.choice_logprobs:
            assert list(ours.token_ids) == list(vllms.token_ids)
            assert list(ours.logprobs) == pytest.approx(list(vllms.logprobs), abs=ROUNDING)
    assert choices == 8 * 4


@pytest.mark.exhaustive
def test_the_reported_command_runs_as_it_stands(
    text_reference_run: Finished, tmp_path: Path
) -> None:
    """lm-eval itself, without us: its value of the choices is ours."""
    block = text_reference_run.report.partition("**Equivalent lm-eval command**:")[2]
    lines = block.partition("```bash\n")[2].partition("\n```")[0].splitlines()
    lines = [line for line in lines if "--tasks gsm8k" not in line]
    tool = f"{shlex.quote(sys.executable)} -m lm_eval"
    lines[-1] = f"{lines[-1].replace('lm_eval', tool, 1)} --output_path {tmp_path}"
    ended = subprocess.run(
        ["bash", "-e", "-c", "\n".join(lines)],
        env=environment() | {"HF_DATASETS_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    (file,) = tmp_path.rglob("results_*.json")
    theirs = json.loads(file.read_text())["results"]["ceval-valid_accountant"]
    metrics = text_reference_run.json("outcome.json")["tasks"][1]["metrics"]
    ours = {f"{each['metric']},{each['filter']}": each["value"] for each in metrics}
    assert {name: theirs[name] for name in ours} == ours
