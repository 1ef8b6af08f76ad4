"""Several reference runs pooled in one verdict, and a reference that is the best of several."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from runner.config.overrides import settled
from runner.config.schema import RunConfig
from runner.errors import UserError
from runner.evidence.samples import read_samples
from runner.lm.sample_table import SampleRow
from runner.outcome import Degeneracy, Degenerate, Outcome
from runner.plan import Plan
from runner.reference import locating
from runner.reference.references import References, find
from runner.rundir import RunDirectory, read_json, write_json
from runner.stats import ALPHA, drops, means, resampling
from runner.stats.flips import mcnemar_drop
from runner.stats.selection import false_failures
from runner.status import Status
from runner.tracking.courier import Courier
from runner.tracking.tracked import TrackedRun
from runner.verdict import MetricVerdict, ReferenceUsed, Verdict, judge
from runner.verdict.explanation import reference
from tests.compared import TASK, row, rows, write_run

Compose = Callable[..., RunConfig]
RUNS = 200


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def courier() -> Courier:
    """Directories need no MLflow; its process is not started."""
    return Courier()


def left(
    directory: Path, samples: Sequence[SampleRow], status: Status = Status.PASSED, **plan: object
) -> Path:
    """A finished run's directory."""
    write_run(directory, samples, **plan)  # type: ignore[arg-type]
    write_json(RunDirectory(directory).verdict, Verdict(status, "", "", (), 0))
    return directory


def pooling(compose: Compose, runs: Sequence[Path]) -> RunConfig:
    config = compose("verdict=paired", "verdict.reference=[a,b]")
    config.verdict.reference = [str(each) for each in runs]
    return config


def found(config: RunConfig, courier: Courier) -> References:
    references = find(config, courier)
    assert references is not None
    return references


def judged(config: RunConfig, courier: Courier, candidate: Path) -> Verdict:
    files = RunDirectory(candidate)
    plan: Plan = read_json(files.plan, Plan)
    outcome: Outcome = read_json(files.outcome, Outcome)
    references = found(config, courier)
    assert references.unfit(plan) == []
    samples = read_samples(files.samples)
    return judge(outcome, plan.evaluations, config.verdict, samples, references.against(plan))


def only(verdict: Verdict) -> MetricVerdict:
    (metric,) = [each for each in verdict.metrics if each.judged]
    return metric


# Configuration


def test_a_list_composes_and_a_single_run_is_a_list_of_one(compose: Compose) -> None:
    several = compose("verdict=paired", "verdict.reference=[outputs/a,baseline@m/t,3]")
    assert several.verdict.references == ["outputs/a", "baseline@m/t", "3"]
    assert compose("verdict=paired", "verdict.reference=[a]").verdict.references == ["a"]
    assert compose("verdict=paired", "verdict.reference=a").verdict.references == ["a"]
    assert compose().verdict.references == []
    # A list of one run is one run for the rules that take no list.
    assert compose("verdict=numerics", "verdict.reference=[a]").verdict.references == ["a"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["verdict=numerics", "verdict.reference=[a,b]"],
            "verdict.reference: 2 runs are listed, but verdict.rule=numerics compares with one; "
            "list one run, or use paired, which takes a list",
        ),
        (["verdict=replay", "verdict.reference=[a,b]"], "verdict.rule=replay compares with one"),
        (["verdict=paired", "verdict.reference=[]"], "needs a run to compare with"),
        (["verdict=paired", "verdict.reference=[a,1.5]"], "verdict.reference=1.5: must be a run"),
        (["verdict=paired", "verdict.reference={a: b}"], "must be a run directory"),
        (["verdict.reference=[a,b]"], "verdict.reference=a, b: verdict.rule=isclose does not"),
    ],
)
def test_what_takes_no_list_says_what_does(
    compose: Compose, overrides: list[str], said: str
) -> None:
    with pytest.raises(UserError) as refused:
        compose(*overrides)
    (problem,) = refused.value.problems
    assert said in problem


def test_a_list_is_one_value_of_a_sweep(compose: Compose) -> None:
    """In --multirun, Hydra splits commas, but not those in brackets."""
    asked = settled(["verdict=paired", "parallelism.tp=1,2", "verdict.reference=[out/a,b@m/t]"])
    parsed = OverridesParser.create().parse_overrides(asked)
    (points,) = BasicSweeper.split_arguments(parsed, None)
    assert len(points) == 2
    for point in points:
        assert compose(*point).verdict.references == ["out/a", "b@m/t"]
    parsed = OverridesParser.create().parse_overrides(["verdict.reference=[a,b],[c]"])
    (points,) = BasicSweeper.split_arguments(parsed, None)
    assert points == [["verdict.reference=[a,b]"], ["verdict.reference=[c]"]]


