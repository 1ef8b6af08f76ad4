"""Sweeps with real engines: shared, killed, started again, interrupted."""

from __future__ import annotations

import csv
import re
import signal
from pathlib import Path

import pytest

from runner.canary import WEIGHTS
from runner.rundir import RunDirectory
from runner.supervision.processes import group_members
from tests.conftest import KILLED, CanarySweep
from tests.swept import Swept, wait_for, worker_of

pytestmark = pytest.mark.slow


@pytest.fixture
def sweep(tmp_path: Path) -> Swept:
    return Swept(tmp_path / "sweep", f"sqlite:///{tmp_path / 'mlflow.db'}")


# sweep=canary, of which one engine was killed


def test_a_killed_engine_costs_its_point_alone(canary_sweep: CanarySweep) -> None:
    first = canary_sweep.first
    assert first.status == 2, first.printed
    assert "4 points, 4 to run on 4 engines" in first.printed
    states = re.findall(r"^  (\d)   tp=.*?(INCONCLUSIVE|ERROR)", first.printed, re.M)
    # 120 of 600 questions: too few to pass by a baseline of them all.
    expected = ["INCONCLUSIVE", "INCONCLUSIVE", "ERROR", "INCONCLUSIVE"]
    assert [state for _, state in sorted(states)] == expected
    assert "ERROR: the worker process died (signal SIGKILL)" in first.printed
    assert "Traceback" not in first.printed
    assert canary_sweep.left == [] and canary_sweep.kept == set()


def test_a_second_start_makes_up_for_it(canary_sweep: CanarySweep) -> None:
    last = canary_sweep.last
    assert last.status == 4, last.printed
    assert "4 points, 3 already done, 1 to run on 1 engine" in last.printed
    assert last.statuses() == [4, 4, 4, 4]
    killed = RunDirectory(last.directory / "earlier" / str(KILLED))
    report = killed.report.read_text()
    assert "the worker process died (signal SIGKILL)" in report
    assert "End of the engine log" in report
    assert (last.directory / str(KILLED) / "samples.parquet").is_file()


def test_it_ends_with_a_table_figures_and_links(canary_sweep: CanarySweep) -> None:
    last = canary_sweep.last
    pattern = r"^  \d   (tp=\d max_model_len=\d+)\s+INCONCLUSIVE\s+0\.\d+ ± "
    rows = re.findall(pattern, last.printed, re.M)
    axes = [(tp, length) for tp in "12" for length in ("512", "1024")]
    assert rows == [f"tp={tp} max_model_len={length}" for tp, length in axes]
    assert re.search(r"^tp: 2 vs 1 \(2 pairs of points\): ", last.printed, re.M)
    assert re.search(r"^max_model_len: 1024 vs 512 ", last.printed, re.M)
    for page in ("runs", "charts", "compare"):
        assert re.search(rf"^  {page} +http://127.0.0.1:5000/#/\S+$", last.printed, re.M)
    text = (last.directory / "sweep.csv").read_text()
    table = [row for row in csv.DictReader(text.splitlines()) if row["compared"] == "True"]
    found = [(row["parallelism.tp"], row["engine.max_model_len"]) for row in table]
    assert found == axes
    assert all(float(row["value"]) > 0.8 and row["n"] == "120" for row in table)
    page = (last.directory / "sweep.md").read_text()
    pictures = re.findall(r"\]\((figures/\S+\.png)\)", page)
    assert len(pictures) == 4 and all((last.directory / each).is_file() for each in pictures)


def test_mlflow_has_the_points_by_name_and_the_killed_attempt_apart(
    canary_sweep: CanarySweep,
) -> None:
    import mlflow

    last = canary_sweep.last
    client = mlflow.MlflowClient(tracking_uri=last.store)
    experiment = client.get_experiment_by_name("canary")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    sweep = "/".join(last.directory.parts[-2:])
    points = {run.info.run_name: run for run in runs if run.data.tags.get("sweep") == sweep}
    assert len(points) == 4
    assert "canary_vl tp=2 max_model_len=1024" in {name.partition(" ")[2] for name in points}
    (killed,) = [run for run in runs if run.data.tags.get("sweep_earlier") == sweep]
    assert killed.info.status == "FAILED"
    (summary,) = [run for run in runs if "sweep_summary" in run.data.tags]
    kept = {each.path for each in client.list_artifacts(summary.info.run_id)}
    assert {"sweep.md", "sweep.csv", "sweep.parquet", "sweep.json", "figures"} <= kept


# Others


