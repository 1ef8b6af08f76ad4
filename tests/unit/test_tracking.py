"""A run directory as MLflow shows it: names it accepts, and a store that is read back."""

from __future__ import annotations

import csv
import json
import math
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from runner.config.schema import RunConfig
from runner.config.verdict import VerdictConfig
from runner.environment import Environment
from runner.evidence.samples import Sample
from runner.lm.sample_table import SampleRow, sample_table, write_samples
from runner.outcome import Feeding, MetricResult, Outcome, State
from runner.plan import Plan
from runner.planning import Facts, make_plan
from runner.present import mlflow_link
from runner.rundir import RunDirectory, write_atomic, write_json
from runner.status import Status
from runner.tracking import records, sender, views
from runner.tracking.answers import LONGEST, MOST, answers
from runner.tracking.metrics import metrics, table
from runner.tracking.records import Record, parameters, read_record
from runner.tracking.tracked import TrackedRun, run_page
from runner.verdict import ReferenceUsed, Verdict, judge

HOSTILE = [
    "a,b",
    "a|b <script>",
    "../up",
    "a//b",
    "/absolute/task.yaml",
    "ends/",
    "./here",
    ".",
    "..",
    "🦙 模型",
    "new\nline",
    "x" * 300,
]


Finish = Callable[..., RunDirectory]


@pytest.fixture
def finish(tmp_path: Path, config: RunConfig, facts: Facts, environment: Environment) -> Finish:
    """Leave a run's directory as a run does."""

    def finished(outcome: Outcome, verdict: Verdict | None, name: str = "run") -> RunDirectory:
        files = RunDirectory(tmp_path / name)
        files.claim()
        plan = make_plan(config, facts)
        write_json(files.plan, plan)
        write_json(files.tracking, records.begin(config, plan, environment, 1000))
        write_atomic(
            files.events, '{"event": "outcome", "time": 5.0, "state": "COMPLETED"}\n{"event": "half'
        )
        write_json(files.outcome, outcome)
        if verdict is not None:
            write_json(files.verdict, verdict)
            write_atomic(files.report, "# the report\n")
        return files

    return finished


def named(verdict: Verdict, name: str) -> Verdict:
    """The verdict with another task and metric name."""
    odd = replace(verdict.metrics[0], task=name, metric=name, filter=name)
    return replace(verdict, metrics=(odd,))


# Names and values


def test_what_was_overruled_is_a_tag(
    config: RunConfig, facts: Facts, environment: Environment
) -> None:
    plan = make_plan(config, facts)
    assert "overruled" not in records.begin(config, plan, environment, 1000).tags
    line = "NPU 3: health Alarm (engine.allow_unhealthy=true)"
    plan = make_plan(config, replace(facts, overruled=(line,)))
    assert records.begin(config, plan, environment, 1000).tags["overruled"] == line


def test_metrics_of_a_judged_task(outcome: Outcome, verdict: Verdict) -> None:
    found = metrics(outcome, verdict)
    base = "gsm8k/exact_match/strict-match"
    assert found[base] == 0.77
    assert found[f"{base}_stderr"] == 0.0116
    assert found[f"{base}_difference"] == pytest.approx(0.005)
    assert len([name for name in found if name.startswith(base)]) == 3
    assert found["gsm8k/passed"] == 1
    assert found["gsm8k/baseline"] == 0.765
    assert found["perf/start_engine_s"] == 42
    assert found["perf/output_tokens_per_s"] == 50
    assert found["perf/samples_per_s"] == 13.19


def test_shares_and_rates_are_of_all_samples(outcome: Outcome, verdict: Verdict) -> None:
    task = replace(outcome.tasks[0], evaluated=30, samples=8, unparsable=60, seconds=10.0)
    found = metrics(replace(outcome, tasks=(task,)), verdict)
    assert found["gsm8k/unparsable"] == 60 / 240
    assert found["perf/samples_per_s"] == 24


def test_how_full_the_engine_was_kept(outcome: Outcome, verdict: Verdict) -> None:
    fed = Feeding(window=64, steps=512, asked=700, resumed=30, seconds=61.2)
    for name in ("stepping", "queued"):
        found = metrics(replace(outcome, feeding=replace(fed, **{name: 0.9876})), verdict)
        shares = {k: v for k, v in found.items() if k.startswith("perf/engine_") and v < 1}
        assert shares == {f"perf/engine_{name}": 0.9876}