def test_what_takes_one_run_rejects_a_list(courier: Courier) -> None:
    with pytest.raises(UserError, match=r"A=\[a,b\]: takes one run; only verdict.reference with"):
        locating.locate("[a,b]", "", courier, "A")


# Verdicts


def test_each_run_is_read_once_and_all_are_recorded(
    compose: Compose, courier: Courier, tmp_path: Path
) -> None:
    a, b = left(tmp_path / "a", rows(10)), left(tmp_path / "b", rows(12))
    references = found(pooling(compose, [a, b, a]), courier)
    assert [each.directory for each in references.run.used.runs] == [str(a), str(b)]
    assert [each.used.directory for each in references.others] == [str(b)]
    assert found(pooling(compose, [a, a]), courier).others == ()


def test_the_reference_is_the_mean_of_the_runs(
    compose: Compose, courier: Courier, tmp_path: Path
) -> None:
    """Ten questions are wrong in each run, but other ones."""
    swapped = [row(place, "B" if 5 <= place < 15 else "A") for place in range(100)]
    a, b = left(tmp_path / "a", rows(10)), left(tmp_path / "b", swapped)
    candidate = left(tmp_path / "c", rows(40))
    verdict = judged(pooling(compose, [a, b]), courier, candidate)
    metric = only(verdict)
    assert (metric.baseline, metric.drop) == (pytest.approx(0.9), pytest.approx(0.3))
    assert metric.status is Status.FAILED
    # 25 questions are right in both runs and 10 in one of them.
    assert metric.evidence.startswith("35 questions worse, 0 better")
    assert metric.test == drops.PERMUTATION
    assert metric.baseline_origin == f"mean of 2 reference runs ({a}, {b})"
    assert "drop from the mean of 2 reference runs on the same samples" in verdict.rule


def test_a_repeated_run_is_like_a_run_with_several_samples(
    compose: Compose, courier: Courier, tmp_path: Path
) -> None:
    """Three runs with one answer each, and one run with three answers to each question."""
    generator = np.random.default_rng(5)
    answers = [generator.choice(["A", "B"], 60, p=[0.8, 0.2]) for _ in range(3)]
    runs = [
        left(tmp_path / str(n), [row(place, str(own[place])) for place in range(60)])
        for n, own in enumerate(answers)
    ]
    repeated = left(
        tmp_path / "repeated",
        [
            row(place, str(own[place]), repeat=n)
            for place in range(60)
            for n, own in enumerate(answers)
        ],
    )
    candidate = left(tmp_path / "c", rows(25, 60))
    pooled, single = (
        only(judged(pooling(compose, each), courier, candidate)) for each in (runs, [repeated])
    )
    assert (pooled.p, pooled.upper, pooled.baseline) == (single.p, single.upper, single.baseline)


def test_a_metric_that_one_run_lacks_is_inconclusive(
    compose: Compose, courier: Courier, tmp_path: Path
) -> None:
    both = {"acc": 1.0, "f1": 1.0}
    a = left(tmp_path / "a", [row(place, scores=both) for place in range(300)])
    b = left(tmp_path / "b", rows(0, 300))
    candidate = left(tmp_path / "c", [row(place, scores=both) for place in range(300)])
    verdict = judged(pooling(compose, [a, b]), courier, candidate)
    found = {each.metric: each.status for each in verdict.metrics if each.judged}
    assert found["f1"] is Status.INCONCLUSIVE
    assert verdict.status is Status.INCONCLUSIVE


def test_copies_of_a_run_are_no_further_evidence(
    compose: Compose, courier: Courier, tmp_path: Path
) -> None:
    """Greedy decoding often repeats every answer."""
    copies = [left(tmp_path / f"copy{n}", rows(10)) for n in range(6)]
    candidate = left(tmp_path / "c", [row(n, "B" if n < 13 else "A") for n in range(100)])
    metric = only(judged(pooling(compose, copies), courier, candidate))
    single = only(judged(pooling(compose, copies[:1]), courier, candidate))
    assert metric.drop == pytest.approx(0.03)
    assert metric.p is not None and single.p == pytest.approx(0.125)
    assert metric.p >= 0.11  # 4,000 random signs
    assert metric.upper is not None and single.upper is not None
    assert metric.upper >= single.upper - 1e-9


def test_a_question_that_one_run_lacks_is_named(
    compose: Compose, courier: Courier, tmp_path: Path
) -> None:
    a, b = left(tmp_path / "a", rows(10)), left(tmp_path / "b", rows(10, 99))
    verdict = judged(pooling(compose, [a, b]), courier, left(tmp_path / "c", rows(10)))
    assert verdict.status is Status.INCONCLUSIVE
    assert f"samples differ from the reference run: 1 not in the reference run ({b})" in (
        verdict.reason
    )


