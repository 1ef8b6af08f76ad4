"""`paired`: compares the same samples with a reference run, question by question."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from runner.evidence.pairing import Pairing, Reason
from runner.evidence.samples import Sample
from runner.stats import drops
from runner.stats.clusters import in_clusters
from runner.status import Status
from runner.verdict.limits import assumption, require_failable, usable_limits
from runner.verdict.rule import Case, Finding, refused
from runner.verdict.scores import (
    Unusable,
    cluster_words,
    clustered,
    clusters,
    direction,
    own_scores,
    scores,
)

SAID = {
    Reason.ONLY_FIRST: "{} only in the reference run",
    Reason.ONLY_SECOND: "{} not in the reference run",
    Reason.PROMPT: "{} with a different prompt",
    Reason.IMAGES: "{} with different images",
    Reason.DOCUMENT: "{} with a different document",
}


def judge(case: Case) -> Finding:
    """Test with exact McNemar for 0/1 scores, else with Student's t on the differences.

    If questions were asked several times, the differences of their means are tested.

    Every sample needs a partner; otherwise a run could pass by dropping questions.
    """
    if not math.isfinite(case.result.value):
        return Finding(Status.FAILED, f"the value is {case.result.value}")
    assert case.pairing is not None
    lonely = unpaired(case.pairing, case.limited)
    if lonely:
        return refused(f"samples differ from the reference run: {lonely}")
    if not case.pairing.pairs:
        return refused("the two runs have no samples in common")
    reference, run = _sides(case.pairing)
    try:
        own_scores(case)
        sign = direction(case)
        before, after = scores(reference, case, "the reference run"), scores(run, case, "this run")
        groups = clusters(run, case)
        values = (*before.values, *after.values)
        limits = usable_limits(case, values, len(after.values))
        require_failable(case, limits.differences())
    except Unusable as unusable:
        return refused(str(unusable))
    differences = [sign * (b - a) for b, a in zip(before.values, after.values, strict=True)]
    if before.repeated or after.repeated:
        drop = drops.of_question_means(before.answers, after.answers, sign, limits.span)
    elif before.binary and after.binary:
        worse, better = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
        drop = drops.of_flips(worse, better, len(differences))
    else:
        drop = drops.of_differences(differences, limits.differences())
    moved = _moved(differences, "samples" if drop.repeated is None else "questions")
    grouped = clustered(case, groups)
    if grouped:
        tested = case.settings.cluster != "subject"
        drop = in_clusters(drop, differences, groups, tested)
    return Finding(
        drop=drop,
        baseline=before.value,
        clusters=len(set(groups)) if grouped else None,
        evidence="; ".join(filter(None, (moved, cluster_words(case, groups), assumption(limits)))),
    )


def unpaired(pairing: Pairing, limited: bool) -> str:
    """Return why samples have no partner; samples beyond the limit of this run do not count."""
    found = Counter(
        each.reason
        for each in pairing.unpaired
        if not (limited and each.reason is Reason.ONLY_FIRST)
    )
    return ", ".join(SAID[reason].format(count) for reason, count in found.items())


def _sides(pairing: Pairing) -> tuple[Sequence[Sample], Sequence[Sample]]:
    return [first for first, _ in pairing.pairs], [second for _, second in pairing.pairs]


def _moved(differences: Sequence[float], counted: str) -> str:
    worse, better = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    return f"{worse} {counted} worse, {better} better"