def test_a_metric_without_filter_has_a_short_name(outcome: Outcome, verdict: Verdict) -> None:
    plain = replace(verdict.metrics[0], task="mmmu_val", metric="acc", filter="none")
    found = metrics(outcome, replace(verdict, metrics=(plain,)))
    assert {"mmmu_val/acc", "mmmu_val/acc_stderr", "mmmu_val/passed", "mmmu_val/baseline"} <= set(
        found
    )


def test_what_is_not_known_is_left_out(outcome: Outcome, verdict: Verdict) -> None:
    bare = replace(
        verdict.metrics[0],
        value=None,
        stderr=None,
        interval=None,
        baseline=None,
        difference=None,
        rule="",
        status=Status.UNJUDGED,
    )
    idle = replace(outcome, tasks=(replace(outcome.tasks[0], seconds=0.0),), timings={})
    assert metrics(idle, replace(verdict, metrics=(bare,))) == {
        "gsm8k/unparsable": 0.0,
        "gsm8k/degenerate": 0.0,
    }


def test_a_subtask_is_shown_with_less(outcome: Outcome, verdict: Verdict) -> None:
    part = replace(verdict.metrics[0], task="gsm8k_part", rule="", baseline=None)
    found = metrics(outcome, replace(verdict, metrics=(*verdict.metrics, part)))
    assert {name for name in found if name.startswith("gsm8k_part")} == {
        "gsm8k_part/exact_match/strict-match",
    }


def test_a_table_has_what_the_metrics_leave_out(outcome: Outcome, verdict: Verdict) -> None:
    odd = replace(verdict.metrics[0], task="a,b\n\x1b[2J", value=None, interval=None, rule="")
    rows = list(
        csv.DictReader(table(replace(verdict, metrics=(*verdict.metrics, odd))).splitlines())
    )
    good, bad = rows
    assert (good["task"], good["metric"], good["filter"]) == (
        "gsm8k",
        "exact_match",
        "strict-match",
    )
    assert float(good["low95"]) < float(good["value"]) == 0.77 < float(good["high95"])
    assert (good["n"], good["baseline"], good["verdict"]) == ("1319", "0.765", "PASSED")
    assert (bad["value"], bad["low95"]) == ("", "")
    assert "\x1b" not in bad["task"]


@pytest.mark.parametrize("order", [1, -1])
def test_a_task_has_passed_only_if_all_its_metrics_have(
    outcome: Outcome, verdict: Verdict, order: int
) -> None:
    good = verdict.metrics[0]
    bad = replace(good, metric="other", status=Status.FAILED)
    found = metrics(outcome, replace(verdict, metrics=(good, bad)[::order]))
    assert found["gsm8k/passed"] == 0


@pytest.mark.parametrize("status", [Status.FAILED, Status.INCONCLUSIVE, Status.UNJUDGED])
def test_only_passed_is_passed(outcome: Outcome, verdict: Verdict, status: Status) -> None:
    odd = replace(verdict.metrics[0], status=status)
    found = metrics(outcome, replace(verdict, metrics=(odd,)))
    assert found["gsm8k/passed"] == 0


def test_parameters_are_what_a_sweep_varies(config: RunConfig, facts: Facts) -> None:
    config.engine.extra = {"block_size": 64}
    config.engine.env = {"HCCL_DETERMINISTIC": "true"}
    found = parameters(config, make_plan(config, facts))
    expected = {
        "model": "fixed",
        "task": "gsm8k",
        "platform": "ascend",
        "tp": "2",
        "pp": "1",
        "dp": "1",
        "ep": "False",
        "max_model_len": "4096",
        "dtype": "bfloat16",
        "enforce_eager": "False",
        "gpu_memory_utilization": "0.8",
        "num_fewshot": "5",
        "batch_size": "auto",
        "limit": "None",
        "rtol": "0.05",
        "extra.block_size": "64",
        "env.HCCL_DETERMINISTIC": "true",
    }
    assert {name: found.get(name) for name in expected} == expected


def test_tasks_asked_differently_show_both(config: RunConfig, facts: Facts) -> None:
    config.task.names = ["gsm8k", "mmlu"]
    found = parameters(config, make_plan(config, facts))
    assert (found["task"], found["num_fewshot"], found["batch_size"]) == (
        "gsm8k+mmlu",
        "5+None",
        "auto",
    )


