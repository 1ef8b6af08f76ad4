"""Differences between two engines along the same answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.stats import entropy

from runner.evidence.replayed import differences, of_samples
from runner.evidence.samples import Sample
from runner.lm.top import packed, packed_steps, unpacked

NEAR = 0.25


def sample(
    logprobs: Sequence[float], tokens: Sequence[int] | None = None, **fields: object
) -> Sample:
    ids = list(range(len(logprobs))) if tokens is None else tokens
    base = {"margins": [1.0] * len(ids), "doc_id": 0} | fields
    return Sample("task", token_ids=ids, logprobs=logprobs, **base)  # type: ignore[arg-type]


def distributions(logits: np.ndarray, listed: int) -> dict[str, list[float]]:
    """The likeliest tokens of each row of logits, as a replay records them."""
    logprobs = log_softmax(logits, axis=1)
    order = np.argsort(-logprobs, axis=1)[:, :listed]
    values = np.take_along_axis(logprobs, order, axis=1)
    return {"top_ids": order.ravel().tolist(), "top_logprobs": values.ravel().tolist()}


def test_differences_are_means_over_the_tokens_of_an_answer() -> None:
    found = of_samples(sample([-1.0, -2.0]), sample([-1.1, -1.7]), NEAR)
    assert found is not None
    assert found.tokens == 2
    assert found.absolute == pytest.approx(0.2)
    assert found.squared == pytest.approx((0.01 + 0.09) / 2)
    assert found.signed == pytest.approx(0.1)
    assert found.divergence is None and found.logits is None


def test_the_divergence_is_that_of_scipy_where_all_tokens_are_listed() -> None:
    random = np.random.default_rng(1)
    one, other = random.normal(size=(2, 3, 8)) * 2
    before = sample([-1.0] * 3, **distributions(one, 8))
    after = sample([-1.0] * 3, **distributions(other, 8))
    found = of_samples(before, after, NEAR)
    expected = entropy(np.exp(log_softmax(one, axis=1)), np.exp(log_softmax(other, axis=1)), axis=1)
    assert found is not None and found.divergence == pytest.approx(float(expected.mean()), rel=1e-6)


def test_the_divergence_of_the_listed_tokens_is_never_larger_and_close_for_peaked_ones() -> None:
    random = np.random.default_rng(2)
    one = random.normal(size=(200, 300)) * 4
    other = one + random.normal(size=one.shape) * 0.1
    whole = entropy(np.exp(log_softmax(one, axis=1)), np.exp(log_softmax(other, axis=1)), axis=1)
    found = of_samples(
        sample([-1.0] * 200, **distributions(one, 20)),
        sample([-1.0] * 200, **distributions(other, 20)),
        NEAR,
    )
    assert found is not None and found.divergence is not None
    assert 0.8 * whole.mean() < found.divergence <= whole.mean()


def test_equal_distributions_don_t_diverge() -> None:
    same = distributions(np.random.default_rng(3).normal(size=(4, 50)), 20)
    found = of_samples(sample([-1.0] * 4, **same), sample([-1.0] * 4, **same), NEAR)
    assert found is not None and found.divergence == pytest.approx(0, abs=1e-12)


def test_the_logits_differ_by_the_variance_whatever_the_certainty_and_the_constant() -> None:
    """The softmax hides a constant; a very certain answer has hardly any divergence."""
    random = np.random.default_rng(4)
    one, noise = random.normal(size=(3, 20)), random.normal(size=(3, 20)) * 0.1
    one[:, 0] += 20
    before = sample([-1.0] * 3, **distributions(one, 20))
    after = sample([-1.0] * 3, **distributions(one + noise + 7, 20))
    found = of_samples(before, after, NEAR)
    assert found is not None and found.divergence is not None
    # All unlisted tokens count as one more. They have no probability here, and do not move.
    assert found.logits == pytest.approx(noise.var(axis=1).mean(), rel=0.05)
    assert found.divergence < 1e-8


def test_tokens_that_only_the_first_engine_lists_count_with_the_smallest_of_the_second() -> None:
    before = sample([-1.0], top_ids=[4, 5, -1], top_logprobs=[-0.5, -1.0, -math.inf])
    after = sample([-1.0], top_ids=[4, 6, 7], top_logprobs=[-0.5, -1.0, -3.0])
    found = of_samples(before, after, NEAR)
    mass, theirs = 1 - np.exp(-0.5) - np.exp(-1.0), 1 - np.exp(-0.5) - np.exp(-3.0)
    expected = np.var([0.0, -2.0, np.log(theirs / mass)])
    assert found is not None and found.logits == pytest.approx(expected)
    none = sample([-1.0], top_ids=[-1] * 3, top_logprobs=[-math.inf] * 3)
    found = of_samples(before, none, NEAR)
    assert found is not None and found.logits == 0
    other = sample([-1.0], top_ids=[1, 2, 3], top_logprobs=[-0.5, -1.0, -3.0])
    found = of_samples(before, other, NEAR)
    expected = np.var([-2.5, -2.0, np.log((1 - 2 * np.exp(-3.0)) / mass)])
    assert found is not None and found.logits == pytest.approx(expected)


def test_a_token_outside_the_list_that_takes_all_probability_is_seen() -> None:
    """Every listed token then moves alike, so their differences alone have no variance."""
    random = np.random.default_rng(5)
    one = random.normal(size=(3, 40)) * 3
    rogue = one.copy()
    rogue[:, one.argmin(axis=1)[0]] = one.max() + 10
    before, after = (sample([-1.0] * 3, **distributions(each, 20)) for each in (one, rogue))
    found = of_samples(before, after, NEAR)
    assert found is not None and found.logits is not None and found.logits > 1


def test_a_listed_log_probability_that_is_not_a_number_is_not_finite() -> None:
    before = sample([-1.0], top_ids=[4, 5], top_logprobs=[-0.5, -1.0])
    after = sample([-1.0], top_ids=[4, 5], top_logprobs=[-0.5, math.nan])
    found = of_samples(before, after, NEAR)
    assert found is not None and found.logits == math.inf


def test_a_token_counts_as_another_only_if_neither_engine_is_near_a_tie() -> None:
    before = sample([-1.0] * 4, margins=[1.0, 0.1, 1.0, 1.0])
    after = sample([-1.0] * 4, margins=[-1.0, -1.0, -0.1, 1.0])
    found = of_samples(before, after, NEAR)
    assert found is not None and found.flips == 1


def test_choices_are_a_distribution() -> None:
    before = sample([], choice_logprobs=(-10.0, -11.0))
    after = sample([], choice_logprobs=(-20.0, -19.0))
    found = of_samples(before, after, NEAR)
    p, q = (np.exp(log_softmax(np.array(each))) for each in ((-10, -11), (-20, -19)))
    assert found is not None and found.divergence == pytest.approx(float(entropy(p, q)))
    assert (found.tokens, found.flips, found.signed) == (2, 1, pytest.approx(-9.0))
    assert found.logits is None  # a loss that all choices share is a difference, too


def test_differences_of_choices_are_per_token() -> None:
    """-10 over five tokens and -8 over four; which choice is likelier follows from the sums."""
    before = sample([], choice_logprobs=(-10.0, -11.0), choice_tokens=(5, 4))
    after = sample([], choice_logprobs=(-20.0, -19.0), choice_tokens=(5, 4))
    found = of_samples(before, after, NEAR)
    sums = of_samples(replace(before, choice_tokens=()), replace(after, choice_tokens=()), NEAR)
    assert found is not None and sums is not None
    assert (found.absolute, found.squared, found.signed) == pytest.approx((2.0, 4.0, -2.0))
    assert (found.divergence, found.flips, found.tokens) == (sums.divergence, 1, 2)
    assert (found.summed, sums.summed) == (False, True)
    assert of_samples(before, replace(after, choice_tokens=(5, 5)), NEAR) is None


def test_other_tokens_and_missing_log_probabilities_can_t_be_compared() -> None:
    assert of_samples(sample([-1.0, -1.0]), sample([-1.0, -1.0], [0, 2]), NEAR) is None
    assert of_samples(sample([-1.0, -1.0]), sample([-1.0]), NEAR) is None
    assert of_samples(sample([]), sample([]), NEAR) is None
    assert of_samples(sample([], [1, 2]), sample([-1.0, -1.0], [1, 2]), NEAR) is None


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_log_probability_that_is_no_number_is_an_infinite_difference(value: float) -> None:
    found = of_samples(sample([-1.0]), sample([value]), NEAR)
    assert found is not None and found.squared == math.inf


def test_questions_are_merged_over_filters_and_repeats() -> None:
    def twice(*values: float) -> Sample:
        rows = tuple(sample([value], repeat=number) for number, value in enumerate(values))
        return sample([values[0]], rows=rows)

    pair = (twice(-1.0, -1.0), twice(-1.1, -1.3))
    found = differences([pair, pair], NEAR)  # as under two filters
    assert found.left_out == 0
    assert found.mean("absolute") == pytest.approx(0.2)
    (only,) = found.by_question.values()
    assert only.tokens == 2
    fewer = differences(
        [(twice(-1.0, -1.0), twice(-1.3))], NEAR
    )  # of two answers, one was replayed
    assert fewer.mean("absolute") == pytest.approx(0.3)
    more = differences([(twice(-1.0), twice(-1.0, -1.0))], NEAR)
    assert (more.left_out, len(more.by_question)) == (1, 0)


def test_candidates_survive_packing() -> None:
    ids, logprobs = np.array([[5, 3], [2, 9]]), np.log([[0.5, 0.25], [0.75, 0.125]])
    tokens, values = unpacked([packed(ids, logprobs), packed(ids[:1], logprobs[:1])])
    assert len(tokens) == 3 * 20
    assert tokens[:3] == [5, 3, -1] and tokens[40:42] == [5, 3]
    assert values[:2] == pytest.approx(logprobs[0].tolist())
    assert values[2] == -math.inf

    class Entry:
        def __init__(self, logprob: float) -> None:
            self.logprob = logprob

    # The chosen token comes in addition to the likeliest ones.
    step = {token: Entry(-float(token)) for token in [*range(20), 100]}
    tokens, values = unpacked([packed_steps([step])])
    assert tokens == list(range(20)) and values == [-float(each) for each in range(20)]
