"""The rule replay: what it passes and fails, and everything that it may not pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax

from runner.config.verdict import ReplayConfig, VerdictConfig
from runner.evidence.samples import Sample
from runner.outcome import MetricResult, Outcome, State, TaskOutcome
from runner.plan import Evaluation
from runner.status import Status
from runner.verdict import Against, ReferenceUsed, Verdict, judge
from runner.verdict.rule import Noise

N, TOKENS, VOCABULARY = 60, 12, 50
USED = ReferenceUsed("other", "/runs/other", None, "m", "cuda", "TP1", "e", "v", "PASSED")
RULE = VerdictConfig(
    rule="replay", reference="other", replay=ReplayConfig(noise=["same", "loud"], factor=3.0)
)
ASKED = Evaluation("t", None, True, True, None, "auto", {"acc": {"none": 0.5}})  # type: ignore[dict-item]
LOGITS = np.random.default_rng(0).normal(size=(N, TOKENS, VOCABULARY)) * 3
CHOSEN = LOGITS.argmax(axis=2)


def stack(error: float, seed: int = 0, top: bool = True, n: int = N) -> list[Sample]:
    """A replay on a stack whose logits differ by `error` from the reference's."""
    noise = np.random.default_rng(seed).normal(size=LOGITS.shape) * error
    return replayed_from(LOGITS + noise, top, n)


def replayed_from(logits: np.ndarray, top: bool = True, n: int = N) -> list[Sample]:
    """A replay on a stack with these logits."""
    logprobs = log_softmax(logits, axis=2)
    own = np.take_along_axis(logprobs, CHOSEN[:, :, None], axis=2)[:, :, 0]
    order = np.argsort(-logprobs, axis=2)[:, :, :20]
    listed = np.take_along_axis(logprobs, order, axis=2)
    return [
        Sample(
            "t",
            place,
            doc_hash=str(place),
            prompt_hash=str(place),
            token_ids=CHOSEN[place].tolist(),
            logprobs=own[place].tolist(),
            margins=[1.0] * TOKENS,
            top_ids=order[place].ravel().tolist() if top else (),
            top_logprobs=listed[place].ravel().tolist() if top else (),
        )
        for place in range(n)
    ]


REFERENCE = stack(0.0, top=False)
NOISE = (Noise("same", stack(0.0)), Noise("loud", stack(0.05, 1)))


def judged(
    own: Sequence[Sample],
    noise: Sequence[Noise] = NOISE,
    reference: Sequence[Sample] = REFERENCE,
    rule: VerdictConfig = RULE,
    **counts: Any,
) -> Verdict:
    n = len(own)
    task = TaskOutcome("t", (), **{"expected": n, "evaluated": n, "answers": n, **counts})
    metric = MetricResult("t", "acc", "none", 0.5, 0.1, N, True, True)
    theirs = replace(task, metrics=(metric,), truncated=0, expected=N, evaluated=N)
    return judge(
        Outcome(State.COMPLETED, tasks=(task,)),
        (ASKED,),
        rule,
        own,
        Against(
            USED, Outcome(State.COMPLETED, tasks=(theirs,)), reference, {"t": None}, noise=noise
        ),
    )


@pytest.mark.parametrize("error", [0.0, 0.01, 0.05])
def test_a_stack_within_the_noise_passes(error: float) -> None:
    verdict = judged(stack(error, 2))
    assert verdict.status is Status.PASSED, verdict.reason
    (metric,) = verdict.metrics
    assert (metric.task, metric.metric, metric.n, metric.rule) == ("t", "replay", N, "replay")
    assert "limit 3 ×" in metric.reason
    assert verdict.exit_status == 0


def test_a_stack_beyond_the_noise_fails_with_its_size() -> None:
    verdict = judged(stack(0.15, 2))  # the divergence grows with the square: 9 times the noise
    assert verdict.status is Status.FAILED
    (metric,) = verdict.metrics
    assert "9 × the noise" in metric.reason.replace("9.1", "9").replace("8.9", "9")
    assert "mean KL" in metric.evidence and "noise (loud)" in metric.evidence