def test_tags_name_the_reference_run(finish: Finish, outcome: Outcome, verdict: Verdict) -> None:
    used = ReferenceUsed("baseline@m/t", "/a", "f" * 32, "m", "cuda", "TP1", "e1", "v1", "PASSED")
    found = read_record(finish(outcome, replace(verdict, reference=used))).tags
    expected = {
        "reference": "baseline@m/t",
        "reference_run": "f" * 32,
        "reference_engine_fingerprint": "e1",
        "reference_platform": "cuda",
    }
    assert expected.items() <= found.items()


def test_tags_name_verdict_fingerprints_and_versions(
    finish: Finish, plan: Plan, outcome: Outcome, verdict: Verdict
) -> None:
    task = replace(outcome.tasks[0], prompt_digest="abc", whole=6000)
    outcome = replace(outcome, tasks=(task,))
    run = finish(outcome, verdict)
    found = read_record(run).tags
    expected = {
        "verdict": "PASSED",
        f"prompts.{task.task}": "abc",
        f"samples.{task.task}": "1319 of 6000 (task.limit)",
        "engine_fingerprint": plan.engine_fingerprint,
        "evaluation_fingerprint": plan.evaluation_fingerprint,
        "weights_digest": plan.weights,
        "version.vllm": "0.23.0",
        "version.vllm-ascend": "0.23.0rc1",
        "version.torch-npu": "2.10.0.post4",
        "version.cann": "9.1.0",
        "version.driver": "25.0.rc1.1",
        "version.firmware": "7.7.0.1.231",
        "chip": "Ascend 910B4",
        "series": "A2",
        "hbm": "64 GiB",
        "run_directory": str(run.path),
        "mlflow.note.content": "# the report\n",
    }
    assert {name: found.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("uri", "page"),
    [
        (
            "sqlite:///x.db",
            "http://127.0.0.1:5000/#/experiments/1/runs/abc?workflowType=machine_learning",
        ),
        (
            "http://host:5000/",
            "http://host:5000/#/experiments/1/runs/abc?workflowType=machine_learning",
        ),
    ],
)
def test_the_runs_page_is_the_classic_one(uri: str, page: str) -> None:
    assert run_page(TrackedRun(uri, "gsm8k", "1", "abc")) == page


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: repr(name[:20]))
def test_mlflow_accepts_every_name(
    finish: Finish, config: RunConfig, outcome: Outcome, verdict: Verdict, name: str
) -> None:
    odd = replace(outcome, tasks=(replace(outcome.tasks[0], task=name),))
    config.task.names, config.model.name = [name], name
    config.engine.extra = config.engine.env = {name: name}
    accepted(read_record(finish(odd, named(verdict, name))))


def test_mlflow_accepts_long_values(
    finish: Finish, config: RunConfig, outcome: Outcome, verdict: Verdict
) -> None:
    config.engine.extra = {"compilation_config": {f"option_{n}": n for n in range(1000)}}
    accepted(read_record(finish(outcome, verdict)))


def accepted(record: Record) -> None:
    """By MLflow's own rules."""
    from mlflow.utils import validation

    for name, value in record.metrics.items():
        validation._validate_metric(name, value, record.ended_ms, 0)
    for name, text in record.begun.params.items():
        assert validation._validate_param(name, text).value == text  # nothing is cut there
    for name, text in record.tags.items():
        assert validation._validate_tag(name, text).value == text
    validation._validate_experiment_name(record.begun.experiment)
    assert "\n" not in record.begun.experiment + record.name + record.begun.name


def test_long_names_that_begin_alike_stay_different(outcome: Outcome, verdict: Verdict) -> None:
    many = [named(verdict, "x" * 300 + end).metrics[0] for end in "ab"]
    found = metrics(outcome, replace(verdict, metrics=tuple(many)))
    assert len([name for name in found if name.endswith("_difference")]) == 2


def test_a_run_without_a_verdict_was_killed(finish: Finish, outcome: Outcome) -> None:
    record = read_record(finish(replace(outcome, state=State.ERROR), None))
    assert (record.status, record.ended_ms, record.metrics) == ("KILLED", 5000, {})
    assert record.tags["verdict"] == "ERROR"
    assert "before there was a verdict" in record.tags["reason"]


def test_a_clock_that_went_back(finish: Finish, outcome: Outcome, verdict: Verdict) -> None:
    run = finish(outcome, verdict)
    write_atomic(run.events, '{"event": "outcome", "time": 0.5, "state": "COMPLETED"}\n')
    assert read_record(run).ended_ms == 1000


# A real store


Send = Callable[..., Any]


