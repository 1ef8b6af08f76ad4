"""The differences that `replay` and `numerics` judge, of this run and each noise run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from runner.evidence.pairing import pair
from runner.evidence.replayed import Differences, differences, of_ordinary
from runner.evidence.samples import Sample
from runner.language import N_, gettext
from runner.stats.excess import filled
from runner.stats.outliers import Unasked
from runner.verdict.rule import THE_REFERENCE, Noise

# Noise in float32 is so small that another correct stack may have several times as much. Mean
# squares were below 1e-9 wherever it was measured, so 1e-8 (an RMS of 1e-4 nats) is never a fault.
NEGLIGIBLE = 1e-8
# Why a noise run can't be used.
NOT_REPLAYED = N_("did not replay all of these questions")
NOT_COMPARED = N_("can't be compared with the reference run in all of these questions")
NOT_FINITE = N_("has log-probabilities that are infinite or not a number")


@dataclass(frozen=True)
class Measured:
    """This run's differences, and those of each noise run, from the same base.

    The base is the reference run. If there are several replays as noise, it is the one that is
    nearest to the reference run, ideally of the same stack: it always recorded distributions, and
    what the reference run's own engine does differently is not in the differences.
    """

    base: str
    own: Differences
    noise: dict[str, Differences]
    # Why some noise runs can't be used, by name.
    unused: dict[str, str]
    # Those of each noise run in the questions that a random draw left out of this run.
    unasked: dict[str, Differences] = field(default_factory=dict)

    @property
    def statistic(self) -> str:
        """The judged difference: of the logits, or the square where they were not recorded."""
        every = (self.own, *self.noise.values())
        whole = all(
            each.logits is not None for found in every for each in found.by_question.values()
        )
        return "logits" if whole and self.noise else "squared"

    @property
    def loudest(self) -> str:
        """The noise run that differs most."""
        return max(self.noise, key=lambda name: self.noise[name].mean(self.statistic))


def measure(
    reference: Sequence[Sample],
    own: Sequence[Sample],
    noise: Sequence[Noise],
    near_tie: float,
    ordinary: bool = False,
    drawn: bool = False,
) -> Measured:
    """Compare this run and the noise runs with the base, on this run's questions.

    `ordinary` runs generated their own answers, others replayed those of the reference run. If the
    run's questions were `drawn` at random, the noise runs are compared on the others as well.
    """
    asked = {(each.task, each.doc_id) for each in own}
    tasks = {each.task for each in own}

    def compared(
        first: Sequence[Sample], second: Sequence[Sample], rest: bool = False
    ) -> Differences:
        here = [each for each in second if each.task in tasks]
        wanted = [each for each in here if ((each.task, each.doc_id) in asked) is not rest]
        return differences(pair(first, wanted).pairs, near_tie, of_ordinary if ordinary else None)

    from_reference = compared(reference, own)
    replays = {each.name: compared(reference, each.samples) for each in noise}
    unused = {}
    for name, each in replays.items():
        if not from_reference.by_question.keys() <= each.by_question.keys():
            unused[name] = gettext(NOT_COMPARED if ordinary else NOT_REPLAYED)
        elif not each.finite:
            unused[name] = gettext(NOT_FINITE)
    replays = {name: each for name, each in replays.items() if name not in unused}
    samples = {each.name: each.samples for each in noise}
    base, measured, first = THE_REFERENCE, from_reference, reference
    # What can't be compared with the reference run is not comparable, whatever the base is.
    whole = bool(from_reference.by_question) and not from_reference.left_out
    if len(replays) > 1 and whole and not ordinary:
        base = min(replays, key=lambda name: replays[name].mean("squared"))
        first = samples[base]
        measured = compared(first, own)
        replays = {n: compared(first, samples[n]) for n in replays if n != base}
    for name, each in list(replays.items()):
        if each.summed != measured.summed:  # a sum is no noise for a difference per token
            why = gettext(
                "has no number of tokens for its choices, because its version recorded none"
            )
        elif not measured.by_question.keys() <= each.by_question.keys():
            why = (
                gettext(NOT_COMPARED)
                if base == THE_REFERENCE
                else gettext("can't be compared with {run} in all of these questions", run=base)
            )
        elif not each.finite:
            why = gettext(NOT_FINITE)
        else:
            continue
        unused[name] = why
        del replays[name]
    rest = {name: compared(first, samples[name], rest=True) for name in replays if drawn}
    return Measured(base, measured, replays, unused, rest)


def unasked_of(found: Measured, precise: Collection[str]) -> Unasked | None:
    """The noise in the questions that the draw left out; None if it tells nothing."""
    every = [each.by_question for each in found.unasked.values()]
    common = [key for key in (every[0] if every else ()) if all(key in each for each in every)]
    name, whole = found.statistic, all(each.finite for each in found.unasked.values())
    if (
        not common
        or not whole
        or any(getattr(e[key], name) is None for e in every for key in common)
    ):
        return None
    noise = [[max(getattr(each[key], name), NEGLIGIBLE) for key in common] for each in every]
    bars = [
        levels if run in precise else filled(levels, NEGLIGIBLE)
        for run, levels in zip(found.unasked, noise, strict=True)
    ]
    asked = Counter(task for task, _ in found.own.by_question)
    left = Counter(task for task, _ in common)
    share = {task: count / (count + left[task]) for task, count in asked.items()}
    return Unasked(
        noise,
        bars,
        [share[task] for task, _ in found.own.by_question],
        [share[task] for task, _ in common],
    )


def levels_of(found: Measured, noise: str, name: str) -> list[float]:
    """The difference of a noise run in each question of the run."""
    known = found.noise[noise].by_question
    return [max(getattr(known[key], name), NEGLIGIBLE) for key in found.own.by_question]


def unused_runs(found: Measured) -> str:
    """Return, in parentheses, why some noise runs are not used; empty if all are."""
    if not found.unused:
        return ""
    said = gettext("; ").join(f"{name} {reason}" for name, reason in found.unused.items())
    return gettext(" ({problems})", problems=said)


def evidence(found: Measured) -> list[str]:
    """Describe all differences, one clause for each run."""
    if not found.own.by_question:
        return []
    own = _said(found.own)
    if found.base == THE_REFERENCE:
        parts = [gettext("difference from the reference run: {differences}", differences=own)]
    else:
        parts = [gettext("difference from {run}: {differences}", run=found.base, differences=own)]
    parts += [
        gettext("noise ({run}): {differences}", run=name, differences=_said(each))
        for name, each in found.noise.items()
    ]
    parts += [
        gettext("noise run {name} {problem}", name=name, problem=reason)
        for name, reason in found.unused.items()
    ]
    return parts


def _said(found: Differences) -> str:
    every = found.by_question.values()
    tokens, flips = sum(each.tokens for each in every), sum(each.flips for each in every)
    parts = []
    if all(each.logits is not None for each in every):
        parts = [
            gettext("mean variance of logits {variance:.2g} nats²", variance=found.mean("logits")),
            gettext("mean KL {divergence:.2g}", divergence=found.mean("divergence")),
        ]
    parts += [
        gettext(
            "RMS {rms:.2g}, mean |Δ log p| {absolute:.2g}, mean Δ log p {signed:+.2g} nats",
            rms=math.sqrt(found.mean("squared")),
            absolute=found.mean("absolute"),
            signed=found.mean("signed"),
        ),
        gettext(
            "{flips} of {tokens:,} tokens are no longer the likeliest", flips=flips, tokens=tokens
        ),
    ]
    return gettext(", ").join(parts)