def test_near_the_limit_more_questions_decide() -> None:
    verdict = judged(stack(0.05 * 3.05**0.5, 2)[:25], reference=REFERENCE[:25])
    assert verdict.status is Status.INCONCLUSIVE
    assert "questions would be enough" in verdict.metrics[0].reason


def with_outliers(error: float, found: int) -> list[Sample]:
    """As `stack`, but some questions' logits differ six times as much: 36 times the variance."""
    return [*stack(6 * error, 7)[:found], *stack(error, 2)[found:]]


# Three noise runs besides the one that the others are compared with.
LOUD = (Noise("same", stack(0.0)), *(Noise(f"loud{each}", stack(0.05, each)) for each in (1, 3, 4)))


def test_a_few_questions_that_stand_out_fail() -> None:
    (metric,) = judged(with_outliers(0.05, 5), noise=LOUD).metrics
    assert metric.status is Status.FAILED
    assert "5 of 60 questions differ more than 12 × those of any noise run" in metric.reason
    assert metric.p is not None and metric.p <= 1 / 4**5 / 0.9 + 1e-9
    assert judged(with_outliers(0.05, 0), noise=LOUD).status is Status.PASSED


def _another_task(noise: Noise) -> list[Sample]:
    """Answers to another task's questions, in which a noise run stands out."""
    samples = stack(3.0, 9) if noise.name == "loud1" else noise.samples
    return [replace(each, task="u") for each in samples]


def test_the_noise_of_questions_that_a_draw_left_out_counts() -> None:
    own = with_outliers(0.05, 3)[:20]
    rule = replace(RULE, replay=replace(RULE.replay, draw=20))
    (drawn,) = judged(own, noise=LOUD, rule=rule).metrics
    assert drawn.status is Status.FAILED, drawn.reason
    assert drawn.p == pytest.approx(1 / 10**3 / 0.9)  # a third of the questions, three runs
    both = [replace(each, samples=[*each.samples, *_another_task(each)]) for each in LOUD]
    (beside,) = judged(own, noise=both, rule=rule).metrics
    assert beside.p == drawn.p
    short = [replace(each, samples=each.samples[:20]) for each in LOUD]
    (alone,) = judged(own, noise=short, rule=rule).metrics
    assert alone.status is Status.INCONCLUSIVE
    assert alone.p == pytest.approx(1 / 4**3 / 0.9)


def test_questions_that_stand_out_keep_a_run_from_passing() -> None:
    """The mean is far below such a high factor."""
    rule = replace(RULE, replay=replace(RULE.replay, factor=12.0))
    own = [*stack(0.45, 7)[:3], *stack(0.05, 2)[3:]]
    (metric,) = judged(own, noise=LOUD, rule=rule).metrics
    assert metric.status is Status.INCONCLUSIVE, metric.reason
    assert "noise run, more than in an average noise run, but not significant" in metric.reason


def with_rogue(error: float, gain: float) -> list[Sample]:
    """As `stack`, but one unlikely token of each position has a huge logit."""
    noise = np.random.default_rng(2).normal(size=LOGITS.shape) * error
    logits = LOGITS + noise
    unlikely = logits.argmin(axis=2)
    np.put_along_axis(logits, unlikely[:, :, None], logits.max() + gain, axis=2)
    return replayed_from(logits)


@pytest.mark.parametrize("runs", [NOISE, LOUD])
def test_a_token_that_takes_all_probability_fails(runs: Sequence[Noise]) -> None:
    """All listed tokens lose the same, so the differences of their logits are within the noise."""
    assert judged(with_rogue(0.05, 10), runs).status is Status.FAILED


def certain(error: float, seed: int, top: bool = True) -> list[Sample]:
    """As `stack`, but the chosen tokens are certain, so their log-probabilities hardly move."""
    logits = LOGITS + np.random.default_rng(seed).normal(size=LOGITS.shape) * error
    np.put_along_axis(logits, CHOSEN[:, :, None], 25.0, axis=2)
    return replayed_from(logits, top)