@pytest.fixture
def send(store_file: Path, config: RunConfig, finish: Finish) -> Send:
    """Send a run to the store and read it back as MLflow has it."""
    from mlflow import MlflowClient

    config.tracking.enabled = True
    config.tracking.uri = f"sqlite:///{store_file}"
    config.tracking.experiment = "an experiment"

    def sent(outcome: Outcome, verdict: Verdict, name: str = "run") -> Any:
        tracked = sender.send_run(finish(outcome, verdict, name).path)
        return MlflowClient(tracking_uri=config.tracking.uri).get_run(tracked.run_id)

    return sent


def test_a_passed_run_in_a_real_store(
    send: Send, store_file: Path, tmp_path: Path, outcome: Outcome, verdict: Verdict
) -> None:
    from mlflow import MlflowClient

    stored = send(outcome, verdict)
    assert stored.info.status == "FINISHED"
    assert (stored.info.start_time, stored.info.end_time) == (1000, 5000)
    assert stored.info.run_name == "PASSED fixed TP2"
    assert stored.data.metrics == pytest.approx(metrics(outcome, verdict))
    assert stored.data.params["tp"] == "2"
    assert stored.data.params["max_model_len"] == "4096"
    assert stored.data.params["dtype"] == "bfloat16"
    assert stored.data.params["model"] == "fixed"
    assert stored.data.tags["verdict"] == "PASSED"
    assert len(stored.data.tags["engine_fingerprint"]) == 16
    assert stored.data.tags["mlflow.note.content"] == "# the report\n"
    client = MlflowClient(tracking_uri=f"sqlite:///{store_file}")
    kept = {each.path for each in client.list_artifacts(stored.info.run_id)}
    written = {file.name for file in (tmp_path / "run").iterdir()} - {"mlflow.json"}
    assert kept == written | {"metrics.csv"}


def sample(number: int, **other: Any) -> SampleRow:
    values: dict[str, Any] = {
        "task": "gsm8k", "doc_id": number, "filter": "none", "doc_hash": "", "prompt_hash": "",
        "image_hashes": [], "image_sizes": [], "prompt": "2+2?", "target": "4", "responses": ["4"],
        "filtered": "4", "scores": {"acc": 1.0}, "truncated": False, "prompt_tokens": [3],
        "token_ids": [1, 2], "logprobs": [-0.1, -0.2], "margins": [1.0, 1.0],
        "finish_reasons": ["stop"],
    }  # fmt: skip
    return SampleRow(**values | other)


def test_answers_are_a_table_of_mlflow_s_own(
    send: Send, finish: Finish, store_file: Path, outcome: Outcome, verdict: Verdict
) -> None:
    """A second upload, of a run that arrived in part, doesn't append to it."""
    import mlflow

    files = finish(outcome, verdict, "again")
    told = sample(
        1,
        filter="strict",
        repeat=2,
        prompt="x" * 5000,
        responses=["\u202eno\x1b[1m"],
        filtered="[invalid]",
        scores={"acc": math.nan, "f1": 0.5},
        finish_reasons=["length"],
        degenerate=["repeating", "repeating"],
    )
    rows = [sample(0), told, *(sample(number) for number in range(2, MOST + 5))]
    write_samples(files.samples, [sample_table(rows)])
    for _ in range(2):
        tracked = sender.send_run(files.path)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{store_file}")
    shown = client.load_table(tracked.experiment_id, "answers.json", [tracked.run_id])
    assert len(shown) == MOST
    assert list(shown.columns[:6]) == ["question", "response", "parsed", "target", "acc", "f1"]
    plain, other = shown.to_dict("records")[:2]
    assert plain["question"] == "gsm8k/0" and plain["acc"] == 1.0 and plain["tokens"] == 2
    assert not plain["cut"] and not plain["unparsable"] and plain["degenerate"] == ""
    assert other["question"] == "gsm8k/1, strict, sample 3"
    assert other["response"] == "⟨U+202E⟩no␛[1m" and math.isnan(other["acc"])
    assert other["cut"] and other["unparsable"] and other["degenerate"] == "repeating"
    assert len(other["prompt"]) == LONGEST + 1


def test_scored_choices_are_not_cut_in_the_table() -> None:
    choices = Sample("mini", 0, choice_logprobs=(-1.0, -2.0), finish_reasons=("length",) * 2)
    text = Sample("mini", 1, finish_reasons=("length",))
    table = json.loads(answers([choices, text]))
    place = table["columns"].index("cut")
    assert [row[place] for row in table["data"]] == [False, True]


