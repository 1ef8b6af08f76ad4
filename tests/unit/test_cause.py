"""The likely cause of a FAILED `replay`: its signature, its rules, and what its page says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_softmax

from runner.config.verdict import ReplayConfig, VerdictConfig
from runner.evidence import signature as signatures
from runner.evidence.pairing import pair
from runner.evidence.samples import Sample
from runner.evidence.signature import Ratio, Signature, Trace, signature, traces
from runner.outcome import Outcome, State, TaskOutcome
from runner.status import Status
from runner.verdict import cause, replay, replay_measured
from runner.verdict.cause import (
    DECODE,
    ENOUGH,
    IMAGES,
    MODEL,
    ORDER,
    PRECISION,
    SCALE,
    HeldOut,
    Limits,
    class_of,
    likely_cause,
    measured,
)
from runner.verdict.result import MetricVerdict, ReferenceUsed
from runner.verdict.rule import Against, Noise

N, TOKENS, VOCABULARY = 60, 6, 30
LOGITS = np.random.default_rng(0).normal(size=(N, TOKENS, VOCABULARY)) * 2
CHOSEN = LOGITS.argmax(axis=2)
COUNTS = np.arange(N) % 3  # images of each question
LIMITS = Limits(quiet=3.0, contrast=2.0, scaled=0.6)


def stack(
    error: float, seed: int, where: np.ndarray | None = None, more: float = 0.0, factor: float = 1.0
) -> list[Sample]:
    """A replay with random errors of the logits, and with `more` of them at some tokens."""
    random = np.random.default_rng(seed)
    sizes = np.full((N, TOKENS), error)
    if where is not None:
        sizes[np.broadcast_to(where, sizes.shape)] += more
    logprobs = log_softmax(
        factor * LOGITS + sizes[:, :, None] * random.normal(size=LOGITS.shape), axis=2
    )
    order = np.argsort(-logprobs, axis=2)[:, :, :20]
    return [
        Sample(
            "t",
            i,
            doc_hash=str(i),
            prompt_hash=str(i),
            image_hashes=tuple("ab"[: COUNTS[i]]),
            token_ids=CHOSEN[i].tolist(),
            logprobs=logprobs[i][np.arange(TOKENS), CHOSEN[i]].tolist(),
            margins=[1.0] * TOKENS,
            top_ids=order[i].ravel().tolist(),
            top_logprobs=np.take_along_axis(logprobs[i], order[i], axis=1).ravel().tolist(),
        )
        for i in range(N)
    ]


BASE, NOISE = stack(0.0, 0), stack(0.02, 1)
STACKS = {
    None: stack(0.02, 2),
    IMAGES: stack(0.02, 2, COUNTS[:, None] > 0, 0.5),
    ORDER: stack(0.02, 2, COUNTS[:, None] > 1, 0.5),
    DECODE: stack(0.02, 2, np.arange(TOKENS)[None] > 0, 0.5),
    SCALE: stack(0.02, 2, factor=0.9),
    MODEL: stack(0.5, 2),
}


def signed(own: Sequence[Sample]) -> Signature:
    ours, theirs = traces(BASE, own), traces(BASE, NOISE)
    return signature(list(ours.values()), list(theirs.values()))


# The signature


def test_each_part_is_a_ratio_to_its_own_noise() -> None:
    found = signed(STACKS[IMAGES])
    assert found.text is not None and found.image is not None and found.images is not None
    assert found.text.questions == found.image.questions == found.images.questions == N // 3
    # The divergence grows with the square of the error.
    assert found.text.mean == pytest.approx(1, abs=0.3)
    assert found.image.mean == pytest.approx((0.52 / 0.02) ** 2, rel=0.2)
    assert found.images.typical == pytest.approx(found.image.typical, rel=0.3)


def test_first_and_later_tokens_are_apart() -> None:
    found = signed(STACKS[DECODE])
    assert found.first is not None and found.later is not None
    assert found.first.mean == pytest.approx(1, abs=0.3)
    assert found.later.mean > 100


def test_a_common_factor_explains_the_change_that_it_makes() -> None:
    assert signed(STACKS[SCALE]).scaled > 0.9
    assert signed(STACKS[MODEL]).scaled < 0.1
    assert signed(BASE).scaled == 0


def test_answers_of_one_token_have_no_later_ones() -> None:
    def short(sample: Sample) -> Sample:
        return replace(
            sample,
            token_ids=sample.token_ids[:1],
            top_ids=sample.top_ids[:20],
            top_logprobs=sample.top_logprobs[:20],
        )

    found = traces([short(each) for each in BASE], [short(each) for each in NOISE])
    assert all(each.later is None for each in found.values())
    assert signature(list(found.values()), list(found.values())).later is None


def test_all_answers_to_a_question_count() -> None:
    def twice(one: Sample, other: Sample) -> Sample:
        return replace(one, rows=(one, replace(other, repeat=1)))

    base = [twice(each, each) for each in BASE]
    found = traces(base, [twice(*both) for both in zip(BASE, NOISE, strict=True)])
    whole = traces(BASE, NOISE)
    assert all(each.every == pytest.approx(whole[key].every / 2) for key, each in found.items())


def test_questions_without_distributions_have_no_trace() -> None:
    bare = [replace(each, top_ids=(), top_logprobs=()) for each in NOISE]
    assert traces(BASE, bare) == {}
    assert likely_cause(BASE, bare, bare, True) == ""


def test_the_smallest_noise_is_that_of_the_verdict() -> None:
    assert signatures.NEGLIGIBLE == replay_measured.NEGLIGIBLE
    own, none = (Trace(0, x, None, x, (1.0, 0.0, x)) for x in (1e-8, 0.0))
    found = signature([own], [none]).text
    assert found is not None and found.mean == found.typical == 1


# The rules


@pytest.mark.parametrize("name", list(STACKS))
def test_each_class_is_recognised(name: str | None) -> None:
    assert class_of(signed(STACKS[name]), LIMITS) == name


def ratio(mean: float, typical: float | None = None, questions: int = ENOUGH) -> Ratio:
    return Ratio(questions, mean, mean if typical is None else typical)


SPARED = Signature(ratio(1.0), None, None, ratio(9.0), None, None, 0.0)


def test_a_group_is_quiet_up_to_the_limit_in_the_mean_and_in_a_typical_question() -> None:
    assert class_of(SPARED, LIMITS) == IMAGES
    assert class_of(replace(SPARED, text=ratio(3.0)), LIMITS) == IMAGES
    assert class_of(replace(SPARED, text=ratio(3.1)), LIMITS) is None
    assert class_of(replace(SPARED, text=ratio(1.0, 3.1)), LIMITS) is None
    assert class_of(replace(SPARED, illustrated=ratio(1.9)), LIMITS) is None


def test_a_group_of_few_questions_says_nothing() -> None:
    assert class_of(replace(SPARED, text=ratio(1.0, questions=ENOUGH - 1)), LIMITS) is None


def test_without_questions_of_text_neither_images_nor_the_model_are_named() -> None:
    found = replace(SPARED, text=None, first=ratio(9.0), later=ratio(9.0), image=ratio(9.0))
    assert class_of(found, LIMITS) is None


def test_several_images_are_not_named_if_text_differs_too() -> None:
    found = Signature(None, ratio(1.0), ratio(9.0), ratio(4.0), None, None, 0.0)
    assert class_of(found, LIMITS) == ORDER
    assert class_of(replace(found, text=ratio(9.0)), LIMITS) is None


# What is said


def test_the_evidence_is_named_with_its_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    held = dict.fromkeys(cause.CLASSES, HeldOut(0.947, 19))
    monkeypatch.setattr(cause, "measured", lambda: (LIMITS, held))
    said = likely_cause(BASE, STACKS[IMAGES], NOISE, True)
    assert said.startswith("likely cause: the images (preprocessing")
    assert "questions with images differ" in said and "times the noise, text questions" in said
    assert said.endswith(
        "this was right in 95 % of held-out cases (19 faults); on other models, unknown"
    )


@pytest.mark.parametrize("name", list(cause.CLASSES))
def test_no_class_is_named_below_the_precision(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    held = dict.fromkeys(cause.CLASSES, HeldOut(1.0, 9))
    monkeypatch.setattr(cause, "measured", lambda: (LIMITS, held))
    assert likely_cause(BASE, STACKS[name], NOISE, True)
    held[name] = HeldOut(PRECISION - 0.001, 9)
    assert likely_cause(BASE, STACKS[name], NOISE, True) == ""


def test_answers_scored_in_one_step_have_no_decode_step() -> None:
    said = likely_cause(BASE, STACKS[DECODE], NOISE, True)
    assert "the decode step (" in said and said.endswith(
        "constructed faults); on other models, unknown"
    )
    assert likely_cause(BASE, STACKS[DECODE], NOISE, False) == ""


def judged(own: Sequence[Sample], noise: Sequence[Noise]) -> MetricVerdict:
    task = TaskOutcome("t", (), expected=N, evaluated=N, answers=N)
    config = VerdictConfig(rule="replay", reference="r", replay=ReplayConfig(factor=3.0))
    used = ReferenceUsed("r", "/r", None, "m", "cuda", "TP1", "e", "v", "PASSED")
    reference = [replace(each, top_ids=(), top_logprobs=()) for each in BASE]
    against = Against(used, Outcome(State.COMPLETED), reference, noise=noise)
    return replay.judge(task, pair(reference, own), False, config, against)


def test_a_failed_replay_names_its_likely_cause() -> None:
    runs = (Noise("same", BASE), Noise("other", NOISE))
    failed = judged(STACKS[IMAGES], runs)
    assert failed.status is Status.FAILED
    assert "; likely cause: the images (" in failed.evidence
    healthy = judged(STACKS[None], runs)
    assert healthy.status is Status.PASSED and "likely cause" not in healthy.evidence


def test_with_one_noise_run_no_cause_is_named() -> None:
    failed = judged(STACKS[IMAGES], (Noise("other", NOISE),))
    assert failed.status is Status.FAILED and "likely cause" not in failed.evidence


def test_every_class_has_a_measured_precision() -> None:
    _, held_out = measured()
    assert held_out.keys() == cause.CLASSES.keys()
    assert all(0 <= each.precision <= 1 and each.faults >= 0 for each in held_out.values())