def test_a_reference_with_distributions_needs_one_noise_run() -> None:
    """Without them, one noise run shows only the chosen tokens, which are certain here."""
    noise = [Noise("loud", certain(0.05, 1))]
    own = certain(0.15, 2)
    (bare,) = judged(own, noise, certain(0.0, 0, top=False)).metrics
    assert bare.status is Status.PASSED
    (whole,) = judged(own, noise, certain(0.0, 0)).metrics
    assert whole.status is Status.FAILED and "variance of logits" in whole.evidence
    assert "difference from the reference run" in whole.evidence
    (within,) = judged(certain(0.05, 3), noise, certain(0.0, 0)).metrics
    assert within.status is Status.PASSED, within.reason


@pytest.mark.parametrize("runs", [1, 2])
def test_the_traps_of_logits_hold_with_a_reference_that_recorded_them(runs: int) -> None:
    reference = stack(0.0)
    noise = [Noise("loud", stack(0.05, 1)), Noise("same", stack(0.0))][:runs]
    assert judged(with_rogue(0.05, 10), noise, reference).status is Status.FAILED
    assert judged(stack(0.05, 2), noise, reference).status is Status.PASSED
    assert judged(stack(0.15, 2), noise, reference).status is Status.FAILED


def test_a_reference_that_recorded_some_questions_is_used_like_one_without() -> None:
    noise, own = [Noise("loud", stack(0.05, 1))], stack(0.05, 2)
    partly = [*stack(0.0)[:30], *REFERENCE[30:]]
    (metric,) = judged(own, noise, partly).metrics
    (bare,) = judged(own, noise).metrics
    assert (metric.status, metric.reason, metric.p) == (bare.status, bare.reason, bare.p)


def test_with_several_noise_runs_the_reference_is_not_the_base() -> None:
    """A reference of another engine would hide what differs between stacks of this one."""
    (metric,) = judged(stack(0.05, 2), NOISE, stack(0.0)).metrics
    assert "difference from same" in metric.evidence
    assert metric == judged(stack(0.05, 2)).metrics[0]


@pytest.mark.parametrize("runs", [1, 2])
def test_a_loss_that_all_choices_share_fails(runs: int) -> None:
    def choices(error: float, loss: float, seed: int) -> list[Sample]:
        random = np.random.default_rng(seed)
        return [
            Sample(
                "t",
                place,
                doc_hash=str(place),
                prompt_hash=str(place),
                choice_logprobs=tuple(
                    np.array([-5.0, -6.0, -7.0]) + random.normal(size=3) * error - loss
                ),
                choice_tokens=(5, 5, 5),
            )
            for place in range(N)
        ]

    noise = [Noise("loud", choices(0.05, 0, 1)), Noise("same", choices(0.05, 0, 3))][:runs]
    reference = choices(0.0, 0, 0)
    assert judged(choices(0.05, 0, 2), noise, reference).status is Status.PASSED
    assert judged(choices(0.05, 3, 2), noise, reference).status is Status.FAILED


def test_prompts_of_another_length_than_in_the_reference_run_keep_it_from_passing() -> None:
    """Also if the noise runs have the same other length, and can be compared."""

    def longer(samples: Sequence[Sample], place: int) -> Sample:
        tokens = (12,) if place < 20 else (10,)
        return replace(samples[place], prompt_tokens=tokens)

    own, *noise = (
        [longer(each, place) for place in range(N)]
        for each in (stack(0.05, 2), stack(0.0), stack(0.05, 1), stack(0.05, 3))
    )
    reference = [replace(each, prompt_tokens=(10,)) for each in REFERENCE]
    runs = [Noise(str(number), each) for number, each in enumerate(noise)]
    verdict = judged(own, runs, reference)
    assert verdict.status is Status.INCONCLUSIVE
    assert "only 40 of 60 questions could be compared" in verdict.reason


def test_a_reference_run_with_which_nothing_can_be_compared_is_inconclusive() -> None:
    other = [replace(each, prompt_hash=f"other {each.doc_id}") for each in REFERENCE]
    bare = [replace(each, logprobs=(), margins=()) for each in REFERENCE]
    longer = [replace(each, prompt_tokens=(10,)) for each in REFERENCE]
    own = [replace(each, prompt_tokens=(12,)) for each in stack(0.05, 2)]
    noise = [
        Noise(each.name, [replace(sample, prompt_tokens=(12,)) for sample in each.samples])
        for each in LOUD
    ]
    for reference in (other, bare, longer):
        assert judged(own, noise, reference).status is Status.INCONCLUSIVE