def test_a_damaged_samples_file_keeps_no_run_from_arriving(
    send: Send, finish: Finish, store_file: Path, outcome: Outcome, verdict: Verdict
) -> None:
    import mlflow

    files = finish(outcome, verdict, "damaged")
    files.samples.write_bytes(b"PAR1")
    tracked = sender.send_run(files.path)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{store_file}")
    assert client.get_run(tracked.run_id).data.tags["verdict"] == "PASSED"
    names = {each.path for each in client.list_artifacts(tracked.run_id)}
    assert "samples.parquet" in names and "answers.json" not in names


def test_the_data_and_the_commit_are_beside_the_run(
    send: Send, environment: Environment, outcome: Outcome, verdict: Verdict
) -> None:
    task = replace(outcome.tasks[0], data_digest="d" * 64)
    stored = send(replace(outcome, tasks=(task,)), verdict)
    assert stored.data.tags["mlflow.source.git.commit"] == environment.project_commit
    (used,) = stored.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("gsm8k", "d" * 16)
    assert json.loads(used.dataset.profile) == {"num_rows": 1319}
    assert [(tag.key, tag.value) for tag in used.tags] == [("mlflow.data.context", "evaluation")]


def test_the_runs_page_links_to_the_run_in_mlflow(
    send: Send, finish: Finish, tmp_path: Path, outcome: Outcome, verdict: Verdict
) -> None:
    """Also the copy that MLflow has."""
    from mlflow import MlflowClient

    run = finish(outcome, verdict)
    write_atomic(run.report_html, f"<html>{mlflow_link.START}{mlflow_link.END}</html>")
    tracked = sender.send_run(run.path)
    page = run.report_html.read_text()
    assert tracked.run_id in page and "mlflow ui --backend-store-uri" in page
    client = MlflowClient(tracking_uri=tracked.uri)
    copy = Path(client.download_artifacts(tracked.run_id, "report.html", str(tmp_path)))
    assert copy.read_text() == page


def test_the_experiment_has_a_view_with_the_verdicts(
    send: Send, store_file: Path, outcome: Outcome, verdict: Verdict
) -> None:
    from mlflow import MlflowClient

    stored = send(outcome, verdict)
    client = MlflowClient(tracking_uri=f"sqlite:///{store_file}")

    def view() -> str:
        tags = client.get_experiment(stored.info.experiment_id).tags
        return str(tags[views.view_tag(views.ALL_RUNS)])

    first = view()
    for column in ("tags.`verdict`", "tags.`dtype`", "tags.`layout`", "match_difference`"):
        assert column in first
    key = parse_qs(all_runs_link(stored, store_file).partition("?")[2])["viewStateShareKey"]
    assert views.view_tag(views.ALL_RUNS).endswith(key[0])
    send(outcome, verdict, "another")
    assert view() == first  # a reader's own changes stay


def all_runs_link(stored: Any, store_file: Path) -> str:
    return views.all_runs_page(f"sqlite:///{store_file}", stored.info.experiment_id)


@pytest.mark.parametrize(
    ("state", "status"),
    [(State.ERROR, "FAILED"), (State.INTERRUPTED, "KILLED"), (State.REFUSED, "FINISHED")],
)
def test_a_run_that_did_not_finish(
    send: Send, plan: Plan, outcome: Outcome, state: State, status: str
) -> None:
    ended = replace(outcome, state=state, reason="why\nand more")
    stored = send(ended, judge(ended, plan.evaluations, VerdictConfig()))
    assert stored.info.status == status
    assert stored.data.tags["verdict"] == state.value
    assert stored.data.tags["reason"] == "why\nand more"


def test_a_failed_accuracy_has_a_red_mark(
    send: Send, plan: Plan, outcome: Outcome, metric: MetricResult
) -> None:
    task = replace(outcome.tasks[0], metrics=(replace(metric, value=0.1),))
    wrong = replace(outcome, tasks=(task,))
    stored = send(wrong, judge(wrong, plan.evaluations, VerdictConfig()))
    assert stored.info.status == "FAILED"
    assert stored.info.run_name == "FAILED fixed TP2"
    assert stored.data.tags["verdict"] == "FAILED"
    assert stored.data.metrics["gsm8k/passed"] == 0


def test_no_number_can_be_recorded(
    send: Send, plan: Plan, outcome: Outcome, metric: MetricResult
) -> None:
    task = replace(outcome.tasks[0], metrics=(replace(metric, value=float("nan")),))
    odd = replace(outcome, tasks=(task,))
    stored = send(odd, judge(odd, plan.evaluations, VerdictConfig()))
    assert stored.data.tags["verdict"] == "FAILED"
    assert stored.data.metrics["gsm8k/passed"] == 0


