"""Noise runs that MLflow stores with a reference run: storing, finding and rejecting them."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from runner import promote
from runner.channel.sender import FindNoise, FindPeers, GiveAlias
from runner.config import places
from runner.config.schema import RunConfig
from runner.config.verdict import NumericsConfig, ReplayConfig
from runner.digest import digest_path
from runner.errors import UserError
from runner.lm.likeliest_table import likeliest_table, write_likeliest
from runner.lm.sample_table import SampleRow, sample_table, write_samples
from runner.lm.top import packed
from runner.outcome import Outcome
from runner.plan import Plan, ReplayPlan
from runner.reference.references import find
from runner.rundir import RunDirectory, write_json
from runner.status import Status
from runner.tracking.courier import Courier
from runner.tracking.sender_process import NotSent
from runner.tracking.tracked import TrackedRun
from runner.verdict import Verdict
from runner.verdict.explanation import reference

URI = "http://127.0.0.1:9"
RUN, SAME, LOUD, ORDINARY = "a" * 32, "b" * 32, "c" * 32, "d" * 32
NOWHERE = ReplayPlan("/runs/other/samples.parquet", "00" * 32)

Made = Callable[..., RunDirectory]


def row(number: int, logprob: float) -> SampleRow:
    return SampleRow(
        task="gsm8k", doc_id=number, filter="strict-match", doc_hash=f"d{number}",
        prompt_hash=f"p{number}", image_hashes=[], image_sizes=[], prompt="?", target="1",
        responses=["1"], filtered="1", scores={"exact_match": 1.0}, truncated=False,
        prompt_tokens=[1], token_ids=[1], logprobs=[logprob], margins=[1.0],
        finish_reasons=["stop"],
    )  # fmt: skip


@pytest.fixture
def made(tmp_path: Path, plan: Plan, outcome: Outcome, verdict: Verdict) -> Made:
    """A completed run of four samples; a replay of the run `of`, or of what `replay` says.

    `asked` are settings of its task.
    """

    def make(
        name: str,
        of: RunDirectory | None = None,
        replay: ReplayPlan | None = None,
        run_id: str | None = None,
        status: Status = Status.INCONCLUSIVE,
        evaluated: int = 4,
        expected: int = 4,
        model: str = "fixed",
        logprob: float = -0.1,
        **asked: Any,
    ) -> RunDirectory:
        files = RunDirectory(tmp_path / name)
        files.path.mkdir()
        if of is not None:
            replay = ReplayPlan(str(of.samples), digest_path(of.samples))
        tasks = tuple(replace(each, **asked) for each in plan.evaluations)
        own = replace(plan, replay=replay, evaluations=tasks, model=model, weights=model)
        write_json(files.plan, own)
        task = replace(outcome.tasks[0], expected=expected, evaluated=evaluated)
        write_json(files.outcome, replace(outcome, tasks=(task,)))
        write_json(files.verdict, replace(verdict, status=status))
        rows = [row(number, logprob - 0.01 * bool(replay)) for number in range(expected)]
        write_samples(files.samples, [sample_table(rows)])
        if run_id is not None:
            write_json(files.tracked, TrackedRun(URI, "gsm8k", "1", run_id))
        return files

    return make


@dataclass
class Store:
    """An MLflow store that has these noise runs, or does not answer; what it was asked."""

    noise: tuple[str, ...] | None = ()
    asked: list[object] = field(default_factory=list)

    def ask(self, request: object, timeout_s: float) -> tuple[str, ...]:
        self.asked.append(request)
        if isinstance(request, GiveAlias):
            self.noise = request.noise or self.noise
            return ()
        if isinstance(request, FindPeers):
            return ()
        assert isinstance(request, FindNoise)
        if self.noise is None:
            raise NotSent("connection refused")
        return self.noise


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def courier(store: Store, monkeypatch: pytest.MonkeyPatch) -> Courier:
    """Shadows the one that starts MLflow."""
    courier = Courier()
    monkeypatch.setattr(courier, "ask", store.ask)
    return courier


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/ascend-accuracy-runner/runs"


@pytest.fixture
def replaying(config: RunConfig, made: Made, cache: Path) -> RunConfig:
    """A replay of run RUN, with SAME and LOUD as stored noise; all are in the user's cache."""
    original = made("run", status=Status.PASSED)
    for run_id, files in (
        (RUN, original),
        (SAME, made("same", original)),
        (LOUD, made("loud", original)),
    ):
        shutil.copytree(files.path, cache / run_id)
    config.verdict.rule, config.verdict.reference = "replay", RUN
    config.tracking.uri = URI
    return config