def test_a_noise_run_that_can_not_be_compared_with_the_others_is_not_used() -> None:
    changed = [
        replace(each, prompt_hash=f"other {each.doc_id}") if each.doc_id < 20 else each
        for each in stack(0.05, 3)
    ]
    verdict = judged(stack(0.05, 2), [*LOUD, Noise("old", changed)])
    assert verdict.status in (Status.PASSED, Status.INCONCLUSIVE)
    assert "old did not replay all of these questions" in verdict.metrics[0].evidence


def test_no_baseline_or_score_is_judged() -> None:
    assert [metric.metric for metric in judged(stack(0.0)).metrics] == ["replay"]


def test_without_noise_nothing_passes_and_only_gross_differences_fail() -> None:
    same = judged(stack(0.0), noise=())
    assert same.status is Status.INCONCLUSIVE
    assert "list these runs in verdict.replay.noise" in same.metrics[0].reason
    assert judged(stack(0.15, 2), noise=()).status is Status.INCONCLUSIVE
    gross = judged(stack(2.0, 2), noise=())
    assert gross.status is Status.FAILED
    assert "more than 0.3: ten times a value published" in gross.metrics[0].reason


def test_the_rule_counts_the_noise_runs_that_it_used() -> None:
    """Those stored with the reference run are not in the configuration."""
    rule = replace(RULE, replay=ReplayConfig())
    assert "noise of correct stacks (2 noise runs)" in judged(stack(0.0), rule=rule).rule
    assert "(1 noise run)" in judged(stack(0.0), noise=NOISE[1:], rule=rule).rule
    assert "without noise runs, nothing passes" in judged(stack(0.0), noise=(), rule=rule).rule
    allowed = replace(rule, allow_reference=True)
    assert "verdict.allow_reference=true" in judged(stack(0.0), rule=allowed).rule


def test_with_one_noise_run_the_mean_square_is_judged() -> None:
    one = NOISE[1:]
    assert judged(stack(0.05, 2, top=False), noise=one).status is Status.PASSED
    assert judged(stack(0.15, 2, top=False), noise=one).status is Status.FAILED


def test_noise_that_is_the_reference_itself_is_none() -> None:
    verdict = judged(stack(0.05, 2), noise=[Noise("a", stack(0.0)), Noise("b", stack(0.0))])
    assert verdict.status is Status.INCONCLUSIVE
    assert "so they show no noise; add one that may differ" in verdict.metrics[0].reason


def test_differences_of_float32_are_not_judged_by_their_tiny_noise() -> None:
    tiny = [Noise("same", stack(0.0)), Noise("window", stack(1e-7, 1))]
    assert judged(stack(1e-5, 2), noise=tiny).status is Status.PASSED
    assert judged(stack(1e-3, 2), noise=tiny).status is Status.FAILED


def repeating(error: float, seed: int, repeated: int) -> list[Sample]:
    """As `stack`, but the first questions repeat the reference exactly."""
    return [*stack(0.0)[:repeated], *stack(error, seed)[repeated:]]


@pytest.mark.parametrize("repeated", [0, 18, 29, 31, 57])
@pytest.mark.parametrize("top", [True, False])
def test_questions_that_noise_runs_repeat_exactly_fail_no_correct_stack(
    repeated: int, top: bool
) -> None:
    """Beside such a run, a stack that rounds otherwise differs in every question."""
    first = [Noise("same", stack(0.0))] if top else []
    noise = [*first, Noise("window", repeating(0.05, 1, repeated), dtype="bfloat16")]
    (metric,) = judged(stack(0.05, 2, top), noise=noise).metrics
    if 2 * repeated < N:
        assert metric.status is Status.PASSED, metric.reason
    else:
        assert metric.status is Status.INCONCLUSIVE
        assert f"{repeated} of 60 questions are the same in window" in metric.reason
    assert judged(stack(0.15, 2, top), noise=noise).status is Status.FAILED


