"""The default run on a real engine: the shipped canary, whole."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Finished, Run, environment

pytestmark = pytest.mark.slow

KINDS = 6
FILES = {
    "config.yaml",
    "command.txt",
    ".hydra",
    "plan.json",
    "environment.json",
    "outcome.json",
    "samples.parquet",
    "images.parquet",
    "verdict.json",
    "report.md",
    "report.html",
    "engine.log",
    "events.jsonl",
    "tracking.json",
    "mlflow.json",
}


def test_passes_and_leaves_every_file(default_run: Finished) -> None:
    assert default_run.status == 0, default_run.printed
    assert {file.name for file in default_run.directory.iterdir()} == FILES
    assert default_run.json("verdict.json")["status"] == "PASSED"


def test_terminal_shows_progress_as_plain_lines_and_the_verdict(default_run: Finished) -> None:
    pace = r"canary: \d+/600 requests, [\d.]+ requests/s"
    assert re.search(pace, default_run.printed)
    assert "canary_vl: PASSED" in default_run.printed
    assert re.search(r"mlflow ui --backend-store-uri .* --host 127.0.0.1", default_run.printed)
    assert "\x1b[" not in default_run.printed


def test_judges_the_group_and_every_kind(default_run: Finished) -> None:
    metrics = default_run.json("verdict.json")["metrics"]
    whole, *kinds = metrics
    assert whole["task"] == "canary"
    assert len(kinds) == KINDS
    assert whole["status"] == "PASSED"
    assert whole["n"] == 600
    low, high = whole["interval"]
    assert low < whole["value"] < high
    assert whole["difference"] == pytest.approx(whole["value"] - whole["baseline"])


def test_every_sample_is_kept_with_its_numerics(default_run: Finished) -> None:
    rows = default_run.samples()
    assert len(rows) == 600
    assert len({(row["task"], row["doc_id"]) for row in rows}) == 600
    for row in rows:
        assert len(row["logprobs"]) == len(row["token_ids"]) == len(row["margins"]) > 0
        assert all(value <= 1e-6 for value in row["logprobs"])
        assert row["finish_reasons"] == ["stop"]
        assert len(row["seconds"]) == 1 and row["seconds"][0] > 0
        assert not row["truncated"]
        assert len(row["image_hashes"]) in (1, 2)
        assert row["scores"][0][0] == "acc"


def test_no_answer_needs_the_parsers_guess(default_run: Finished) -> None:
    """lm-eval's MMMU parser guesses where it finds no letter: no answer may come to that."""
    answers = [row["responses"][0] for row in default_run.samples() if len(row["target"]) == 1]
    assert answers
    assert [answer for answer in answers if not re.fullmatch(r"[A-H]", answer)] == []
    (task,) = default_run.json("outcome.json")["tasks"]
    assert (task["unparsable"], task["guessed"]) == (0, 0)


def test_no_answer_is_degenerate(default_run: Finished) -> None:
    (task,) = default_run.json("outcome.json")["tasks"]
    assert task["degenerate"] == []
    assert not any(row["degenerate"] for row in default_run.samples())


def test_environment_and_resolved_engine_are_recorded(default_run: Finished) -> None:
    environment = default_run.json("environment.json")
    for package in ("torch", "transformers", "lm-eval", "hydra-core", "mlflow", "numpy"):
        assert environment["packages"][package]
    assert environment["python"] and environment["os"] and environment["cpu"]
    assert len(environment["pip_freeze"]) > 50
    engine = default_run.json("outcome.json")["engine"]
    assert engine["architectures"] == ["Qwen2_5_VLForConditionalGeneration"]
    assert engine["dtype"] == "float32"
    assert engine["block_size"] > 0 and engine["num_gpu_blocks"] > 0
    assert engine["cudagraph_mode"] == "NONE"


def test_mlflow_holds_parameters_metrics_tags_and_artifacts(default_run: Finished) -> None:
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=default_run.store)
    experiment = client.get_experiment_by_name("canary")
    assert experiment is not None
    (run,) = client.search_runs(
        [experiment.experiment_id],
        filter_string=f"tags.run_directory = '{default_run.directory}'",
    )
    assert (run.info.status, run.info.run_name) == ("FINISHED", "PASSED canary_vl TP1")
    expected = {"model": "canary_vl", "tp": "1", "max_model_len": "1024", "dtype": "float32"}
    assert expected.items() <= run.data.params.items()
    verdict = default_run.json("verdict.json")["metrics"][0]
    assert run.data.metrics["canary/acc"] == pytest.approx(verdict["value"])
    assert run.data.metrics["canary/acc_stderr"] == pytest.approx(verdict["stderr"])
    assert run.data.metrics["canary/baseline"] == verdict["baseline"]
    assert run.data.metrics["canary/passed"] == 1.0
    assert run.data.metrics["perf/output_tokens_per_s"] > 0
    plan = default_run.json("plan.json")
    assert run.data.tags["verdict"] == "PASSED"
    assert run.data.tags["engine_fingerprint"] == plan["engine_fingerprint"]
    assert run.data.tags["weights_digest"] == plan["weights"]
    assert len(plan["weights"]) == 64 and f"weights `{plan['weights'][:16]}`" in default_run.report
    assert run.data.tags["evaluation_fingerprint"] == plan["evaluation_fingerprint"]
    assert run.data.tags["version.torch"]
    artifacts = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    # mlflow.json says where the run went, so it can only be written once it is there.
    assert artifacts == FILES - {"mlflow.json"} | {"metrics.csv", "answers.json"}
    (used,) = run.inputs.dataset_inputs
    assert used.dataset.name == "canary"
    digest = default_run.json("outcome.json")["tasks"][0]["data_digest"]
    assert digest.startswith(used.dataset.digest)
    page = (default_run.directory / "report.html").read_text(encoding="utf-8")
    assert f"/runs/{run.info.run_id}?" in page


def test_a_wrong_baseline_fails_and_a_second_run_answers_the_same(
    run: Run, default_run: Finished
) -> None:
    second = run("model.baselines.canary.acc.none=0.5")
    assert second.status == 3, second.printed
    assert "❌" in second.report and "more than 5 % above 0.5" in second.report

    def answers(finished: Finished) -> list[tuple[object, ...]]:
        return [
            (row["task"], row["doc_id"], row["prompt_hash"], *row["responses"], *row["logprobs"])
            for row in finished.samples()
        ]

    assert answers(second) == answers(default_run)
    first_task = default_run.json("outcome.json")["tasks"][0]
    assert second.json("outcome.json")["tasks"][0]["prompt_digest"] == first_task["prompt_digest"]


def test_the_reports_lm_eval_command_reproduces_the_value(
    default_run: Finished, tmp_path: Path
) -> None:
    scripts = re.findall(r"```bash\n(.*?)```", default_run.report, re.DOTALL)
    (lm_eval,) = [each for each in scripts if "lm_eval --model" in each]
    script = lm_eval.rstrip() + f" --output_path {tmp_path}\n"
    ended = subprocess.run(
        ["bash", "-euc", f'PATH="{Path(sys.executable).parent}:$PATH"\n{script}'],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    rows = re.findall(r"^\|Canary\s*\|.*\|acc\s*\|[^|]*\|\s*([\d.]+)\|", ended.stdout, re.M)
    value = default_run.json("verdict.json")["metrics"][0]["value"]
    assert rows and {float(row) for row in rows} == {round(value, 4)}
