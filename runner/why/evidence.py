"""Whether a replay differs from the good run as the bad run does.

Every question has three numbers along the same answer: how far the probe, the bad run and correct
stacks (the noise) are from the good run. A question is on the side of the bad run if the probe is
nearer to it, on a logarithmic scale, than to the noise. Binomial tests then show whether more
questions are than noise explains, or fewer than half: they assume nothing about the sizes, which
spread over orders of magnitude.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runner.evidence.pairing import pair
from runner.evidence.replayed import Difference, Differences, Question, differences
from runner.evidence.samples import Sample
from runner.stats import means
from runner.stats.excess import Excess, excess, filled
from runner.why.ddmin import State

NEAR_TIE = 0.25
# Differences below this mean square, in nats², are rounding wherever they were measured
# (runner/verdict/replay.py).
NEGLIGIBLE = 1e-8
# Mean square, in nats², of a question with a log-probability that is infinite or not a number, and
# of one that can't be compared at all, because its tokens are others.
BROKEN, ALIEN = 1e8, 1e9
# Correct stacks differ although another number of requests does not: what rounding makes of it, by
# data type. A root mean square of 0.031 nats was published for a correct pair in bfloat16; float16
# has three bits more.
ROUNDING = {"bfloat16": 0.031**2, "float16": (0.031 / 8) ** 2}
# With fewer questions, one of them decides (runner/verdict/replay.py).
ENOUGH = 20
# A stack departs if it differs by more than this multiple of the noise (as verdict.replay.factor).
FACTOR = 3.0
# A question is distinct if the bad run differs this many times as much as the noise.
DISTINCT = 10.0
# Share of these questions that a correct stack may have on the side of the bad run, because its
# noise is larger than that of the noise runs. More are a fault even if they are not half of all:
# one of several causes damages some only.
STRAY = 0.25
# Questions of a probe: the most distinct, and others drawn at random. Few are enough if they
# agree; only a probe that they leave undecided is asked more.
CHOSEN, CONTROL = 48, 16
LOOKS = ((20, 4), (CHOSEN, CONTROL))
SEED = 1234
# Chance that any of a search's probes is taken for the other side.
ERROR = 0.05

Shifts = Mapping[Question, float]


@dataclass(frozen=True)
class Side:
    """What a probe shows: of `distinct` questions, `bad` are on the bad run's side.

    `p` is that of the binomial test for this state, and `allowed` the largest p at which the probe
    is decided.
    """

    state: State
    bad: int
    distinct: int
    p: float
    allowed: float


def shifts(base: Sequence[Sample], other: Sequence[Sample]) -> dict[Question, float]:
    """The difference of each question between two replays of the same answers.

    The mean variance of the differences of logits, in nats², or the mean square of those of
    log-probabilities where no distributions were recorded. BROKEN if it is not a finite number, and
    ALIEN for a question that `other` was asked, but with other tokens: it can't be compared.
    """
    asked = {(each.task, each.doc_id) for each in other}
    whole = differences(pair(base, base).pairs, NEAR_TIE).by_question.keys()
    found: Differences = differences(pair(base, other).pairs, NEAR_TIE)
    return {
        key: _bounded(found.by_question[key]) if key in found.by_question else ALIEN
        for key in whole
        if key in asked
    }


def squares(base: Sequence[Sample], other: Sequence[Sample]) -> dict[Question, float]:
    """As `shifts`, of log-probabilities alone, which every run records."""
    asked = {(each.task, each.doc_id) for each in other}
    found = differences(pair(base, other).pairs, NEAR_TIE).by_question
    return {
        key: min(max(each.squared, NEGLIGIBLE), BROKEN)
        for key, each in found.items()
        if key in asked and math.isfinite(each.squared)
    }


def _bounded(found: Difference) -> float:
    measured = found.squared if found.logits is None else found.logits
    if not (math.isfinite(found.squared) and math.isfinite(measured)):
        return BROKEN
    return min(max(measured, NEGLIGIBLE), BROKEN)


def broken(found: Shifts) -> int:
    """Number of questions with a log-probability that is infinite or not a number."""
    return sum(each == BROKEN for each in found.values())


def alien(found: Shifts) -> int:
    """Number of questions that can't be compared."""
    return sum(each == ALIEN for each in found.values())