def test_more_metrics_than_one_request_takes(
    send: Send, outcome: Outcome, verdict: Verdict
) -> None:
    """A group of very many subtasks: MLflow takes 1000 metrics in one batch."""
    many = tuple(
        replace(verdict.metrics[0], task=f"part_{number}", baseline=None) for number in range(1010)
    )
    stored = send(outcome, replace(verdict, metrics=many))
    assert len(stored.data.metrics) > 1000


def test_runs_of_one_experiment_lie_side_by_side(
    send: Send, outcome: Outcome, verdict: Verdict
) -> None:
    first, second = send(outcome, verdict), send(outcome, verdict, "another")
    assert first.info.experiment_id == second.info.experiment_id
    assert first.info.run_id != second.info.run_id


def test_the_experiment_is_the_task_unless_named(
    send: Send, config: RunConfig, store_file: Path, outcome: Outcome, verdict: Verdict
) -> None:
    from mlflow import MlflowClient

    config.tracking.experiment = None
    stored = send(outcome, verdict)
    client = MlflowClient(tracking_uri=f"sqlite:///{store_file}")
    assert client.get_experiment(stored.info.experiment_id).name == "gsm8k"


def test_sent_twice_it_is_one_run(
    send: Send, store_file: Path, tmp_path: Path, outcome: Outcome, verdict: Verdict
) -> None:
    from mlflow import MlflowClient

    asked = replace(outcome, tasks=(replace(outcome.tasks[0], data_digest="abc"),))
    stored = send(asked, verdict)
    again = sender.send_run(tmp_path / "run")
    assert again.run_id == stored.info.run_id
    client = MlflowClient(tracking_uri=f"sqlite:///{store_file}")
    (only,) = client.search_runs([stored.info.experiment_id])
    assert only.data.metrics == stored.data.metrics
    assert len(client.get_metric_history(only.info.run_id, "gsm8k/passed")) == 1
    assert len(only.inputs.dataset_inputs) == len(stored.inputs.dataset_inputs) == 1


def test_a_store_of_another_kind_is_not_changed(
    send: Send, config: RunConfig, tmp_path: Path, outcome: Outcome, verdict: Verdict
) -> None:
    (tmp_path / "other.db").write_bytes(b"not a database" * 100)
    config.tracking.uri = f"sqlite:///{tmp_path / 'other.db'}"
    with pytest.raises((sqlite3.Error, Exception), match="not a database"):
        send(outcome, verdict)
    assert (tmp_path / "other.db").read_bytes() == b"not a database" * 100


def test_of_a_database_that_cannot_be_written_its_own_words_are_said() -> None:
    """SQLAlchemy's begin with what a programmer might change."""
    try:
        try:
            raise sqlite3.OperationalError("attempt to write a readonly database")
        except sqlite3.Error as error:
            raise RuntimeError("(raised as a result of Query-invoked autoflush)") from error
    except RuntimeError as error:
        assert sender._said(error) == "attempt to write a readonly database"


@pytest.mark.slow
def test_several_first_users_make_one_store(tmp_path: Path) -> None:
    store = tmp_path / "mlflow.db"
    code = (
        "import sys, logging; logging.disable(); from runner.tracking import sender;"
        "print(sender.open_store(sys.argv[1], 'mini'))"
    )
    users = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code, f"sqlite:///{store}"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    assert {user.communicate(timeout=120)[0] for user in users} == {"None\n"}
    assert [each.name for each in tmp_path.iterdir() if each.name != "mlruns"] == ["mlflow.db"]


def test_no_name_fails_a_run_or_leaves_its_place(
    send: Send,
    store_file: Path,
    config: RunConfig,
    outcome: Outcome,
    verdict: Verdict,
) -> None:
    before = {each.name for each in store_file.parent.parent.iterdir()}
    for number, name in enumerate(HOSTILE):
        config.model.name, config.task.names, config.tracking.experiment = name, [name], None
        odd = replace(outcome, tasks=(replace(outcome.tasks[0], task=name),))
        stored = send(odd, named(verdict, name), str(number))
        place = Path(unquote(urlsplit(stored.info.artifact_uri).path))
        assert place.resolve().is_relative_to(store_file.parent / "mlruns")
        assert (place / "verdict.json").is_file()
        assert stored.data.tags["verdict"] == "PASSED"
    assert {each.name for each in store_file.parent.parent.iterdir()} == before