def test_each_run_must_fit(compose: Compose, courier: Courier, tmp_path: Path) -> None:
    a = left(tmp_path / "a", rows(10))
    plan: Plan = read_json(RunDirectory(a).plan, Plan)
    chat = replace(plan.evaluations[0], num_fewshot=3)
    b = left(tmp_path / "b", rows(10), evaluations=(chat,))
    (problem,) = found(pooling(compose, [a, b]), courier).unfit(plan)
    assert problem.startswith(f"verdict.reference={b}: {TASK} used num_fewshot=3")
    gone = tmp_path / "gone"
    gone.mkdir()
    with pytest.raises(UserError, match=f"{gone} has no plan.json"):
        find(pooling(compose, [a, gone]), courier)


def test_one_doubtful_run_keeps_a_verdict_from_passing(
    compose: Compose, courier: Courier, tmp_path: Path
) -> None:
    same = rows(10, 500)
    a = left(tmp_path / "a", same)
    failed = left(tmp_path / "failed", same, status=Status.FAILED)
    other = left(tmp_path / "other", same, model="other")
    candidate = left(tmp_path / "c", same)
    config = pooling(compose, [a, failed, other])
    verdict = judged(config, courier, candidate)
    assert verdict.status is Status.INCONCLUSIVE
    assert f"the reference run {failed} FAILED itself; choose another" in verdict.reason
    assert f"the reference run {other} is of another model (other, not tiny)" in verdict.reason
    assert f"the reference run {a} " not in verdict.reason
    config.verdict.allow_reference = True
    assert judged(config, courier, candidate).status is Status.PASSED


def test_degenerate_answers_are_those_of_all_runs(
    compose: Compose, courier: Courier, tmp_path: Path
) -> None:
    """3 of 500 answers in one run and 11 in the other: 1.4 %, so 2.2 % are accepted."""

    def with_loops(name: str, count: int) -> Path:
        files = RunDirectory(left(tmp_path / name, rows(10, 500)))
        outcome: Outcome = read_json(files.outcome, Outcome)
        loops = (Degenerate(Degeneracy.REPEATING, count, TASK, 0),) if count else ()
        (task,) = outcome.tasks
        write_json(files.outcome, replace(outcome, tasks=(replace(task, degenerate=loops),)))
        return files.path

    config = pooling(compose, [with_loops("a", 3), with_loops("b", 11)])
    assert judged(config, courier, with_loops("few", 11)).status is Status.PASSED
    verdict = judged(config, courier, with_loops("many", 13))
    assert verdict.status is Status.INCONCLUSIVE
    assert "13 of 500 answers are degenerate" in verdict.reason


def test_a_perplexity_needs_a_single_run(
    compose: Compose, courier: Courier, tmp_path: Path
) -> None:
    texts = [
        row(n, scores={"word_perplexity": -20.0 - n % 5}, choice_logprobs=[-20.0 - n % 5])
        for n in range(100)
    ]
    a, b, c = (left(tmp_path / name, texts, higher_is_better=False) for name in "abc")
    for each in (a, b, c):
        files = RunDirectory(each)
        outcome: Outcome = read_json(files.outcome, Outcome)
        (task,) = outcome.tasks
        metrics = tuple(replace(metric, value=9.0) for metric in task.metrics)
        write_json(files.outcome, replace(outcome, tasks=(replace(task, metrics=metrics),)))
    verdict = judged(pooling(compose, [a, b]), courier, c)
    assert verdict.status is Status.INCONCLUSIVE
    assert "word_perplexity is compared with one reference run only" in verdict.reason


def test_all_runs_are_named_where_one_is() -> None:
    a = ReferenceUsed("a", "/a", None, "m", "cpu", "TP1", "e", "v", "PASSED")
    both = replace(a, others=(replace(a, name="b", directory="/b", platform="ascend"),))
    said = reference(both)
    assert said.startswith("mean of 2 runs: (1) a: m on cpu (TP1)")
    assert "; (2) b: m on ascend (TP1)" in said
    assert reference(a).startswith("a: m on cpu")


# Levels


def scored(
    generator: np.random.Generator, own: np.ndarray, groups: int, copies: int
) -> list[list[float]]:
    """Scores by question of independent runs, and so many copies of each."""
    drawn = (generator.random((len(own), groups)) < own[:, None]).astype(float)
    scores: list[list[float]] = np.repeat(drawn, copies, axis=1).tolist()
    return scores


