"""Other layouts and other tasks on a real engine, all from local directories."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.canary import WEIGHTS
from tests.e2e.conftest import Finished, Run
from tests.shared_memory import orphans, segments

pytestmark = pytest.mark.slow


def test_tensor_parallel_on_two_cores(run: Run, default_run: Finished) -> None:
    """Two ranks round differently: nearly all answers are the same, none is missing.

    Held against the run on one rank, question by question: of 120 samples the verdict knows how
    little they can rule out.
    """
    shared_memory = segments()
    two = run(
        "parallelism.tp=2",
        "task.limit=20",
        "verdict=paired",
        f"verdict.reference={default_run.directory}",
        "verdict.cluster=subfield",
    )
    assert two.status in (0, 4), two.printed
    verdict = two.json("verdict.json")
    judged = verdict["metrics"][0]
    assert judged["status"] in ("PASSED", "INCONCLUSIVE")
    assert judged["detectable"] >= 5 / 120, "the exact test sees nothing below five flips"
    assert (judged["status"] == "PASSED") is (judged["upper"] < 0.02)
    if judged["status"] == "INCONCLUSIVE":
        assert judged["samples_to_pass"] >= 180, "as many as no flips need"
        assert judged["samples_to_fail"] >= 5 / 0.04
    assert judged["clusters"] == 6
    assert "clustered by subfield (6 clusters)" in two.printed
    one = default_run.json("plan.json")
    assert verdict["reference"]["engine_fingerprint"] == one["engine_fingerprint"]
    assert "(80 % power)" in two.report
    assert two.json("outcome.json")["engine"]["tensor_parallel_size"] == 2
    alone = {(row["task"], row["doc_id"]): row for row in default_run.samples()}
    rows = two.samples()
    assert len(rows) == 120
    same = [row["responses"] == alone[row["task"], row["doc_id"]]["responses"] for row in rows]
    assert sum(same) >= 0.97 * len(same)
    assert orphans(shared_memory) == set(), "vLLM's own exit leaves segments behind"


def test_generation_and_choices_in_one_run_from_two_local_data_sets(text_run: Finished) -> None:
    """Tasks, few-shot and template as Qwen3-8B is asked, answered by the canary's weights."""
    finished = text_run
    outcome = finished.json("outcome.json")
    assert [task["task"] for task in outcome["tasks"]] == ["gsm8k", "ceval-valid_accountant"], (
        finished.printed
    )
    assert [task["evaluated"] for task in outcome["tasks"]] == [8, 8]
    assert [task["unmatched"] for task in outcome["tasks"]] == [0, 0]
    judged = {
        (metric["task"], metric["metric"], metric["filter"]): metric
        for metric in finished.json("verdict.json")["metrics"]
        if metric["baseline"] is not None
    }
    assert set(judged) == {
        ("gsm8k", "exact_match", "strict-match"),
        ("gsm8k", "exact_match", "flexible-extract"),
        ("ceval-valid_accountant", "acc", "none"),
    }
    rows = finished.samples()
    shots = [row for row in rows if row["task"] == "gsm8k"]
    assert len(shots) == 16, "one row for each of two filters"
    assert shots[0]["prompt"].count("<|im_start|>user") == 6, "five examples as turns, and one"
    choice = next(row for row in rows if row["task"] == "ceval-valid_accountant")
    assert len(choice["responses"]) == 4 and len(choice["prompt_tokens"]) == 4
    assert choice["responses"] == [
        str((value, text.endswith("True)")))
        for value, text in zip(choice["choice_logprobs"], choice["responses"], strict=True)
    ]
    assert len(choice["choice_tokens"]) == 4 and all(each > 0 for each in choice["choice_tokens"])
    assert not any(row["choice_logprobs"] for row in shots)


def test_prompts_cut_to_fit_are_counted_and_never_pass(run: Run, text_data: Path) -> None:
    """With the engine in a process of its own, besides, and prompts that it reads in four steps.

    It is heard of only where a step brings a token: one that brings none stalls (limits.stall_s).
    """
    finished = run(
        "model=qwen3_8b",
        f"model.pretrained={WEIGHTS}",
        f"task.data_dir={text_data}",
        "engine.max_model_len=128",
        "task.gen_kwargs.max_gen_toks=16",
        # The canary scores 0 here, which alone would pass.
        "model.baselines.gsm8k.exact_match.strict-match=0",
        "model.baselines.gsm8k.exact_match.flexible-extract=0",
        "engine.env.VLLM_ENABLE_V1_MULTIPROCESSING='1'",
        "+engine.env.VLLM_WORKER_MULTIPROC_METHOD=spawn",  # it starts while requests are built
        "engine.window=1",
        "engine.extra.max_num_batched_tokens=32",
    )
    assert finished.status == 4, finished.printed
    assert finished.json("outcome.json")["tasks"][0]["truncated"] == 8
    tokens = {row["doc_id"]: len(row["token_ids"]) for row in finished.samples()}
    assert finished.json("outcome.json")["feeding"]["steps"] == sum(tokens.values())
    assert "8 prompts were left-truncated to max_model_len" in finished.report


@pytest.mark.exhaustive
def test_prompts_too_long_to_ask_are_counted_and_never_pass(
    run: Run, default_run: Finished
) -> None:
    """With a tracking server that is away, besides: it costs a warning, and nothing else."""
    lengths = sorted(row["prompt_tokens"][0] for row in default_run.samples())
    middle = lengths[len(lengths) // 2]
    finished = run(
        f"engine.max_model_len={middle}",
        "task.limit=10",
        "model.baselines.canary.acc.none=0.3",  # prompts that are not sent score 0
        "verdict.rtol=0.99",
        store="http://127.0.0.1:9",
    )
    assert "the server is unreachable" in finished.printed.partition("starting engine")[0]
    assert "not uploaded to MLflow" in finished.printed
    task = finished.json("outcome.json")["tasks"][0]
    assert finished.status == 4, finished.printed
    assert 0 < task["refused"] < 60
    assert f"{task['refused']} prompts exceeded max_model_len and were not sent" in finished.report


@pytest.mark.exhaustive
def test_mmmu_from_a_local_directory_with_its_thirty_subjects(run: Run, tmp_path: Path) -> None:
    import lm_eval
    import yaml

    import runner.canary as canary

    tasks = Path(lm_eval.__file__).parent / "tasks" / "mmmu"
    plain = [
        "\n".join(line for line in file.read_text().splitlines() if "!function" not in line)
        for file in sorted(tasks.glob("mmmu_*.yaml"))
    ]
    subjects = [yaml.safe_load(text)["dataset_name"] for text in plain]
    assert len(subjects) == 30
    repository = tmp_path / "MMMU" / "MMMU"
    repository.mkdir(parents=True)
    source = next(canary.DATASET.rglob("colour/*.parquet")).parent
    header = ["---", "configs:"]
    for subject in subjects:
        (repository / subject).symlink_to(source)
        header += [f"- config_name: {subject}", "  data_files:", "  - split: validation"]
        header += [f"    path: {subject}/validation-*"]
    (repository / "README.md").write_text("\n".join([*header, "---", ""]))
    finished = run(
        "model=qwen2_5_vl_7b",
        f"model.pretrained={WEIGHTS}",
        "engine.max_model_len=1024",
        f"task.data_dir={tmp_path}",
        "task.limit=1",
    )
    assert finished.status == 3, finished.printed  # a canary knows colours better than 0.51
    assert len({row["task"] for row in finished.samples()}) == 30
    assert finished.json("verdict.json")["metrics"][0]["task"] == "mmmu_val"
