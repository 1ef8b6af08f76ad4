"""`paired`: compares the same samples with a reference run, question by question."""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from runner.evidence.pairing import Pairing, Reason
from runner.evidence.samples import Sample
from runner.language import N_, gettext
from runner.stats import drops
from runner.stats.clusters import in_clusters
from runner.verdict import perplexity
from runner.verdict.limits import assumption, require_failable, usable_limits
from runner.verdict.looked import judged_early, not_finite
from runner.verdict.rule import LATER, THE_REFERENCE, THE_RUN, Case, Finding, refused
from runner.verdict.scores import (
    NoMean,
    Unusable,
    cluster_words,
    clustered,
    clusters,
    direction,
    mean_of_subtasks,
    own_scores,
    scores,
)

SAID = {
    Reason.ONLY_FIRST: N_("{count} only in the reference run"),
    Reason.ONLY_SECOND: N_("{count} not in the reference run"),
    Reason.PROMPT: N_("{count} with a different prompt"),
    Reason.IMAGES: N_("{count} with different images"),
    Reason.DOCUMENT: N_("{count} with a different document"),
}


def judge(case: Case) -> Finding:
    """Test with exact McNemar for 0/1 scores, else with Student's t on the differences.

    If questions were asked several times, or several reference runs are pooled, the differences of
    the questions' means are tested. The sign-flip test keeps its level if reference runs are copies
    of each other, because the larger p of its two tests counts (runner/stats/drops.py).

    Every sample needs a partner; otherwise a run could pass by dropping questions.
    """
    if not math.isfinite(case.result.value):
        return not_finite(case)
    assert case.pairing is not None
    lonely = unpaired(case.pairing, case.limited)
    if lonely:
        return refused(
            gettext("samples differ from the reference run: {differences}", differences=lonely)
        )
    if not case.pairing.pairs:
        return refused(gettext("the two runs have no samples in common"))
    reference, run = _sides(case.pairing)
    try:
        weights = _weights(case, run)
        sign = direction(case)
        before = scores(reference, case, gettext(THE_REFERENCE))
        after = scores(run, case, gettext(THE_RUN))
        groups = clusters(run, case)
        limits = usable_limits(case, (*before.values, *after.values), len(after.values))
        possible = limits.differences().times(max(weights))
        require_failable(case, limits.differences())
    except NoMean as no_mean:
        return _without_mean(case, str(no_mean))
    except Unusable as unusable:
        return refused(str(unusable))
    differences = [
        sign * weight * (b - a)
        for b, a, weight in zip(before.values, after.values, weights, strict=True)
    ]
    repeated, uneven = before.repeated or after.repeated, len(set(weights)) > 1
    look = case.look
    if not look.last:
        if not judged_early(case, limits, before.answers, after.answers):
            return refused(gettext(LATER))
        drop = drops.of_bets(differences, possible)
    elif repeated or uneven:
        # A few samples of large weight decide, for which Student's t and the bootstrap find a drop
        # too often (tests/unit/test_verdict_no_mean.py).
        sides = (_weighted(before.answers, weights), _weighted(after.answers, weights))
        drop = drops.of_question_means(*sides, sign, possible.high, look)
        drop = drop if repeated else replace(drop, repeated=None)
    elif before.binary and after.binary:
        worse, better = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
        drop = drops.of_flips(worse, better, len(differences), look)
    else:
        drop = drops.of_differences(differences, possible, look)
    moved = _moved(differences, drop.repeated is not None)
    grouped = clustered(case, groups)
    if grouped:
        tested = case.settings.cluster != "subject"
        drop = in_clusters(drop, differences, groups, tested, look)
    return Finding(
        drop=drop,
        baseline=math.fsum(map(operator.mul, weights, before.values)) / len(weights),
        clusters=len(set(groups)) if grouped else None,
        evidence=gettext("; ").join(
            filter(None, (moved, cluster_words(case, groups), assumption(limits)))
        ),
    )


def _weights(case: Case, run: Sequence[Sample]) -> list[float]:
    """Return the weight of each sample in the metric's value, on average 1.

    A group that is the plain mean of its subtasks (lm-eval's `weight_by_size: false`) gives the
    samples of a small subtask more weight.

    Raises:
        Unusable: as `own_scores` does, NoMean if the value is no such mean either.
    """
    try:
        own_scores(case)
    except NoMean:
        value = mean_of_subtasks(case.samples, case.result.metric)
        if value is None or not math.isclose(value, case.result.value, rel_tol=1e-6, abs_tol=1e-6):
            raise
        sizes = Counter(sample.task for sample in case.samples)
        return [len(case.samples) / len(sizes) / sizes[sample.task] for sample in run]
    return [1.0] * len(run)


def _weighted(
    answers: Sequence[Sequence[float]], weights: Sequence[float]
) -> list[tuple[float, ...]]:
    return [
        tuple(weight * score for score in own) for own, weight in zip(answers, weights, strict=True)
    ]


def _without_mean(case: Case, reason: str) -> Finding:
    """Judge a perplexity, and refuse any other metric that is no mean for this `reason`.

    A metric of which neither run has scores is one of the whole corpus. If only one run has none,
    or a perplexity's log-likelihoods do not explain it, something was lost.
    """
    assert case.pairing is not None
    try:
        found = perplexity.rise(case)
    except Unusable as unusable:
        return refused(str(unusable))
    if found is not None and not case.look.last:
        return refused(gettext(LATER))
    if found is not None:
        drop, before = found
        return Finding(
            drop=drop, baseline=before, evidence=gettext("log-likelihoods of the same texts")
        )
    metric = case.result.metric
    scored = any(metric in sample.scores for pair in case.pairing.pairs for sample in pair)
    return replace(refused(reason), of_corpus=not scored and metric not in perplexity.METRICS)


def unpaired(pairing: Pairing, limited: bool) -> str:
    """Return why samples have no partner; samples beyond the limit of this run do not count."""
    found = Counter(
        (each.reason, each.run)
        for each in pairing.unpaired
        if not (limited and each.reason is Reason.ONLY_FIRST)
    )
    said = []
    for (reason, run), count in found.items():
        samples = gettext(SAID[reason], count=count)
        said.append(gettext("{samples} ({run})", samples=samples, run=run) if run else samples)
    return gettext(", ").join(said)


def _sides(pairing: Pairing) -> tuple[Sequence[Sample], Sequence[Sample]]:
    return [first for first, _ in pairing.pairs], [second for _, second in pairing.pairs]


def _moved(differences: Sequence[float], questions: bool) -> str:
    worse, better = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    if questions:
        said = N_("{worse} questions worse, {better} better")
    else:
        said = N_("{worse} samples worse, {better} better")
    return gettext(said, worse=worse, better=better)