def test_points_of_one_engine_start_it_once_and_a_refused_one_is_skipped(sweep: Swept) -> None:
    asked = ("task.limit=2,4", "engine.max_model_len=1024,9999", "verdict.rtol=0.99")
    assert sweep.run(*asked).status == 4, sweep.printed  # inconclusive is worse than a refusal
    assert sweep.statuses() == [4, 1, 4, 1]
    assert sweep.printed.startswith(
        "2 points (1, 3) are refused:\nerror: engine.max_model_len=9999"
    )
    assert "4 points, 2 refused, 2 to run on 1 engine, 1 engine start saved" in sweep.printed
    assert sweep.printed.count("starting engine …") == 1
    first, second = (sweep.json(number, "outcome.json") for number in (0, 2))
    assert first["timings"]["start_engine_s"] > 5
    assert second["timings"]["start_engine_s"] < 1
    assert second["engine"] == first["engine"]
    logs = [(sweep.directory / number / "engine.log").read_text() for number in ("0", "2")]
    assert "Initializing" in logs[0]
    assert "Initializing" not in logs[1]
    plans = [sweep.json(number, "plan.json") for number in (0, 2)]
    assert plans[0]["engine_fingerprint"] == plans[1]["engine_fingerprint"]


def test_each_point_counts_its_own_drafted_tokens(sweep: Swept, text_data: Path) -> None:
    """Two points on one engine, whose counters go on, with baselines of which one is wrong."""
    drafting = "{method: ngram, num_speculative_tokens: 2, prompt_lookup_max: 2}"
    sweep.run(
        "model=any",
        f"model.pretrained={WEIGHTS}",
        "model.backend=vllm",
        "task.names=[gsm8k]",
        f"task.data_dir={text_data}",
        "task.num_fewshot=0",
        "task.apply_chat_template=false",
        "task.gen_kwargs={max_gen_toks: 24, min_tokens: 24}",  # the canary repeats itself
        "engine=cpu",
        "engine.dtype=float32",
        "engine.max_model_len=1024",
        f"engine.extra.speculative_config={drafting}",
        "verdict.allow_degenerate=true",
        "verdict.allow_cut=true",
        "verdict.rtol=0.2",
        "model.baselines.gsm8k.acceptance_rate.none=0.9,0.1",
    )
    assert sweep.statuses() == [4, 3], sweep.printed
    assert "none of 8 answers could be parsed" in sweep.printed  # the canary knows no sums
    assert "on 1 engine" in sweep.printed
    first, second = (sweep.json(number, "outcome.json") for number in (0, 1))
    counts = first["speculation"]
    assert counts == second["speculation"]
    assert 0 < counts["accepted"] <= counts["drafted"] <= 2 * counts["drafts"]
    assert sum(counts["by_position"]) == counts["accepted"]
    # A step with drafted tokens gives one more than it accepts; the first token has no draft.
    assert counts["accepted"] + counts["drafts"] <= 8 * 24 - 8
    (metric,) = (
        each for each in first["tasks"][0]["metrics"] if each["metric"] == "acceptance_rate"
    )
    assert metric["value"] == counts["accepted"] / counts["drafted"]
    report = (sweep.directory / "0" / "report.md").read_text()
    assert re.search(r"\*\*Speculative decoding\*\*: .* drafted tokens accepted", report)


def test_one_interruption_finishes_the_point_and_stops_the_sweep(sweep: Swept) -> None:
    """Another one, meanwhile, changes nothing."""
    process = sweep.start("task.limit=2,600", "verdict.rtol=0.99")
    wait_for(lambda: "progress" in sweep.events(1))
    engine = worker_of(process).pid
    process.send_signal(signal.SIGINT)
    wait_for(lambda: (sweep.directory / "1" / "outcome.json").is_file())
    process.send_signal(signal.SIGINT)
    sweep.finish(process)
    assert sweep.status == 130, sweep.printed
    assert "Traceback" not in sweep.printed
    assert sweep.statuses() == [4, 130]
    assert sweep.json(1, "verdict.json")["status"] == "INTERRUPTED"
    assert group_members(engine) == []
    assert (sweep.directory / "sweep.md").is_file()


def test_a_strict_sweep_with_a_refused_point_starts_nothing(sweep: Swept) -> None:
    sweep.run("engine.max_model_len=1024,9999", "sweep.strict=true")
    assert sweep.status == 1, sweep.printed
    assert "sweep.strict=true: a point was refused, so no point was run" in sweep.printed
    assert "starting engine" not in sweep.printed
