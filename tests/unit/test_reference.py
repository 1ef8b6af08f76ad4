"""References by directory, id and alias; what is wrong with one is said before an engine starts."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from runner import promote
from runner.config.schema import RunConfig
from runner.errors import UserError
from runner.lm.sample_table import SampleRow, sample_table, write_samples
from runner.look import Look
from runner.outcome import Outcome, State
from runner.plan import Evaluation, JournalPlan, Plan
from runner.reference import locating, stopped
from runner.reference.locating import Alias, Located
from runner.reference.reading import misfits, read
from runner.rundir import RunDirectory, read_json, write_json
from runner.status import Status
from runner.tracking.courier import Courier
from runner.tracking.tracked import TrackedRun
from runner.verdict import Verdict
from tests.mlflow_server import Server, serving, wait_until

PROJECT = Path(__file__).parents[2]

Left = Callable[..., RunDirectory]


def row(number: int) -> SampleRow:
    return SampleRow(
        task="gsm8k", doc_id=number, filter="strict-match", doc_hash=f"d{number}",
        prompt_hash=f"p{number}", image_hashes=[], image_sizes=[], prompt="?", target="1",
        responses=["1"], filtered="1", scores={"exact_match": 1.0}, truncated=False,
        prompt_tokens=[1], token_ids=[1], logprobs=[-0.1], margins=[1.0], finish_reasons=["stop"],
    )  # fmt: skip


@pytest.fixture
def left(tmp_path: Path, plan: Plan, outcome: Outcome, verdict: Verdict) -> Left:
    """A run directory of four samples, as a run leaves it."""

    def make(name: str = "run", found: Outcome | None = None, rows: int = 4) -> RunDirectory:
        files = RunDirectory(tmp_path / name)
        files.path.mkdir()
        task = replace(outcome.tasks[0], expected=4, evaluated=4)
        write_json(files.plan, plan)
        write_json(files.outcome, found or replace(outcome, tasks=(task,)))
        write_json(files.verdict, verdict)
        write_samples(files.samples, [sample_table([row(number) for number in range(rows)])])
        files.report.write_text("report")
        return files

    return make


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def locate(name: str, uri: str, courier: Courier | None = None) -> Located:
    with Courier() as own:
        return locating.locate(name, uri, courier or own)


@pytest.fixture
def sent(config: RunConfig, tmp_path: Path, store_file: Path) -> Callable[[RunDirectory], str]:
    """Files in a store of its own, as a run's artifacts are; the run's id."""
    from mlflow import MlflowClient

    uri = config.tracking.uri = f"sqlite:///{store_file}"
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("gsm8k", (tmp_path / "artifacts").as_uri())

    def send(files: RunDirectory) -> str:
        run_id: str = client.create_run(experiment).info.run_id
        client.log_artifacts(run_id, str(files.path))
        write_json(files.tracked, TrackedRun(uri, "gsm8k", experiment, run_id))
        return run_id

    return send


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("baseline@qwen2_5_vl_7b/mmmu_val", Alias("baseline", "qwen2_5_vl_7b", "mmmu_val")),
        ("gpu@m/group/task", Alias("gpu", "m", "group/task")),
        ("baseline@m", None),
        ("@m/t", None),
        ("baseline", None),
    ],
)
def test_an_alias_is_name_model_and_task(text: str, parsed: Alias | None) -> None:
    assert Alias.parse(text) == parsed


def test_a_directory_is_a_reference(left: Left, plan: Plan) -> None:
    files = left()
    found = read("there", locate(str(files.path), uri=""))
    assert found.used.directory == str(files.path)
    assert found.used.run_id is None
    assert (found.used.model, found.used.platform) == ("fixed", "ascend")
    assert found.used.engine_fingerprint == plan.engine_fingerprint
    assert found.used.status == "PASSED"
    assert misfits(found, plan) == []
    against = found.against((), plan)
    assert against.limits == {"gsm8k": None}
    assert against.doubts == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere", "no such directory, and neither an MLflow run id"),
        ("baseline@m/t", "needs an MLflow store; set tracking.uri"),
        ("0" * 32, "needs an MLflow store; set tracking.uri"),
    ],
)
def test_what_is_not_there_is_said_with_what_is_allowed(name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        locate(name, uri="")


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    store = tmp_path / "mlflow.db"
    with pytest.raises(UserError, match="there is none at"):
        locate("baseline@m/t", f"sqlite:///{store}")
    assert not store.exists()


def test_a_server_that_is_away_is_a_message(courier: Courier) -> None:
    with pytest.raises(
        UserError, match=r"is unreachable .*Connection refused.*give the run.s directory"
    ):
        locate("baseline@m/t", "http://127.0.0.1:9", courier)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        pytest.param("baseline@m/t", "silent", marks=pytest.mark.slow),
        pytest.param("0" * 32, "dribble", marks=pytest.mark.slow),
        ("baseline@m/t", 500),
        ("0" * 32, "html"),
        ("baseline@m/t", "cut"),
    ],
)
def test_a_server_that_misbehaves_costs_seconds_and_a_message(
    server: Server,
    courier: Courier,
    monkeypatch: pytest.MonkeyPatch,
    cache: Path,
    name: str,
    fault: str | int,
) -> None:
    # A server that answers is not hurried: the process that asks it has MLflow to import first.
    patience = 3.0 if fault in ("silent", "dribble") else 60.0
    monkeypatch.setattr(locating, "LOOKUP_S", patience)
    monkeypatch.setattr(locating, "DOWNLOAD_S", patience)
    server.misbehave(fault)
    began = time.monotonic()
    with pytest.raises(UserError) as refused:
        locate(name, server.uri, courier)
    assert time.monotonic() - began < 2 * patience
    (said,) = refused.value.problems
    assert "\n" not in said
    assert said.startswith(f"verdict.reference={name}: MLflow at tracking.uri={server.uri} ")
    assert said.endswith("give the run's directory instead, which does not need MLflow")
    assert ("(no answer within 3.0 s)" in said) == (fault in ("silent", "dribble"))
    assert list(cache.rglob("*.*")) == []


def test_a_password_in_an_address_is_not_shown(courier: Courier) -> None:
    with pytest.raises(UserError, match=r"tracking.uri=http://127.0.0.1:9 "):
        locate("baseline@m/t", "http://somebody:secret@127.0.0.1:9", courier)


@pytest.mark.slow
def test_whoever_looks_an_alias_up_imports_no_mlflow(server: Server) -> None:
    code = (
        "import sys; from runner.reference.locating import locate; "
        "from runner.tracking.courier import Courier\n"
        "with Courier() as courier:\n"
        "    try: locate('baseline@m/t', sys.argv[1], courier)\n"
        "    except Exception as error: print(error, 'mlflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, server.uri],
        cwd=PROJECT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "no run at" in done.stdout and done.stdout.endswith("none with this name) False\n")


@pytest.mark.slow
def test_ctrl_c_ends_a_look_up(server: Server) -> None:
    server.misbehave("silent")
    process = subprocess.Popen(
        [sys.executable, "-m", "runner.compare", "baseline@m/t", "--uri", server.uri, "."],
        cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    wait_until(lambda: server.asked, 60)
    senders = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "interrupted\n")
    assert psutil.wait_procs(senders, timeout=30)[1] == []


@pytest.mark.parametrize("name", ["plan.json", "outcome.json", "samples.parquet"])
def test_a_directory_that_lacks_a_file_is_none(left: Left, name: str) -> None:
    files = left()
    (files.path / name).unlink()
    with pytest.raises(UserError, match=f"has no {name}"):
        read("x", locate(str(files.path), ""))


def test_files_that_cannot_be_read_are_a_message(left: Left) -> None:
    files = left()
    files.plan.write_text("{")
    with pytest.raises(UserError, match="cannot be read as a run of this runner"):
        read("x", locate(str(files.path), ""))


@pytest.mark.parametrize(
    ("state", "counts", "said"),
    [
        (State.ERROR, {}, "ended with ERROR: why"),
        (State.COMPLETED, {"evaluated": 3}, "of gsm8k, 3 of 4 samples evaluated"),
        (State.COMPLETED, {"refused": 2}, "2 prompts exceeded max_model_len and were not sent"),
        (State.COMPLETED, {"evaluated": 0, "expected": 0}, "of gsm8k, 0 of 0 samples evaluated"),
    ],
)
def test_an_incomplete_run_is_no_reference(
    left: Left, outcome: Outcome, state: State, counts: dict[str, int], said: str
) -> None:
    task = replace(outcome.tasks[0], **{"expected": 4, "evaluated": 4, **counts})
    files = left(found=Outcome(state, "why", (task,)))
    with pytest.raises(UserError, match=said):
        read("x", locate(str(files.path), ""))


def test_a_run_that_measured_nothing_is_no_reference(left: Left) -> None:
    files = left(found=Outcome(State.COMPLETED))
    with pytest.raises(UserError, match="evaluated nothing"):
        read("x", locate(str(files.path), ""))


def test_samples_that_were_lost_are_missed(left: Left) -> None:
    files = left(rows=3)
    with pytest.raises(UserError, match="has 3 samples, but the run counted 4"):
        read("x", locate(str(files.path), ""))


def test_a_sample_that_is_stored_twice_is_refused(left: Left) -> None:
    """A copied row would count as a second answer to its question."""
    files = left()
    rows = [row(number) for number in range(4)]
    write_samples(files.samples, [sample_table([*rows, rows[2]])])
    with pytest.raises(
        UserError,
        match=r"has 1 samples more than once \(for example task gsm8k, doc_id 2, repeat 0, filter "
        r"strict-match\), so it is not what the run wrote; choose another run",
    ):
        read("x", locate(str(files.path), ""))
    other = [replace(each, filter="flexible-extract") for each in rows]
    write_samples(files.samples, [sample_table([*rows, *other])])
    assert read("x", locate(str(files.path), "")).outcome.tasks[0].scored == 4


def test_a_task_of_two_groups_is_asked_for_each(left: Left, outcome: Outcome) -> None:
    asked = [replace(row(n), evaluation=name) for name in ("first", "second") for n in range(4)]
    task = replace(outcome.tasks[0], expected=4, evaluated=4)
    both = tuple(replace(task, task=name) for name in ("first", "second"))
    files = left(found=replace(outcome, tasks=both))
    write_samples(files.samples, [sample_table(asked)])
    assert len(read("x", locate(str(files.path), "")).outcome.tasks) == 2


@pytest.mark.parametrize(
    ("status", "doubts"),
    [
        ("PASSED", []),
        ("UNJUDGED", []),
        ("FAILED", ["FAILED itself"]),
        ("INCONCLUSIVE", []),
    ],
)
def test_a_reference_that_did_not_pass_is_doubted(
    left: Left, plan: Plan, verdict: Verdict, status: str, doubts: list[str]
) -> None:
    files = left()
    write_json(files.verdict, replace(verdict, status=Status(status)))
    assert read("x", locate(str(files.path), "")).against((), plan).doubts == doubts


def test_a_reference_without_a_verdict_is_doubted(left: Left, plan: Plan) -> None:
    files = left()
    files.verdict.unlink()
    (doubt,) = read("x", locate(str(files.path), "")).against((), plan).doubts
    assert doubt == "has no verdict (verdict.json is missing)"


@pytest.mark.parametrize(
    ("changed", "doubts"),
    [
        ({"weights": "00" * 32}, []),  # quantized or damaged under its own name
        ({"model": "renamed"}, []),  # the same weights under another name
        ({"model": "other", "weights": "00" * 32}, ["is of another model (fixed, not other)"]),
        ({"model": "other", "weights": "unknown"}, ["is of another model (fixed, not other)"]),
    ],
)
def test_a_reference_of_another_model_is_doubted(
    left: Left, plan: Plan, changed: dict[str, str], doubts: list[str]
) -> None:
    found = read("x", locate(str(left().path), ""))
    assert found.against((), replace(plan, **changed)).doubts == doubts


def test_two_models_of_unknown_weights_are_two(left: Left, plan: Plan) -> None:
    files = left()
    write_json(files.plan, replace(plan, weights="unknown"))
    found = read("x", locate(str(files.path), ""))
    other = replace(plan, model="other", weights="unknown")
    assert found.against((), other).doubts == ["is of another model (fixed, not other)"]


def test_a_reference_has_all_answers_to_each_question(left: Left, outcome: Outcome) -> None:
    task = replace(outcome.tasks[0], expected=2, evaluated=2, samples=3)
    found = replace(outcome, tasks=(task,))
    asked = [replace(row(number), repeat=repeat) for number in range(2) for repeat in range(3)]
    files = left(found=found)
    write_samples(files.samples, [sample_table([*asked, replace(asked[0], filter="flexible")])])
    assert read("x", locate(str(files.path), "")).outcome.tasks[0].scored == 6
    write_samples(files.samples, [sample_table(asked[:-1])])
    with pytest.raises(UserError, match="has 5 samples, but the run counted 6"):
        read("x", locate(str(files.path), ""))
    other = replace(asked[-1], doc_id=2)
    write_samples(files.samples, [sample_table([*asked[:-1], other])])
    with pytest.raises(UserError, match="has 3 questions, but the run counted 2"):
        read("x", locate(str(files.path), ""))


def test_samples_of_an_older_version_have_no_repeats(left: Left) -> None:
    files = left()
    older = pq.read_table(files.samples).drop_columns(["repeat", "seeds"])
    pq.write_table(older, files.samples)
    assert read("x", locate(str(files.path), "")).outcome.tasks[0].scored == 4


@pytest.mark.parametrize(
    ("ours", "said"),
    [
        ({"num_fewshot": 3}, "used num_fewshot=5 in the reference run, but 3 in this run"),
        ({"apply_chat_template": False}, "apply_chat_template=True"),
        ({"task": "mmlu"}, "did not evaluate mmlu, only gsm8k"),
    ],
)
def test_what_cannot_be_paired_is_known_before_the_engine_starts(
    left: Left, plan: Plan, ours: dict[str, object], said: str
) -> None:
    found = read("x", locate(str(left().path), ""))
    evaluation: Evaluation = replace(plan.evaluations[0], **ours)
    (problem,) = misfits(found, replace(plan, evaluations=(evaluation,)))
    assert said in problem
    assert misfits(
        found,
        replace(plan, evaluations=(replace(plan.evaluations[0], gen_kwargs={"temperature": 1}),)),
    )
    assert misfits(found, replace(plan, system_instruction="Be brief."))


@pytest.mark.parametrize(
    ("theirs", "ours", "fits"),
    [(None, 100.0, True), (100.0, 50.0, True), (100.0, None, False), (0.1, 0.5, False),
     (100.0, 100.0, True), (0.1, 50.0, True)],
)  # fmt: skip
def test_a_reference_must_have_been_asked_as_much(
    left: Left, plan: Plan, theirs: float | None, ours: float | None, fits: bool
) -> None:
    files = left()
    asked = asdict(plan)
    asked["evaluations"][0]["limit"] = theirs
    files.plan.write_text(json.dumps(asked))
    found = read("x", locate(str(files.path), ""))
    evaluation = replace(plan.evaluations[0], limit=ours)
    assert (misfits(found, replace(plan, evaluations=(evaluation,))) == []) is fits


def test_a_run_that_stopped_early_is_no_reference(left: Left, plan: Plan) -> None:
    files = left()
    outcome: Outcome = read_json(files.outcome, Outcome)
    task = replace(outcome.tasks[0], look=Look(3, 12), whole=2 * outcome.tasks[0].expected)
    write_json(files.outcome, replace(outcome, tasks=(task,)))
    (problem,) = misfits(read("x", locate(str(files.path), "")), plan)
    assert "verdict.reference=" in problem and "verdict.sequential" in problem


def test_only_a_stopped_run_of_the_same_engine_can_be_continued(left: Left, plan: Plan) -> None:
    files = left()
    keeping = replace(plan, journal=JournalPlan("/journal", 4.0))
    write_json(files.plan, keeping)
    name = str(files.path)
    verdict: Verdict = read_json(files.verdict, Verdict)

    def said(ours: Plan, directory: str | None = name) -> str:
        return "".join(stopped.problems(ours, directory))

    assert said(keeping, None) == ""
    assert "did not stop early" in said(keeping)
    write_json(files.verdict, replace(verdict, stopped=True))
    assert said(keeping) == ""
    assert "has no journal" in said(replace(plan, journal=None))
    assert "set verdict.sequential=false" in said(replace(keeping, sequential=True))
    assert "another engine" in said(replace(keeping, engine_fingerprint="other"))
    assert said(keeping, "/nowhere").startswith("journal.continues=/nowhere: no verdict.json")


def test_an_mlflow_run_is_fetched_once_and_read_from_the_cache(
    left: Left,
    sent: Callable[[RunDirectory], str],
    config: RunConfig,
    cache: Path,
    courier: Courier,
) -> None:
    files = left()
    files.command.write_text("cd /a\npython -m runner\n")
    run_id = sent(files)
    located = locate(run_id, config.tracking.uri, courier)
    assert located.directory.is_relative_to(cache)
    copied = RunDirectory(located.directory).command
    assert copied.read_text() == files.command.read_text()
    assert located.run_id == run_id
    assert read("x", located).used.run_id == run_id
    assert locate(run_id, config.tracking.uri, courier) == located
    copied.unlink()  # as in a cache of an older version
    assert locate(run_id, config.tracking.uri, courier) == located


def test_promoting_moves_the_alias(
    left: Left,
    sent: Callable[[RunDirectory], str],
    config: RunConfig,
    courier: Courier,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = left("first"), left("second")
    ids = sent(first), sent(second)
    uri, alias = config.tracking.uri, "baseline@fixed/gsm8k"
    with pytest.raises(UserError, match=r"no run .* has this alias.*python -m runner.promote"):
        locate(alias, uri, courier)
    assert promote.promote(str(first.path), "baseline", "", False, courier) == 0
    assert f"{alias} is now run {ids[0]}" in capsys.readouterr().out
    assert locate(alias, uri, courier).run_id == ids[0]
    assert promote.promote(ids[1], "baseline", uri, False, courier) == 0
    assert f"run {ids[0]} no longer has this alias" in capsys.readouterr().out
    assert locate(alias, uri, courier).run_id == ids[1]
    assert promote.promote(str(first.path), "gpu", uri, False, courier) == 0
    assert locate("gpu@fixed/gsm8k", uri, courier).run_id == ids[0]
    assert locate(alias, uri, courier).run_id == ids[1], "another name is another alias"
    with pytest.raises(UserError, match="existing aliases: baseline@fixed/gsm8k"):
        locate("baseline@fixed/mmlu", uri, courier)


def test_an_id_that_leads_out_of_the_cache_is_none(
    config: RunConfig, cache: Path, courier: Courier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "ask", lambda request, timeout_s: "../../outside")
    with pytest.raises(UserError, match="returned an invalid run id"):
        locate("baseline@fixed/gsm8k", "http://127.0.0.1:9", courier)


def test_an_alias_of_two_runs_is_refused_until_one_is_promoted_again(
    left: Left, sent: Callable[[RunDirectory], str], config: RunConfig, courier: Courier
) -> None:
    import mlflow

    files = left("first")
    first, second = sent(files), sent(left("second"))
    client = mlflow.MlflowClient(tracking_uri=config.tracking.uri)
    for run_id, since in ((first, "2026-02"), (second, "2026-01")):
        client.set_tag(run_id, "alias.baseline", "fixed/gsm8k")
        client.set_tag(run_id, "alias_since.baseline", since)
    with pytest.raises(
        UserError,
        match=rf"2 runs have this alias, the latest first: {first}, {second}; promote one of them "
        r"again \(python -m runner.promote RUN --alias baseline\)",
    ):
        locate("baseline@fixed/gsm8k", config.tracking.uri, courier)
    assert promote.promote(str(files.path), "baseline", "", False, courier) == 0
    assert locate("baseline@fixed/gsm8k", config.tracking.uri, courier).run_id == first


def test_a_run_of_several_tasks_keeps_those_that_no_other_takes(
    left: Left, sent: Callable[[RunDirectory], str], config: RunConfig, courier: Courier
) -> None:
    import mlflow

    first, second = left("first"), left("second")
    ids = sent(first), sent(second)
    client = mlflow.MlflowClient(tracking_uri=config.tracking.uri)
    client.set_tag(ids[0], "alias.baseline", "fixed/gsm8k+mmlu")
    assert promote.promote(str(second.path), "baseline", "", False, courier) == 0
    assert locate("baseline@fixed/mmlu", config.tracking.uri, courier).run_id == ids[0]
    assert locate("baseline@fixed/gsm8k", config.tracking.uri, courier).run_id == ids[1]


@pytest.mark.slow
def test_a_failed_or_incomplete_run_wants_a_plain_yes(
    left: Left,
    sent: Callable[[RunDirectory], str],
    verdict: Verdict,
    outcome: Outcome,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = left()
    sent(files)
    write_json(files.verdict, replace(verdict, status=Status.FAILED, reason="below"))
    task = replace(outcome.tasks[0], expected=4, evaluated=3)
    write_json(files.outcome, replace(outcome, tasks=(task,)))
    assert promote.main([str(files.path)]) == 1
    said = capsys.readouterr().err
    assert "the run FAILED itself (below)" in said
    assert "3 of 4 samples evaluated" in said
    assert "--force" in said
    assert promote.main([str(files.path), "--force"]) == 0
    assert "promoted anyway (--force)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "limited", "said"),
    [
        (Status.UNJUDGED, False, []),
        (Status.INCONCLUSIVE, False, []),
        (Status.FAILED, False, ["the run FAILED itself (why)"]),
        (Status.PASSED, True, ["of gsm8k, the run has only 4 of 1319 samples (task.limit)"]),
    ],
)
def test_what_a_promotion_doubts(
    left: Left,
    plan: Plan,
    outcome: Outcome,
    verdict: Verdict,
    status: Status,
    limited: bool,
    said: list[str],
) -> None:
    whole = 1319 if limited else 4
    task = replace(outcome.tasks[0], expected=4, evaluated=4, whole=whole)
    files = left(found=replace(outcome, tasks=(task,)))
    asked = replace(plan.evaluations[0], limit=4.0 if limited else None)
    write_json(files.plan, replace(plan, evaluations=(asked,)))
    write_json(files.verdict, replace(verdict, status=status, reason="why"))
    assert promote._doubts(files) == said


def test_a_run_that_ended_with_an_error_is_not_promoted(left: Left, verdict: Verdict) -> None:
    files = left(found=Outcome(State.ERROR, "out of memory"))
    write_json(files.verdict, replace(verdict, status=Status.ERROR))
    assert promote._doubts(files) == ["the run ended with ERROR: out of memory"]


def test_a_run_that_is_not_in_mlflow_cannot_bear_an_alias(
    left: Left, capsys: pytest.CaptureFixture[str]
) -> None:
    assert promote.main([str(left().path)]) == 1
    assert "not recorded in MLflow, which stores aliases" in capsys.readouterr().err


def test_wrong_usage_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert promote.main([]) == 1
    assert "RUN" in capsys.readouterr().err
    assert promote.main(["--help"]) == 0


def test_a_name_that_could_be_something_else_is_refused(
    left: Left, capsys: pytest.CaptureFixture[str]
) -> None:
    assert promote.main([str(left().path), "--alias", "a@b/c"]) == 1
    assert "--alias a@b/c" in capsys.readouterr().err


def test_a_store_without_the_runs_files_says_so(
    left: Left, sent: Callable[[RunDirectory], str], config: RunConfig, courier: Courier
) -> None:
    files = left()
    files.samples.unlink()
    run_id = sent(files)
    with pytest.raises(UserError, match=r"has no samples.parquet among its artifacts"):
        locate(run_id, config.tracking.uri, courier)


def test_the_reference_is_in_the_verdicts_file(tmp_path: Path, left: Left) -> None:
    used = read("x", locate(str(left().path), "")).used
    verdict = Verdict(Status.PASSED, "", "paired", (), 0, used)
    file = tmp_path / "verdict.json"
    write_json(file, verdict)
    assert json.loads(file.read_text())["reference"]["engine_fingerprint"]
