"""Tries the usual suspects on a bad run, one change at a time, until the loss disappears.

The suspects are the rungs of conf/ladder/PLATFORM.yaml. A rung first replays the bad run's answers:
if its numbers do not differ beyond noise, the change has no effect, and is ruled out without an
evaluation. Otherwise the questions are asked again with it, and the scores are compared. Scores may
be too few to tell; then numbers that another runtime confirms do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from runner.compare.comparison import compare
from runner.compare.sides import read_side
from runner.config import places
from runner.config.recorded import Recorded, recomposed
from runner.errors import UserError
from runner.evidence.samples import Sample
from runner.stats import ALPHA
from runner.why import evidence
from runner.why.ddmin import State
from runner.why.evidence import Shifts
from runner.why.found import Ask, Level
from runner.why.probes import Prober, Runs, other_batches
from runner.why.search import GROSS
from runner.why.switches import differences

GROUP, SUFFIX = "ladder", ".yaml"
RUNTIME, LENGTH = "engine.runtime", "engine.max_model_len"
MARGIN = 0.02
# What the evaluation of a rung adds to the name of its replay.
SCORES = "-scores"


@dataclass(frozen=True)
class Rung:
    """A change to try: overrides of `python -m runner`; `known` is what it is known for."""

    change: str
    overrides: tuple[str, ...]
    known: str = ""


@dataclass(frozen=True)
class Tried:
    """What became of a rung. `good` says that the bad run's fault disappears with it.

    `directory` is that of the evaluation, if there was one.
    """

    rung: Rung
    said: str
    good: bool = False
    directory: Path | None = None
    # Whether a score is lower than the bad run's.
    lower: bool = False


def read_ladder(name: str) -> list[Rung]:
    """Read conf/ladder/NAME.yaml, or a file of the user's own, which ends in `.yaml`.

    Raises:
        UserError: if there is none, or it is not a list of rungs.
    """
    folder = places.config_directory() / GROUP
    own = Path(name).expanduser()
    file = own if own.suffix == SUFFIX else folder / f"{name}{SUFFIX}"
    if not file.is_file():
        known = ", ".join(each.stem for each in sorted(folder.glob(f"*{SUFFIX}")))
        raise UserError(f"--ladder {name}: no such file, nor in conf/{GROUP}; known: {known}")
    try:
        content = OmegaConf.to_container(OmegaConf.load(file))
        assert isinstance(content, dict)
        return [
            Rung(
                str(each["change"]), tuple(map(str, each["overrides"])), str(each.get("known", ""))
            )
            for each in content["rungs"]
        ]
    except (AssertionError, KeyError, TypeError, OmegaConfBaseException, YAMLError) as error:
        raise UserError(
            f"{file}: must be `rungs`, a list of mappings with `change` and `overrides` ({error})"
        ) from error


class Climb:
    """Tries rungs on one bad run."""

    def __init__(
        self,
        bad: Recorded,
        directory: Path,
        runs: Runs,
        tell: Callable[[Tried], None],
        ahead: Callable[[Sequence[Level]], None] = lambda levels: None,
    ) -> None:
        """`ahead` is called with what is asked next, as in a search."""
        self._bad = bad
        self._directory = directory
        self._runs = runs
        self._tell = tell
        self._ahead = ahead
        self._prober = Prober(runs, bad, directory)
        # The bad run's own replay, and those of the rungs that changed the numbers, by number.
        self._base: Sequence[Sample] = ()
        self._noise: list[Shifts] = []
        self._measured: list[Shifts] = []
        self._replays: dict[int, Sequence[Sample]] = {}
        # Of these, the last one with another runtime.
        self._independent: int | None = None

    def climb(self, rungs: Sequence[Rung]) -> list[Tried]:
        """Try the rungs in their order, up to the first with significantly higher scores.

        If there is none, the first good one is a rung whose numbers are those of another runtime:
        two implementations that agree are right rather than the bad run.

        Raises:
            UserError: if the bad run can't be replayed.
        """
        own = Ask("bad", "the bad run again", {})
        other = Ask("noise", "noise: the bad run in other batches", other_batches(self._bad))
        prepared = [self._prepared(rung, number) for number, rung in enumerate(rungs, 1)]
        asks = tuple(each for each in prepared if isinstance(each, Ask))
        levels = [Level("the bad run and its noise", (own, other)), Level("changes", asks)]
        self._ahead(levels)
        self._prober.ahead(levels)
        base = self._prober.replay(own.name, own.changes, {})
        noisy = self._prober.replay(other.name, other.changes, {})
        if base.samples is None or noisy.samples is None:
            raise UserError(f"the bad run can't be replayed: {base.reason or noisy.reason}")
        self._base = base.samples
        noise = evidence.shifts(base.samples, noisy.samples)
        # A bad run that depends on its batches shows its fault, no noise: then scores alone tell.
        if noise and not evidence.alien(noise) and math.fsum(noise.values()) < GROSS * len(noise):
            self._noise, self._measured = [evidence.at_least(noise, base.dtype)], [noise]
        found: list[Tried] = []
        tries = enumerate(zip(rungs, prepared, strict=True))
        judged = (self._judged(number, *each) for number, each in tries)
        # On a cluster, each evaluation starts as soon as its replay is judged.
        for each in list(judged) if self._runs.side_by_side else judged:
            found.append(each if isinstance(each, Tried) else self._evaluated(each, len(rungs)))
            self._tell(found[-1])
            if found[-1].good:
                return found
        return self._agreeing(found)

    def _prepared(self, rung: Rung, number: int) -> Ask | Tried:
        """The replay of a rung, or why it is not tried."""
        try:
            changed = recomposed(self._bad, rung.overrides)
        except UserError as error:
            return Tried(rung, f"not possible: {'; '.join(error.problems)}")
        differ = differences(self._bad, changed, (None, None))
        if differ.asked:
            return Tried(rung, f"changes the questions, not tried: {'; '.join(differ.asked)}")
        if not differ.switches:
            return Tried(rung, "the bad run had this already")
        changes = {key: value for each in differ.switches for key, value in each.bad.items()}
        return Ask(f"rung-{number}", rung.change, changes)

    def _judged(self, number: int, rung: Rung, ask: Ask | Tried) -> Tried | tuple[Rung, Ask]:
        """Replay a rung: that it has no effect, or that its scores are needed."""
        if isinstance(ask, Tried):
            return ask
        replay = self._prober.replay(ask.name, ask.changes, {})
        if replay.samples is None:
            return Tried(rung, f"not possible: {replay.reason}")
        shift = evidence.shifts(self._base, replay.samples)
        # Longer prompts and answers change scores, but not the numbers along the same answers.
        if self._noise and LENGTH not in ask.changes and not evidence.alien(shift):
            excess = evidence.beyond(shift, self._noise, self._measured)
            if excess.within:
                return Tried(rung, f"no effect beyond noise ({excess.ratio:.2g} ×)")
        self._replays[number] = replay.samples
        if RUNTIME in ask.changes:
            self._independent = number
        self._runs.ahead([(f"{ask.name}{SCORES}", self._bad, ask.changes)])
        return rung, ask

    def _evaluated(self, judged: tuple[Rung, Ask], rungs: int) -> Tried:
        """Ask the questions again with a rung, and compare the scores."""
        rung, ask = judged
        done = self._runs.run(f"{ask.name}{SCORES}", self._bad, ask.changes)
        if done.reason:
            return Tried(rung, f"could not be evaluated: {done.reason}")
        return _scored(rung, rungs, done.directory, self._directory)

    def _agreeing(self, found: list[Tried]) -> list[Tried]:
        """Mark the first rung that agrees with another runtime, if there is one."""
        if self._independent is None or not self._noise or found[self._independent].lower:
            return found
        other = self._replays[self._independent]
        bad = evidence.shifts(other, self._base)
        for number, replay in self._replays.items():
            tried = found[number]
            if number == self._independent or tried.directory is None or tried.lower:
                continue
            side = evidence.side(evidence.shifts(other, replay), bad, self._noise, number + 1)
            if side.state is State.GOOD:
                said = (
                    f"{found[number].said}; its numbers are those of "
                    f"{found[self._independent].rung.change}, in {side.distinct - side.bad} of "
                    f"{side.distinct} questions"
                )
                marked = replace(found[number], said=said, good=True)
                return [*found[:number], marked, *found[number + 1 :]]
        return found


def _scored(rung: Rung, rungs: int, ours: Path, bad: Path) -> Tried:
    """Compare the scores with the bad run's; all rungs share the level."""
    comparison = compare(read_side("rung", ours), read_side("bad", bad), MARGIN)
    scores = [each for each in comparison.scores if each.leading and not each.subject]
    said = ", ".join(f"{each.name} {each.second:.3f} → {each.first:.3f}" for each in scores)
    higher = any(each.p_adjusted <= ALPHA / rungs for each in scores)
    p = min((each.p_adjusted for each in scores), default=1.0)
    how = "higher" if higher else "not significantly higher"
    limit = f"limit {ALPHA / rungs:.2g} for {rungs} changes"
    lower = any(each.drop < 0 for each in scores)  # the second is the bad run
    return Tried(rung, f"{said}, {how} (p = {p:.2g}, {limit})", higher, ours, lower)