def test_a_stack_that_repeats_as_much_as_its_noise_run_passes() -> None:
    noise = [NOISE[0], Noise("window", repeating(0.05, 1, 40), dtype="bfloat16")]
    assert judged(repeating(0.02, 2, 40), noise=noise).status is Status.PASSED


def test_noise_that_rounding_does_not_explain_lets_nothing_pass() -> None:
    """The reference run is of another stack, so the noise run shows the difference of stacks."""
    noise = [Noise("window", stack(1.5, 1, top=False))]
    (metric,) = judged(stack(1.5, 2, top=False), noise=noise).metrics
    assert metric.status is Status.INCONCLUSIVE
    assert "window differs from the reference run by an RMS of" in metric.reason
    assert "one of them is not of a correct stack" in metric.reason


def test_what_float32_repeats_is_the_noise_of_float32() -> None:
    """An expert that is chosen otherwise in one question does not hide a fault in all others."""
    noise = [NOISE[0], Noise("window", [*stack(0.05, 1)[:1], *stack(1e-7, 1)[1:]], dtype="float32")]
    assert judged(stack(0.01, 2), noise=noise).status is Status.FAILED


def test_noise_of_other_questions_is_not_used() -> None:
    half = Noise("half", stack(0.05, 3, n=30))
    alone = judged(stack(0.0), noise=[half])
    assert alone.status is Status.INCONCLUSIVE
    assert "half did not replay all of these questions" in alone.metrics[0].reason
    beside = judged(stack(0.05, 2), noise=[*NOISE, half])
    assert beside.status is Status.PASSED
    assert "noise run half did not replay all" in beside.metrics[0].evidence
    # A run that asks half of the questions can use it.
    assert judged(stack(0.05, 2, n=30), noise=[NOISE[0], half]).status is Status.INCONCLUSIVE


def test_a_noise_run_is_not_taken_for_one_whose_name_begins_alike() -> None:
    half = Noise("loud again", stack(0.05, 3, n=30))
    assert judged(stack(0.05, 2), noise=[*NOISE, half]).status is Status.PASSED


def test_noise_that_is_not_a_number_is_not_used() -> None:
    broken = stack(0.05, 3)
    broken[0] = replace(broken[0], logprobs=[-math.inf, *broken[0].logprobs[1:]])
    verdict = judged(stack(0.05, 2), noise=[Noise("broken", broken)])
    assert verdict.status is Status.INCONCLUSIVE
    assert "broken has log-probabilities that are infinite or not" in verdict.metrics[0].reason


def test_noise_of_a_stack_that_failed_keeps_a_run_from_passing() -> None:
    failed = [NOISE[0], replace(NOISE[1], doubts=("FAILED itself",))]
    verdict = judged(stack(0.05, 2), noise=failed)
    assert verdict.status is Status.INCONCLUSIVE
    assert "the noise run loud FAILED itself; list others" in verdict.metrics[0].reason.replace(
        ", list", "; list"
    )
    allowed = replace(RULE, allow_reference=True)
    assert judged(stack(0.05, 2), noise=failed, rule=allowed).status is Status.PASSED


def texts(values: Sequence[float], tokens: int = 0) -> list[Sample]:
    """A replay of texts with these log-likelihoods, each the sum over some number of tokens."""
    return [
        replace(each, token_ids=(), logprobs=(), margins=(), top_ids=(), top_logprobs=(),
                choice_logprobs=(value,), choice_tokens=(tokens,) if tokens else ())
        for each, value in zip(stack(0.0), values, strict=True)
    ]  # fmt: skip


def test_a_gross_difference_of_texts_is_one_per_token() -> None:
    random = np.random.default_rng(5)
    before = random.normal(size=N) * 50 - 4000
    reference, moved = texts(list(before), 3000), random.normal(size=N)
    own = judged(texts(list(before + moved), 3000), noise=(), reference=reference)
    rms = math.sqrt(float((moved**2).mean())) / 3000
    assert own.status is Status.INCONCLUSIVE
    assert own.metrics[0].value == pytest.approx(rms)
    far = judged(texts(list(before - 1200), 3000), noise=(), reference=reference)
    assert (far.status, far.metrics[0].value) == (Status.FAILED, pytest.approx(0.4))


