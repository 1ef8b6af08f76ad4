"""Whether more questions stand out in one run than in runs of correct stacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runner.stats import ALPHA, means, shares

# How many times the next largest value a value must be to stand out. Runs of bfloat16 stacks, with
# their values multiplied by up to the factor, hardly ever do (docs/verdict.md, replay).
APART = 4.0


@dataclass(frozen=True)
class Unasked:
    """What the noise runs say of questions that the judged run, by a random draw, was not asked.

    `noise` and `bars` are as in `outliers`, on these questions. A question of each group was drawn
    with the same probability: `drawn` has it for each asked question, `left` for each other one.
    """

    noise: Sequence[Sequence[float]]
    bars: Sequence[Sequence[float]]
    drawn: Sequence[float]
    left: Sequence[float]


@dataclass(frozen=True)
class Outliers:
    """Questions in which one run stands out from all others.

    `own` is the number of those in which the judged run stands out, and `others` of those in which
    one of the `runs` noise runs does. `p` is the one-sided p value of `own`. `far` is the number of
    questions in which a noise run differs from all others as much as the judged run does in `own`.
    """

    own: int
    others: int
    runs: int
    p: float
    far: int

    @property
    def more(self) -> bool:
        """Whether the judged run stands out more often than an average noise run.

        Noise runs stand out from a run that differs little, or repeats questions exactly, in many
        questions, so those in which they differ as much are counted as well, at a level of 5 %.
        """
        share = 1 / (1 + self.runs)
        often = shares.at_most(self.far, self.own + self.far, 1 - share) <= ALPHA
        return self.own * self.runs > self.others or (self.own > 0 and often)


def outliers(
    differences: Sequence[float],
    noise: Sequence[Sequence[float]],
    factor: float,
    bars: Sequence[Sequence[float]] = (),
    usual: Sequence[float] = (),
    unasked: Unasked | None = None,
) -> Outliers:
    """Count the questions in which the judged run's difference, divided by `factor`, stands out.

    `noise` has the differences of each noise run, on the same questions, and `bars` what the others
    must exceed to stand out from that run, if that is more; `usual` is the same for the judged run.
    If a question's largest
    value stands out, each run is equally likely to have it if the judged run's differences are
    `factor` times those of another noise run, and the judged run is less likely if they are
    smaller. So the binomial test is exact, whatever the distributions.

    With `unasked`, a question is asked with probability s. Then, the judged run is one of 1 + R
    that may stand out, otherwise one of the R noise runs may, more often if anything because it has
    fewer others beside it. So if any run stands out, it is the judged one with a probability of at
    most s / (s + R).
    """
    kept = _distinct(noise)
    runs = [noise[place] for place in kept]
    heights = [bars[place] for place in kept] if bars else runs
    own = others = far = 0
    if len(kept) < 2:
        unasked = None  # one run always stands out from no other
    shares_drawn = unasked.drawn if unasked is not None else [1.0] * len(differences)
    found: list[float] = []  # the share of questions drawn, where a run stands out
    for place, each in enumerate(differences):
        value = each / factor
        levels, bar = [run[place] for run in runs], [height[place] for height in heights]
        loudest = max(range(len(runs)), key=levels.__getitem__)
        if value > APART * max(bar):
            own += 1
            found.append(shares_drawn[place])
        elif levels[loudest] > APART * max(value, 0.0, *bar[:loudest], *bar[loudest + 1 :]):
            others += 1
            found.append(shares_drawn[place])
        quiet = max(usual[place] if usual else each, *bar[:loudest], *bar[loudest + 1 :], 0.0)
        far += levels[loudest] > APART * factor * quiet
    if unasked is not None:
        found += _standing_out(unasked, kept)
    p = _at_least(own, [each / (each + len(runs)) for each in found])
    return Outliers(own, others, len(runs), p, far)


def _standing_out(unasked: Unasked, kept: Sequence[int]) -> list[float]:
    """The share drawn, for each question in which one of the noise runs `kept` stands out."""
    found = []
    for place, share in enumerate(unasked.left):
        levels = [unasked.noise[run][place] for run in kept]
        bars = [unasked.bars[run][place] for run in kept]
        loudest = max(range(len(kept)), key=levels.__getitem__)
        if levels[loudest] > APART * max(*bars[:loudest], *bars[loudest + 1 :], 0.0):
            found.append(share)
    return found


def _at_least(count: int, chances: Sequence[float]) -> float:
    """Probability that `count` or more of independent events with these probabilities occur."""
    import numpy as np

    if len({*chances}) < 2:
        share = chances[0] if chances else 0.0
        return shares.at_most(len(chances) - count, len(chances), 1 - share)
    number = np.ones(1)  # the probability of each number of events
    for chance in chances:
        number = np.convolve(number, (1 - chance, chance))
    return float(min(1.0, number[count:].sum()))


def _distinct(noise: Sequence[Sequence[float]]) -> list[int]:
    """Places of the noise runs without copies and without those that hardly differ.

    Such runs rarely stand out, so they would make the judged run look worse than it is.
    """
    levels = [means.mean(each) for each in noise]
    found: list[int] = []
    for place, (each, level) in enumerate(zip(noise, levels, strict=True)):
        copied = any(2 * sum(map(float.__eq__, each, noise[other])) > len(each) for other in found)
        if APART * level >= max(levels) and not copied:
            found.append(place)
    return found