def used(config: RunConfig, courier: Courier) -> list[str]:
    found = find(config, courier)
    assert found is not None
    assert found.run.used.noise == tuple(each.used for each in found.noise)
    return [each.used.name for each in found.noise]


def test_noise_runs_are_stored_with_the_alias(
    made: Made, store: Store, courier: Courier, capsys: pytest.CaptureFixture[str]
) -> None:
    original = made("run", run_id=RUN, status=Status.PASSED)
    same, loud = (str(made(n, original, run_id=i).path) for n, i in (("s", SAME), ("l", LOUD)))
    noise = [same, loud, same]
    assert promote.promote(str(original.path), "baseline", URI, False, courier, noise) == 0
    given = store.asked[-1]
    assert isinstance(given, GiveAlias)
    assert (given.run_id, given.noise) == (RUN, (SAME, LOUD))
    assert f"noise runs: {SAME}, {LOUD}\n" in capsys.readouterr().out


def test_ordinary_runs_are_stored_as_noise_too(made: Made, store: Store, courier: Courier) -> None:
    original = made("run", run_id=RUN, status=Status.PASSED)
    replay, ordinary = made("s", original, run_id=SAME), made("l", run_id=LOUD, logprob=-0.2)
    noise = [str(replay.path), str(ordinary.path)]
    assert promote.promote(str(original.path), "baseline", URI, False, courier, noise) == 0
    assert store.noise == (SAME, LOUD)


def test_promoting_again_keeps_the_noise_runs_and_says_so(
    made: Made, store: Store, courier: Courier, capsys: pytest.CaptureFixture[str]
) -> None:
    original = made("run", run_id=RUN, status=Status.PASSED)
    store.noise = (SAME,)
    assert promote.promote(str(original.path), "other", URI, False, courier) == 0
    assert f"{SAME} (stored before; --noise replaces them)" in capsys.readouterr().out


def test_noise_runs_that_are_replaced_are_named(
    made: Made, store: Store, courier: Courier, capsys: pytest.CaptureFixture[str]
) -> None:
    original = made("run", run_id=RUN, status=Status.PASSED)
    store.noise = (SAME, LOUD)
    noise = [str(made("l", original, run_id=LOUD).path)]
    assert promote.promote(str(original.path), "baseline", URI, False, courier, noise) == 0
    assert f"noise runs: {LOUD}\nno longer noise runs: {SAME}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "the run is {run} itself, which shows no noise; run the same questions again on"),
        (
            {"replay": NOWHERE},
            "a replay, but not of {run}; run verdict=replay verdict.reference={run} on a correct",
        ),
        (
            {"logprob": -0.2, "num_fewshot": 3},
            "gsm8k used num_fewshot=3 in the noise run, but 5 in the reference run; answers to",
        ),
        ({"logprob": -0.2}, "not recorded in MLflow, which stores noise runs; upload it"),
        ({"logprob": -0.2, "run_id": SAME, "status": Status.FAILED}, "the run FAILED itself"),
        (
            {"logprob": -0.2, "run_id": SAME, "evaluated": 3, "expected": 3},
            "evaluated 3 questions of gsm8k, and the reference run 4",
        ),
        ({"of": True}, "not recorded in MLflow, which stores noise runs; upload it"),
        ({"of": True, "run_id": SAME, "status": Status.FAILED}, "the run FAILED itself; give a"),
        ({"of": True, "run_id": SAME, "model": "other"}, "is of another model (other, not fixed)"),
        ({"of": True, "run_id": SAME, "evaluated": 3}, "of gsm8k, 3 of 4 samples evaluated"),
    ],
)
def test_what_can_be_no_noise_run(
    made: Made,
    store: Store,
    courier: Courier,
    changed: dict[str, Any],
    said: str,
) -> None:
    original = made("run", run_id=RUN, status=Status.PASSED)
    wrong = made("noise", **(changed | ({"of": original} if "of" in changed else {})))
    noise = [str(wrong.path), "nowhere"]
    with pytest.raises(UserError) as refused:
        promote.promote(str(original.path), "baseline", URI, False, courier, noise)
    first, last = refused.value.problems
    assert first.startswith(f"--noise={wrong.path}: ")
    assert said.format(run=original.path) in first
    assert last.startswith("--noise=nowhere: no such directory")
    assert not store.asked, "a refused promotion changes nothing in MLflow"


