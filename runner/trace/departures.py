"""Which modules differ by more than noise, and the first of them whose inputs do not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import accumulate

from runner.evidence.sketches import PHASES
from runner.stats import means
from runner.stats.several import holm
from runner.trace.differences import EPSILON, Difference

# Differences up to this multiple of the noise are no departure.
FACTOR = 3.0
# Probability of any false departure in a trace, over all modules.
LEVEL = 0.01
# With fewer questions, the test has no use.
ENOUGH = 4
# Stands in for the ratio of a module that returns more NaN or infinite values in B.
BROKEN = 1e6
# The smallest noise, at the first module: what other orders of summation do in float32, and what
# rounding an output does in 16 bits, whose error has a root mean square of 0.2 to 0.3 of EPSILON.
# Two correct engines can differ by it where one engine, in other batches, repeats itself exactly.
FLOAT32, ROUNDED = 1e-6, 1 / 4
# Independent errors of the modules before it that differ at all add in quadrature; about one in
# three rounds anew. With this, correct pairs of stacks had at most 2 × the noise (docs/trace.md).
MODULES = 3
# What a module computes reaches another within this many.
REACH = 6


@dataclass(frozen=True)
class Module:
    """One module in one phase, judged.

    `difference` and `noise` are root mean squares over all questions; the noise is at least what
    rounding does. `ratio` is the geometric mean over questions of their ratio. `p` is the
    Holm-adjusted probability of such a ratio if the true one is at most FACTOR. `alone` says that
    it differs and what follows does not, so the two runtimes compute other things by this name.
    """

    module: str
    phase: str
    dtype: str
    difference: float
    noise: float
    ratio: float
    p: float
    questions: int
    rows: int
    cosine: float
    largest: float
    broken: tuple[int, int]
    alone: bool = False

    @property
    def departs(self) -> bool:
        return self.p < LEVEL and not self.alone


class Ending(str, Enum):
    """What a trace has found."""

    ORIGIN = "origin"
    GRADUAL = "gradual"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Found:
    """All judged modules in the order of execution, and the first that departs.

    `before` is the largest ratio of the modules before it. For the ending ORIGIN, its own is
    FACTOR times as large; for GRADUAL, it is not. Then `jump` is the departing module that exceeds
    all before it, which have at most `before_jump`, by the largest multiple, if that is at least
    FACTOR.
    """

    ending: Ending
    modules: tuple[Module, ...]
    first: Module | None = None
    before: float = 1.0
    jump: Module | None = None
    before_jump: float = 1.0


def found(
    between: Sequence[Difference],
    noise: Sequence[Difference],
    same_runtime: bool = True,
    noise_dtype: bool = True,
    unseen: Mapping[str, Sequence[int]] | None = None,
) -> Found:
    """Judge each module that both traces of A have; in the order of `between`.

    Modules of two runtimes can have a name, but not their meaning, in common. Without
    `noise_dtype`, rounding to B's data type is no noise. Modules at the places `unseen`, by phase,
    are not in `between`, but may round in another way; what a phase computes reaches later ones.
    """
    known = {each.key: each for each in noise}
    differing: dict[str, int] = {}
    hidden = _until(unseen or {})
    judged = []
    for each in between:
        if each.key in known:
            places = {*differing.values(), *hidden[each.phase]}
            earlier = sum(place < each.place for place in places)
            dtype = each.dtype if noise_dtype else known[each.key].dtype
            judged.append(judge(each, known[each.key], floor(dtype, earlier)))
        if any(each.relative.values()):
            differing[each.module] = each.place
    judged = [each for each in judged if each.questions >= ENOUGH]
    adjusted = holm([each.p for each in judged])
    modules = tuple(replace(each, p=p) for each, p in zip(judged, adjusted, strict=True))
    if not same_runtime:
        modules = tuple(_with_followers(modules, place) for place in range(len(modules)))
    departing = [place for place, each in enumerate(modules) if each.departs]
    if not departing:
        return Found(Ending.NOTHING, modules)
    ratios = [1.0 if each.alone else each.ratio for each in modules]
    before = list(accumulate(ratios, max, initial=1.0))
    first = departing[0]
    if ratios[first] >= FACTOR * before[first]:
        return Found(Ending.ORIGIN, modules, modules[first], before[first])
    # Its input may differ already, and no module behind it is the first that departs.
    gradual = Found(Ending.GRADUAL, modules, modules[first], before[first])
    jump = max(departing, key=lambda place: ratios[place] / before[place])
    if ratios[jump] < FACTOR * before[jump]:
        return gradual
    return replace(gradual, jump=modules[jump], before_jump=before[jump])


def _until(unseen: Mapping[str, Sequence[int]]) -> dict[str, set[int]]:
    """The places that are unseen in each phase or in one before it."""
    found: dict[str, set[int]] = {}
    places: set[int] = set()
    for phase in PHASES:
        places = places.union(unseen.get(phase, ()))
        found[phase] = places
    return found


def floor(dtype: str, before: int) -> float:
    """The smallest noise of an output behind so many modules that differ."""
    least = max(FLOAT32, EPSILON.get(dtype, 0.0) * ROUNDED)
    return least * math.sqrt(1 + before / MODULES)


def _with_followers(modules: Sequence[Module], place: int) -> Module:
    """A module, marked as alone if it departs and none of those that follow it does."""
    each = modules[place]
    following = [
        other for other in modules[place + 1 : place + 1 + REACH] if other.phase == each.phase
    ]
    alone = each.departs and bool(following) and not any(other.departs for other in following)
    return replace(each, alone=alone)


def judge(each: Difference, noise: Difference, least: float) -> Module:
    """A module with its unadjusted p; its noise is at least `least`."""
    labels = _asked(each, noise)
    common = _common(each, noise, least)
    logs = [math.log(ratio) for ratio in ratios(each, noise, least)]
    return Module(
        module=each.module,
        phase=each.phase,
        dtype=each.dtype,
        difference=_rms([each.relative[label] for label in labels]),
        noise=common,
        ratio=_ratio(logs, _breaks(each)),
        p=0.0 if _breaks(each) else _p(logs),
        questions=len(labels),
        rows=each.rows,
        cosine=each.cosine,
        largest=each.largest,
        broken=each.broken,
    )


def ratios(each: Difference, noise: Difference, least: float) -> list[float]:
    """The difference of each question in units of its noise, which is at least `least`.

    A question's noise is at least that of all questions together: one that happens to repeat
    exactly says nothing about another stack.
    """
    common = _common(each, noise, least)
    return [
        max(each.relative[label], least) / max(noise.relative[label], common)
        for label in _asked(each, noise)
    ]


def _asked(each: Difference, noise: Difference) -> list[str]:
    return [label for label in each.relative if label in noise.relative]


def _common(each: Difference, noise: Difference, least: float) -> float:
    """The noise of all questions together."""
    return max(_rms([noise.relative[label] for label in _asked(each, noise)]), least)


def _ratio(logs: Sequence[float], broken: bool) -> float:
    if broken:
        return BROKEN
    return math.exp(means.mean(logs)) if logs else 1.0


def _breaks(each: Difference) -> bool:
    """Whether the second trace has more NaN or infinite values than the first.

    The noise run does not matter: it can overflow because it has B's data type.
    """
    return each.broken[1] > each.broken[0]


def _p(logs: Sequence[float]) -> float:
    """One-sided p of a true mean of at most log(FACTOR), by Student's t."""
    if len(logs) < ENOUGH:
        return 1.0
    above = means.mean(logs) - math.log(FACTOR)
    stderr = means.standard_error(logs)
    if stderr == 0:
        return 0.0 if above > 0 else 1.0
    return means.above_zero(above, stderr, len(logs) - 1)


def _rms(values: Sequence[float]) -> float:
    return math.sqrt(math.fsum(value**2 for value in values) / len(values)) if values else 0.0