def test_noise_of_sums_is_none_for_differences_per_token() -> None:
    """They are 3,000 times as large, so that anything would pass."""
    random = np.random.default_rng(5)
    before = random.normal(size=N) * 50 - 4000
    first, second, third = ([*(before + random.normal(size=N))] for _ in range(3))
    noise = [Noise("old", texts(first)), Noise("older", texts(second))]
    own = judged(texts(third, 3000), noise=noise, reference=texts([*before], 3000))
    assert own.status is Status.INCONCLUSIVE
    assert "has no number of tokens for its choices" in own.metrics[0].reason
    noise = [Noise("old", texts(first, 3000)), Noise("older", texts(second, 3000))]
    assert judged(texts(third, 3000), noise=noise, reference=texts([*before])).status is (
        Status.PASSED
    )


def test_sums_over_tokens_are_no_gross_differences() -> None:
    """A text of 3,000 tokens moves by more than 0.3 nats in any bfloat16 stack."""

    random = np.random.default_rng(5)
    before = random.normal(size=N) * 50 - 4000
    verdict = judged(
        texts(list(before + random.normal(size=N))), noise=(), reference=texts(list(before))
    )
    assert verdict.status is Status.INCONCLUSIVE
    assert "it is not known how much correct stacks differ" in verdict.metrics[0].reason


def test_a_question_that_the_reference_did_not_answer_has_nothing_to_compare() -> None:
    def without(samples: list[Sample]) -> list[Sample]:
        empty = replace(samples[7], token_ids=(), logprobs=(), top_ids=(), top_logprobs=())
        return [*samples[:7], empty, *samples[8:]]

    noise = [Noise(each.name, without(list(each.samples))) for each in NOISE]
    verdict = judged(without(stack(0.05, 2)), noise=noise, reference=without(REFERENCE))
    assert verdict.status is Status.PASSED
    assert verdict.metrics[0].n == N - 1


def test_an_infinite_divergence_fails() -> None:
    own = stack(0.0)
    listed = np.array(own[3].top_logprobs)
    listed[0] = -math.inf
    own[3] = replace(own[3], top_logprobs=listed.tolist())
    assert judged(own).status is Status.FAILED


def test_another_number_of_prompt_tokens_is_no_difference_of_arithmetic() -> None:
    reference = [replace(each, prompt_tokens=(20,)) for each in REFERENCE]
    own = [replace(each, prompt_tokens=(20 if n else 19,)) for n, each in enumerate(stack(0.0))]
    verdict = judged(own, noise=(), reference=reference)
    assert verdict.status is Status.INCONCLUSIVE
    assert "truncated prompt" in verdict.metrics[0].reason


def test_an_answer_with_other_tokens_keeps_the_run_from_passing() -> None:
    own = stack(0.0)
    own[3] = replace(own[3], token_ids=[*own[3].token_ids[:-1], 0])
    verdict = judged(own)
    assert verdict.status is Status.INCONCLUSIVE
    assert "only 59 of 60 questions could be compared" in verdict.metrics[0].reason


def test_another_prompt_keeps_the_run_from_passing() -> None:
    own = stack(0.0)
    own[3] = replace(own[3], prompt_hash="other")
    assert judged(own).status is Status.INCONCLUSIVE
    assert "1 with a different prompt" in judged(own).metrics[0].reason


def test_too_few_questions_decide_nothing() -> None:
    verdict = judged(stack(0.0, n=19), reference=REFERENCE[:19])
    assert "too few questions: 19, at least 20 needed" in verdict.metrics[0].reason
    assert verdict.status is Status.INCONCLUSIVE


def test_a_log_probability_that_is_not_a_number_fails() -> None:
    own = stack(0.0)
    own[3] = replace(own[3], logprobs=[float("nan"), *own[3].logprobs[1:]])
    verdict = judged(own)
    assert verdict.status is Status.FAILED
    assert "infinite or not a number" in verdict.metrics[0].reason


def test_doubts_keep_a_run_from_passing() -> None:
    verdict = judged(stack(0.0), truncated=2)
    assert verdict.status is Status.INCONCLUSIVE
    assert "2 prompts were left-truncated" in verdict.metrics[0].reason
