"""`paired` on metrics that are no mean of their samples: BLEU, perplexity, unweighted groups."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, stdev

import pytest

from runner.config.verdict import MetricRuleConfig, VerdictConfig
from runner.evidence.samples import Sample
from runner.outcome import MetricResult, Outcome, State, TaskOutcome
from runner.plan import Evaluation
from runner.stats import drops
from runner.status import Status
from runner.verdict import Against, MetricVerdict, ReferenceUsed, Verdict, judge

TASK = "t"
USED = ReferenceUsed("other", "/runs/other", None, "m", "cuda", "TP1", "e", "v", "PASSED")
ASKED = (Evaluation(TASK, None, True, True, None, "auto", {}),)
PAIRED = VerdictConfig(rule="paired", margin=0.02, reference="other", cluster="none")


def sample(number: int, task: str = TASK, **known: object) -> Sample:
    plain = Sample(task, number, doc_hash=f"{task}{number}", prompt_hash=f"{task}{number}")
    return replace(plain, **known)


def outcome(values: dict[str, float], n: int, subtasks: Sequence[str] = ()) -> Outcome:
    metrics = [
        MetricResult(
            TASK, metric, "none", value, 0.01, n, metric == "acc" or metric == "bleu", False
        )
        for metric, value in values.items()
    ]
    below = [MetricResult(name, "acc", "none", 0.5, 0.01, n, True, False) for name in subtasks]
    task = TaskOutcome(TASK, (*metrics, *below), expected=n, evaluated=n)
    return Outcome(State.COMPLETED, tasks=(task,))


def judged(
    ours: tuple[dict[str, float], Sequence[Sample]],
    theirs: tuple[dict[str, float], Sequence[Sample]],
    config: VerdictConfig = PAIRED,
    limited: bool = False,
) -> Verdict:
    """The run and the reference run: their values and their samples."""
    subtasks = tuple(dict.fromkeys(each.task for each in ours[1] if each.task != TASK))
    own, other = (outcome(v, len(s), subtasks) for v, s in (ours, theirs))
    asked = tuple(replace(each, limit=float(len(ours[1])) if limited else None) for each in ASKED)
    return judge(own, asked, config, ours[1], Against(USED, other, theirs[1], {TASK: None}))


def of(verdict: Verdict, metric: str) -> MetricVerdict:
    (found,) = [each for each in verdict.metrics if (each.task, each.metric) == (TASK, metric)]
    return found


# Corpus metrics

SCORED = [sample(n, scores={"acc": float(n % 2)}) for n in range(600)]


def test_bleu_beside_a_judged_metric_is_shown_only() -> None:
    run = {"bleu": 30.0, "acc": 0.5}, SCORED
    verdict = judged(run, run)
    assert verdict.status is Status.PASSED
    assert verdict.reason == "1 of 1 judged metrics passed"
    bleu = of(verdict, "bleu")
    assert (bleu.status, bleu.judged, bleu.value) == (Status.UNJUDGED, False, 30.0)
    assert "no scores of single samples" in bleu.reason


def test_bleu_alone_or_listed_is_inconclusive() -> None:
    alone = {"bleu": 30.0}, SCORED
    assert judged(alone, alone).status is Status.INCONCLUSIVE
    both = {"bleu": 30.0, "acc": 0.5}, SCORED
    listed = replace(PAIRED, metrics={TASK: {"bleu": {"none": MetricRuleConfig(margin=1.0)}}})
    verdict = judged(both, both, listed)
    assert of(verdict, "bleu").status is verdict.status is Status.INCONCLUSIVE


@pytest.mark.parametrize("lost_by", ["run", "reference run"])
def test_scores_that_one_run_lost_are_no_corpus_metric(lost_by: str) -> None:
    values = {"acc": 0.5, "f1": 0.5}
    whole = [
        replace(each, scores={"acc": s, "f1": s}) for each in SCORED for s in [each.scores["acc"]]
    ]
    sides = (values, SCORED), (values, whole)
    verdict = judged(*(sides if lost_by == "run" else sides[::-1]))
    assert of(verdict, "f1").status is verdict.status is Status.INCONCLUSIVE


def test_a_value_that_is_not_the_mean_of_scores_stays_inconclusive() -> None:
    wrong = {"bleu": 30.0, "acc": 0.9}, SCORED
    verdict = judged(wrong, ({"bleu": 30.0, "acc": 0.5}, SCORED))
    assert of(verdict, "acc").status is verdict.status is Status.INCONCLUSIVE


# Perplexity


def texts(likelihoods: Sequence[float], metric: str = "perplexity") -> list[Sample]:
    """As lm-eval scores them: by the log-likelihood, or by a pair with it, which is no number."""
    return [
        sample(n, choice_logprobs=(each,), scores={metric: each} if metric == "perplexity" else {})
        for n, each in enumerate(likelihoods)
    ]


def likelihoods(shift: float, seed: int = 1, n: int = 400) -> tuple[list[float], list[float]]:
    rng = random.Random(seed)
    before = [-rng.uniform(1, 5) for _ in range(n)]
    return before, [each - shift + rng.gauss(0, 0.05) for each in before]


@pytest.mark.parametrize("metric", ["perplexity", "word_perplexity", "byte_perplexity"])
@pytest.mark.parametrize(("shift", "status"), [(0.05, Status.FAILED), (0.0, Status.PASSED)])
def test_a_perplexity_is_paired_by_log_likelihoods(
    metric: str, shift: float, status: Status
) -> None:
    before, after = likelihoods(shift)
    units = len(before) * (1 if metric == "perplexity" else 20)
    values = [math.exp(-math.fsum(each) / units) for each in (before, after)]
    sides = [
        ({metric: v}, texts(each, metric)) for v, each in zip(values, (before, after), strict=True)
    ]
    # Between the rises of both cases, and well above their errors.
    margin = values[0] * math.expm1(0.03 * len(before) / units)
    found = of(judged(sides[1], sides[0], replace(PAIRED, margin=margin)), metric)
    assert found.status is status, found.reason
    assert found.drop == pytest.approx(values[1] - values[0], rel=1e-6)
    assert found.baseline == pytest.approx(values[0])
    # The bound by hand: Student's t with 399 degrees of freedom (1.648682) on the logarithms.
    rises = [len(before) / units * (one - other) for one, other in zip(before, after, strict=True)]
    log = fmean(rises) + 1.648682 * stdev(rises) / math.sqrt(len(rises))
    assert found.upper == pytest.approx(values[0] * (math.exp(log) - 1), rel=1e-5)


def test_a_perplexity_that_the_likelihoods_do_not_explain_is_inconclusive() -> None:
    before, _ = likelihoods(0.0)
    value = math.exp(-fmean(before))
    for ours, theirs in ((value, value + 1), (value + 1, value)):
        sides = [({"acc": 0.5, "perplexity": v}, texts(before)) for v in (ours, theirs)]
        assert of(judged(*sides), "perplexity").status is Status.INCONCLUSIVE


def test_a_limited_run_has_a_perplexity_too() -> None:
    before, after = likelihoods(0.0)
    part = after[:300]
    ours = {"perplexity": math.exp(-fmean(part))}, texts(part)
    theirs = {"perplexity": math.exp(-fmean(before))}, texts(before)
    found = of(judged(ours, theirs, replace(PAIRED, margin=0.5), limited=True), "perplexity")
    assert found.status is Status.PASSED
    assert found.baseline == pytest.approx(math.exp(-fmean(before[:300])))
    words = {"word_perplexity": 1.2}, texts(part, "word_perplexity")
    whole = {"word_perplexity": 1.2}, texts(before, "word_perplexity")
    assert judged(words, whole, limited=True).status is Status.INCONCLUSIVE


def test_a_rise_of_no_perplexity_is_rarely_found() -> None:
    """At most 5 of 100 runs without a rise fail: of 400, at most 28 (99 % of binomial luck)."""
    failed = 0
    for seed in range(400):
        before, after = likelihoods(0.0, seed, n=40)
        sides = [({"perplexity": math.exp(-fmean(each))}, texts(each)) for each in (before, after)]
        verdict = judged(sides[1], sides[0], replace(PAIRED, margin=1e-6))
        failed += verdict.status is Status.FAILED
    assert 8 <= failed <= 28


# Groups that are the plain mean of their subtasks (weight_by_size: false)

SIZES = {"small": 20, "large": 180}


def group(right: dict[str, Sequence[float]]) -> tuple[dict[str, float], list[Sample]]:
    own = [
        sample(n, name, scores={"acc": score})
        for name, scores in right.items()
        for n, score in enumerate(scores)
    ]
    return {"acc": fmean(fmean(scores) for scores in right.values())}, own


def test_an_unweighted_group_is_judged_by_the_mean_of_its_subtasks() -> None:
    """The small subtask loses 8 of its 20, which is 0.2 of the group, and 0.04 of the samples."""
    before = {"small": [1.0] * 16 + [0.0] * 4, "large": [1.0, 0.0] * 90}
    after = {**before, "small": [1.0] * 8 + [0.0] * 12}
    found = of(judged(group(after), group(before)), "acc")
    assert found.status is Status.FAILED
    assert found.drop == pytest.approx(0.2)
    assert found.baseline == pytest.approx(fmean([0.8, 0.5]))
    # 8 of 8 changes are for the worse: a chance of 0.5**8, estimated from 4,000 sign flips.
    assert (found.test, found.p) == (drops.SIGN_FLIP_SAMPLED, pytest.approx(0.5**8, abs=0.003))
    same = of(judged(group(before), group(before)), "acc")
    # 1.5 % of the samples could change unseen (Clopper-Pearson), by weights of up to 5 each.
    assert same.upper is not None and same.upper >= 5 * (1 - 0.05 ** (1 / 200))


def test_a_weighted_group_is_judged_as_before() -> None:
    right = {"small": [1.0] * 16 + [0.0] * 4, "large": [1.0, 0.0] * 90}
    _, own = group(right)
    run = {"acc": fmean(each.scores["acc"] for each in own)}, own
    assert of(judged(run, run), "acc").test == drops.MCNEMAR


@pytest.mark.parametrize(("guessed", "status"), [(1, Status.PASSED), (8, Status.INCONCLUSIVE)])
def test_guesses_in_an_unweighted_group_weigh_as_much_as_its_samples(
    guessed: int, status: Status
) -> None:
    """Without 8 lucky guesses in the small subtask, the group's value is (0.4 + 0.5) / 2."""
    right = {"small": [1.0] * 16 + [0.0] * 4, "large": [1.0, 0.0] * 90}
    values, before = group(right)
    own = [replace(each, guessed=each.task == "small" and each.doc_id < guessed) for each in before]
    metric = MetricResult(TASK, "acc", "none", values["acc"], 0.01, 200, True, False)
    lucky = replace(metric, luck=guessed / 200)
    done, other = (
        Outcome(
            State.COMPLETED,
            tasks=(TaskOutcome(TASK, (each, *below), 200, 200, guessed=guessed),),
        )
        for each in (lucky, metric)
        for below in [[replace(metric, task=name) for name in SIZES]]
    )
    config = replace(PAIRED, margin=0.3)
    found = of(judge(done, ASKED, config, own, Against(USED, other, before)), "acc")
    assert found.status is status, found.reason
    assert ("without lucky guesses the value is 0.4500" in found.reason) is (guessed == 8)


@pytest.mark.slow
def test_an_unweighted_group_rarely_fails_without_a_drop() -> None:
    rng = random.Random(3)
    failed = passed_at_margin = 0
    runs = 200
    for _ in range(runs):
        before = {name: [float(rng.random() < 0.5) for _ in range(n)] for name, n in SIZES.items()}
        flip = {
            name: [1 - s if rng.random() < 0.2 else s for s in scores]
            for name, scores in before.items()
        }
        failed += judged(group(flip), group(before)).status is Status.FAILED
        # A true drop of the margin: the small subtask loses 40 % of its right half.
        worse = {**flip, "small": [s * float(rng.random() < 0.6) for s in flip["small"]]}
        config = replace(PAIRED, margin=0.1)
        passed_at_margin += judged(group(worse), group(before), config).status is Status.PASSED
    # 5 % of 200, and binomial luck at 99 %.
    assert failed <= 18
    assert passed_at_margin <= 18