def interval(found: Shifts) -> tuple[float, float] | None:
    """The 95 % interval of the mean difference; None if it has none."""
    values = list(found.values())
    if len(values) < 2 or max(values) >= BROKEN:
        return None
    _, bounds = means.t_interval(values)
    return bounds and (max(bounds[0], 0.0), bounds[1])


def flips(base: Sequence[Sample], other: Sequence[Sample]) -> tuple[int, int]:
    """Number of tokens that are no longer the likeliest, without a near-tie, and of all tokens."""
    found = differences(pair(base, other).pairs, NEAR_TIE).by_question.values()
    return sum(each.flips for each in found), sum(each.tokens for each in found)


def at_least(noise: Shifts, dtype: str) -> Shifts:
    """The noise of engines of this data type, of which a single run may show none.

    If only a minority of the questions differs, all have at least what rounding makes of correct
    stacks.
    """
    if 2 * sum(each > NEGLIGIBLE for each in noise.values()) < len(noise):
        least = ROUNDING.get(dtype, NEGLIGIBLE)
        return {key: max(each, least) for key, each in noise.items()}
    return dict(zip(noise, filled(list(noise.values()), NEGLIGIBLE), strict=True))


def beyond(found: Shifts, noise: Sequence[Shifts], measured: Sequence[Shifts]) -> Excess:
    """Compare differences with those of correct stacks on the same questions.

    `measured` are the differences of the noise runs, before `at_least`.
    """
    keys = [key for key in found if all(key in each for each in noise)]
    runs = [[each[key] for key in keys] for each in noise]
    loudest = max(runs, key=math.fsum)
    own = [[each[key] for key in keys] for each in measured]
    # With one run, too: few gross differences must not look like none.
    return excess([found[key] for key in keys], loudest, FACTOR, own, bars=runs)


def distinct(bad: Shifts, noise: Sequence[Shifts]) -> list[Question]:
    """The questions in which the bad run clearly differs from the noise, the clearest first."""
    ratios = {
        key: shift / max(each[key] for each in noise)
        for key, shift in bad.items()
        if all(key in each for each in noise)
    }
    return sorted((key for key in ratios if ratios[key] > DISTINCT), key=lambda key: -ratios[key])


def choose(
    clear: Sequence[Question],
    flipped: frozenset[Question],
    every: Sequence[Question],
    most: int = CHOSEN,
    control: int = CONTROL,
) -> dict[str, list[int]]:
    """The documents for the probes, by task: `most` distinct ones, and `control` others.

    First those whose scores flipped, then those with the largest differences, then others at
    random; at least one of each task.
    """
    ordered = sorted(clear, key=lambda key: key not in flipped)
    chosen = ordered[:most]
    rest = [key for key in every if key not in set(chosen)]
    random.Random(SEED).shuffle(rest)
    chosen += rest[:control]
    covered = {task for task, _ in chosen}
    for key in every:
        if key[0] not in covered:
            chosen.append(key)
            covered.add(key[0])
    found: dict[str, list[int]] = {}
    for task, document in sorted(chosen):
        found.setdefault(task, []).append(document)
    return found


def allowed(number: int) -> float:
    """The error that probe `number` may have, from 1 on; all of them together have ERROR."""
    return ERROR * 6 / (math.pi * number) ** 2


def side(probe: Shifts, bad: Shifts, noise: Sequence[Shifts], number: int) -> Side:
    """Decide on which side a probe is, by the distinct questions."""
    from scipy.stats import binomtest

    known = [key for key in distinct(bad, noise) if key in probe]
    on_bad = 0
    for key in known:
        middle = math.sqrt(bad[key] * max(each[key] for each in noise))
        on_bad += probe[key] > middle
    level = allowed(number) / len(LOOKS)
    if not known:
        return Side(State.UNRESOLVED, 0, 0, 1.0, level)
    more = float(binomtest(on_bad, len(known), STRAY, alternative="greater").pvalue)
    fewer = float(binomtest(on_bad, len(known), 0.5, alternative="less").pvalue)
    state = State.UNRESOLVED
    if min(more, fewer) <= level:
        state = State.BAD if more < fewer else State.GOOD
    return Side(state, on_bad, len(known), min(more, fewer), level)