def test_a_failed_noise_run_can_be_forced(
    made: Made, store: Store, courier: Courier, capsys: pytest.CaptureFixture[str]
) -> None:
    original = made("run", run_id=RUN, status=Status.PASSED)
    noise = [str(made("noise", original, run_id=SAME, status=Status.FAILED).path)]
    assert promote.promote(str(original.path), "baseline", URI, True, courier, noise) == 0
    assert store.noise == (SAME,)
    assert "the run FAILED itself; used anyway (--force)" in capsys.readouterr().err


def test_a_replay_is_never_promoted(made: Made, courier: Courier) -> None:
    replay = made("noise", made("run"), run_id=SAME, status=Status.PASSED)
    with pytest.raises(UserError, match="is a replay, whose answers are those of another run"):
        promote.promote(str(replay.path), "baseline", URI, True, courier)


def test_a_message_of_the_command_keeps_the_key_to_set(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    original = made("run", run_id=RUN, status=Status.PASSED)
    other = made("other", replay=NOWHERE, run_id=SAME)
    assert promote.main([str(original.path), "--noise", str(other.path)]) == 1
    assert f"run verdict=replay verdict.reference={original.path}" in capsys.readouterr().err


def test_a_run_of_mlflow_is_judged_by_its_stored_noise(
    replaying: RunConfig, store: Store, courier: Courier
) -> None:
    store.noise = (SAME, LOUD)
    assert used(replaying, courier) == [SAME, LOUD]
    assert store.asked == [FindNoise(URI, RUN)]


def test_each_rule_uses_its_kind_of_the_stored_runs(
    replaying: RunConfig, store: Store, courier: Courier, made: Made, cache: Path
) -> None:
    shutil.copytree(made("ordinary", logprob=-0.2).path, cache / ORDINARY)
    store.noise = (SAME, ORDINARY, LOUD)
    assert used(replaying, courier) == [SAME, LOUD]
    replaying.verdict.rule = "numerics"
    assert used(replaying, courier) == [ORDINARY]
    replaying.verdict.numerics = NumericsConfig(noise=None)
    assert used(replaying, courier) == []


@pytest.mark.parametrize(("listed", "names"), [([LOUD], [LOUD]), (None, [])])
def test_the_configuration_takes_precedence(
    replaying: RunConfig,
    store: Store,
    courier: Courier,
    listed: list[str] | None,
    names: list[str],
) -> None:
    store.noise = (SAME,)
    replaying.verdict.replay = ReplayConfig(noise=listed)
    assert used(replaying, courier) == names
    assert not store.asked


def test_a_directory_needs_no_mlflow(
    replaying: RunConfig, store: Store, courier: Courier, cache: Path
) -> None:
    replaying.verdict.reference = str(cache / RUN)
    assert used(replaying, courier) == []
    assert not store.asked


def test_rules_that_do_not_replay_need_no_noise(
    replaying: RunConfig, store: Store, courier: Courier
) -> None:
    replaying.verdict.rule = "paired"
    assert used(replaying, courier) == []
    assert not any(isinstance(each, FindNoise) for each in store.asked)


def test_a_store_that_does_not_answer_says_what_to_set(
    replaying: RunConfig, store: Store, courier: Courier
) -> None:
    store.noise = None
    with pytest.raises(
        UserError, match=r"did not return the noise runs .* list them in verdict.replay.noise, or"
    ):
        find(replaying, courier)


def test_a_stored_run_that_is_unusable_says_how_to_replace_it(
    replaying: RunConfig, store: Store, courier: Courier, cache: Path
) -> None:
    store.noise = (LOUD,)
    (cache / LOUD / "outcome.json").write_text("{}")
    with pytest.raises(UserError) as refused:
        find(replaying, courier)
    first, last = refused.value.problems
    assert first.startswith(f"verdict.replay.noise={LOUD}: cannot be read")
    assert f"python -m runner.promote {RUN} --noise RUN ..." in last
    replaying.verdict.replay.noise = [LOUD]
    with pytest.raises(UserError) as refused:
        find(replaying, courier)
    assert refused.value.problems == (first,)


def test_the_verdict_records_its_noise_runs(
    replaying: RunConfig, store: Store, courier: Courier, tmp_path: Path
) -> None:
    store.noise = (SAME, LOUD)
    found = find(replaying, courier)
    assert found is not None
    write_json(tmp_path / "v.json", Verdict(Status.PASSED, "", "replay", (), 0, found.run.used))
    noise = json.loads((tmp_path / "v.json").read_text())["reference"]["noise"]
    assert [each["run_id"] for each in noise] == [SAME, LOUD]
    assert noise[0]["engine_fingerprint"] == found.run.used.engine_fingerprint
    said = reference(found.run.used)
    assert said.endswith(
        f"; noise runs: {SAME} (ascend, TP2, bfloat16), {LOUD} (ascend, TP2, bfloat16)"
    )
    named = replace(found.run.used.noise[0], name="outputs/same")
    assert f"outputs/same (MLflow run {SAME}, ascend" in reference(
        replace(found.run.used, noise=(named,))
    )


@pytest.mark.parametrize("logprob", [-0.1, -0.2])
def test_what_a_reference_run_recorded_is_used_only_if_it_is_of_its_answers(
    replaying: RunConfig,
    courier: Courier,
    cache: Path,
    plan: Plan,
    logprob: float,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The runs' own samples have a log-probability of -0.1."""
    top = packed(np.array([[1, 2]]), np.array([[logprob, -3.0]]))
    rows = [replace(row(number, logprob), likeliest=(top,)) for number in range(4)]
    write_likeliest(cache / RUN / "likeliest.parquet", [likeliest_table(rows)])
    found = find(replaying, courier)
    assert found is not None
    judged = found.against(replace(plan, replay=NOWHERE))
    if logprob == -0.1:
        assert [len(each.top_ids) for each in judged.samples] == [20] * 4
        assert not any(len(each.top_ids) for each in found.against(plan).samples)  # no replay
    else:
        assert judged.samples == () and not judged.noise  # so nothing can pass
        assert "likeliest.parquet: is not of the answers" in capsys.readouterr().err


def test_what_a_run_can_t_use_as_noise(
    made: Made, courier: Courier, compose: Callable[..., RunConfig], plan: Plan, tmp_path: Path
) -> None:
    run = made("reference")
    same, loud = made("same", run), made("loud", run, status=Status.FAILED)
    other = made("other", replay=NOWHERE)
    prefill = ReplayPlan(str(run.samples), digest_path(run.samples), "prefill")
    scored = made("scored", replay=prefill)
    ordinary = made("ordinary", logprob=-0.2)
    listed = [str(each.path) for each in (same, same, loud, other, scored, ordinary)]
    config = compose(
        "verdict=replay",
        f"verdict.reference={run.path}",
        f"verdict.replay.noise=[{','.join(listed)}]",
        "tracking.enabled=false",
    )
    references = find(config, courier)
    assert references is not None
    assert [Path(each.used.directory).name for each in references.noise] == [
        "same", "loud", "other", "scored", "ordinary",
    ]  # fmt: skip
    ours = replace(plan, replay=references.replay(config), model="fixed", weights="fixed")
    missing, way, answered = references.unfit(ours)[-3:]
    assert answered.startswith(f"verdict.replay.noise={ordinary.path}: not a replay of")
    assert missing.startswith(f"verdict.replay.noise={other.path}: not a replay of")
    assert way.startswith(f"verdict.replay.noise={scored.path}: replayed with")
    assert way.endswith("list runs with verdict.replay.way=decode")
    doubts = {Path(each.name).name: [*each.doubts] for each in references.against(ours).noise}
    assert doubts["same"] == [] and doubts["loud"] == ["FAILED itself"]


def test_what_numerics_can_t_use_as_noise(
    made: Made, courier: Courier, compose: Callable[..., RunConfig], plan: Plan
) -> None:
    run = made("reference")
    loud, replay = made("loud", logprob=-0.2, status=Status.FAILED), made("replay", run)
    few, other = made("few", logprob=-0.2, limit=2.0), made("other", logprob=-0.2, num_fewshot=3)
    listed = [str(each.path) for each in (loud, replay, few, other)]
    config = compose(
        "verdict=numerics",
        f"verdict.reference={run.path}",
        f"verdict.numerics.noise=[{','.join(listed)}]",
        "tracking.enabled=false",
    )
    references = find(config, courier)
    assert references is not None and references.replay(config) is None
    ours = replace(plan, model="fixed", weights="fixed")
    problems = references.unfit(ours)[-3:]
    for files, problem, why in zip(
        (replay, few, other),
        problems,
        (
            "the run is a replay, which is noise for verdict=replay only; list runs on correct",
            "evaluated gsm8k with limit=2, but this run evaluates ",
            "gsm8k used num_fewshot=3 in the noise run, but 5 in this run; answers to different",
        ),
        strict=True,
    ):
        assert problem.startswith(f"verdict.numerics.noise={files.path}: {why}")
    doubts = {Path(each.name).name: [*each.doubts] for each in references.against(ours).noise}
    assert doubts["loud"] == ["FAILED itself"]


def test_no_noise_is_null(compose: Callable[..., RunConfig]) -> None:
    chosen = ("verdict=replay", "verdict.reference=x")
    assert compose(*chosen).verdict.replay.noise == []
    assert compose(*chosen, "verdict.replay.noise=null").verdict.replay.noise is None


def test_each_point_of_the_noise_sweep_is_valid(compose: Callable[..., RunConfig]) -> None:
    text = OmegaConf.load(Path(places.config_directory()) / "sweep" / "noise.yaml")
    params: dict[str, str] = dict(text.hydra.sweeper.params)
    axes = [[f"{key}={value}" for value in values.split(",")] for key, values in params.items()]
    points = [
        compose("verdict=replay", "verdict.reference=x", "model=canary_vl", "task=canary", *point)
        for point in itertools.product(*axes)
    ]
    assert len({(each.engine.window, each.engine.enforce_eager) for each in points}) == len(points)


@pytest.mark.slow
def test_noise_runs_in_a_real_store(
    made: Made, config: RunConfig, store_file: Path, tmp_path: Path, shared: Courier
) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{store_file}"
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("gsm8k", (tmp_path / "artifacts").as_uri())

    def send(files: RunDirectory) -> str:
        run_id = str(client.create_run(experiment).info.run_id)
        client.log_artifacts(run_id, str(files.path))
        write_json(files.tracked, TrackedRun(uri, "gsm8k", experiment, run_id))
        return run_id

    original = made("run", status=Status.PASSED)
    run_id = send(original)
    replays = [made(name, original) for name in ("same", "loud", "deleted")]
    same, loud, deleted = map(send, replays)
    config.verdict.rule, config.verdict.reference = "replay", "baseline@fixed/gsm8k"
    config.tracking.uri = uri

    def promoted(*noise: str) -> None:
        assert promote.promote(run_id, "baseline", uri, False, shared, noise) == 0

    promoted(str(replays[0].path), loud)  # a directory, and a run id
    assert client.get_run(run_id).data.tags["noise_runs"] == f"{same},{loud}"
    assert used(config, shared) == [same, loud]
    found = find(config, shared)
    assert found is not None
    assert found.run.files.path != original.path
    assert digest_path(found.run.files.samples) == digest_path(original.samples)
    promoted()
    assert used(config, shared) == [same, loud]
    promoted(loud)
    config.verdict.reference = run_id
    assert used(config, shared) == [loud]
    client.delete_run(deleted)
    for gone in (deleted, "0" * 32):
        write_json(replays[2].tracked, TrackedRun(uri, "gsm8k", experiment, gone))
        with pytest.raises(UserError, match=f"--noise: run {gone} is not in the MLflow store"):
            promoted(str(replays[2].path))
    assert used(config, shared) == [loud]