def share_failed(groups: int, copies: int, mean: float = 0.8, drop: float = 0.0) -> float:
    generator, failed = np.random.default_rng(20261130), 0
    for _ in range(RUNS):
        own = generator.beta(2 * mean, 2 * (1 - mean), 60)
        before = scored(generator, own, groups, copies)
        after = scored(generator, np.clip(own - drop, 0, 1), 1, 1)
        differences = [means.mean(b) - a for b, (a,) in zip(before, after, strict=True)]
        # The p of the verdict is not smaller than this one, which takes less time.
        if resampling.sign_flip_sampled(differences) <= ALPHA:
            failed += drops.of_question_means(before, after, 1, 1.0).p <= ALPHA
    return failed / RUNS


@pytest.mark.slow
@pytest.mark.parametrize(("groups", "copies"), [(8, 1), (1, 8), (2, 4), (4, 2)])
@pytest.mark.parametrize("mean", [0.8, 0.9])
def test_unchanged_runs_fail_in_at_most_5_percent(groups: int, copies: int, mean: float) -> None:
    """Also if some reference runs are copies of others."""
    assert share_failed(groups, copies, mean) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / RUNS)


@pytest.mark.slow
def test_eight_runs_find_more_drops_than_one() -> None:
    assert share_failed(8, 1, drop=0.12) > share_failed(1, 1, drop=0.12) + 0.05


# A reference that is the best of several


def test_the_best_of_several_runs_fails_more_unchanged_runs() -> None:
    """McNemar's test of a run against the best of k others, with the answers drawn at random."""
    assert false_failures(1) == pytest.approx(ALPHA, abs=1e-6)
    generator = np.random.default_rng(10)
    for k in (3, 10):
        failed, total = 0, 1000
        for _ in range(total):
            own = generator.beta(1.6, 0.4, 400)
            runs = generator.random((k, 400)) < own
            best = runs[runs.sum(axis=1).argmax()]
            mine = generator.random(400) < own
            failed += mcnemar_drop(int((best & ~mine).sum()), int((mine & ~best).sum())) <= ALPHA
        share, slack = failed / total, 3 * math.sqrt(0.25 * 0.75 / total)
        assert 2 * ALPHA < share <= false_failures(k) + slack
        assert share > false_failures(k) - 0.08  # McNemar's test is exact, so it fails fewer


def test_the_best_of_several_runs_is_said_of_a_run_that_does_not_pass(
    compose: Compose, courier: Courier, tmp_path: Path
) -> None:
    a = left(tmp_path / "a", rows(10, 500))
    config = pooling(compose, [a])
    for name, wrong, status in (("bad", 100, Status.FAILED), ("same", 10, Status.PASSED)):
        files = RunDirectory(left(tmp_path / name, rows(wrong, 500)))
        plan: Plan = read_json(files.plan, Plan)
        against = replace(found(config, courier).against(plan), best_of="the best of 3")
        outcome: Outcome = read_json(files.outcome, Outcome)
        samples = read_samples(files.samples)
        verdict = judge(outcome, plan.evaluations, config.verdict, samples, against)
        assert verdict.status is status
        assert ("; the best of 3" in verdict.reason) is (status is Status.FAILED)


def test_mlflow_knows_whether_a_run_is_the_best_of_its_repeats(
    compose: Compose, shared: Courier, store_file: Path, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{store_file}"
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment(TASK, (tmp_path / "artifacts").as_uri())

    def sent(name: str, wrong: int, status: str = "PASSED", engine: str = "e") -> str:
        files = RunDirectory(left(tmp_path / name, rows(wrong)))
        run_id = str(client.create_run(experiment).info.run_id)
        client.log_artifacts(run_id, str(files.path))
        client.log_metric(run_id, f"{TASK}/acc", 1 - wrong / 100)
        tags = {"engine_fingerprint": engine, "evaluation_fingerprint": "v", "verdict": status}
        for key, value in tags.items():
            client.set_tag(run_id, key, value)
        write_json(files.tracked, TrackedRun(uri, TASK, experiment, run_id))
        return run_id

    best, worse = sent("best", 5), sent("worse", 9)
    sent("broken", 8, status="ERROR")
    sent("other", 1, engine="another")

    def warned(*names: str) -> str:
        config = pooling(compose, [Path(name) for name in names])
        config.tracking.uri = uri
        shared._failures = 0
        return found(config, shared).best_of

    assert warned(best) == "", "two runs are too few"
    third = sent("third", 7)
    said = warned(best)
    assert said.startswith("the reference run is the best of 3 runs of the same stack and ")
    assert "up to 12 % of unchanged runs are FAILED instead of 5 %" in said
    listed = said.rpartition("verdict.reference=[")[2].rstrip("]").split(",")
    assert listed[0] == best and {*listed} == {best, worse, third}
    assert warned(worse) == ""
    assert warned(best, third) == "", "pooled runs are not chosen"
    assert warned(str(tmp_path / "best")) == "", "a directory is used without MLflow"
