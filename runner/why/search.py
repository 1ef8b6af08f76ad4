"""Searches for the smallest sets of settings that make a run differ from a good one.

1. The good run's answers are replayed with its own settings, and with another number of concurrent
   requests, which shows the noise; then with all settings of the bad run.
2. If the bad run differs by more than the noise, `ddmin` finds a smallest set of settings that
   does, on the questions in which the bad run differs most clearly.
3. The bad run without this set is replayed. If it still differs, there is another cause: again
   from 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runner.evidence.replayed import Question
from runner.evidence.samples import Sample
from runner.stats.excess import Excess
from runner.why import evidence
from runner.why.ddmin import Changes, State, ddmin
from runner.why.evidence import STRAY, Shifts, Side
from runner.why.found import Ask, Cause, Found, Level, Probe
from runner.why.probes import Replay
from runner.why.switches import Switch

DTYPE = "engine.dtype"
# Types whose rounding may differ although both are correct.
ROUNDING = frozenset({"auto", "float32", "bfloat16", "float16"})
# Mean square, in nats², that rounding does not explain (runner/verdict/replay.py: GROSS).
GROSS = 0.3**2
# What the second look at a probe adds to its name.
MORE = "-more"
# Searches for further causes end here.
CAUSES = 4
# Questions in which a cause is traced through the network.
TRACED = 12


# Runs a probe: its name, changes by key, and questions.
Run = Callable[[str, Mapping[str, Any], Mapping[str, list[int]]], Replay]
Tell = Callable[[Probe], None]
# Called with what is asked next; what was asked before and is not answered is not needed any more.
Ahead = Callable[[Sequence[Level]], None]


class Search:
    """One search, with the replays that it compares."""

    def __init__(
        self,
        switches: Sequence[Switch],
        run: Run,
        tell: Tell,
        batches: Mapping[str, Any],
        flipped: frozenset[Question] = frozenset(),
        recorded: Sequence[Sample] = (),
        ahead: Ahead = lambda levels: None,
    ) -> None:
        """`batches` are changes that give the good run other batches, which shows the noise.

        `flipped` are the questions whose scores differ, and `recorded` the good run's own samples.
        """
        self.found = Found()
        self._switches = switches
        self._run = run
        self._tell = tell
        self._ahead = ahead
        self._batches = batches
        self._flipped = flipped
        self._base: Sequence[Sample] = ()
        self._recorded = recorded
        self._dtype = ""
        self._again: list[Sequence[Sample]] = []
        # Of the noise runs: what counts as their differences, and what was measured.
        self._noise: list[Shifts] = []
        self._measured: list[Shifts] = []
        self._asked = 0

    def search(self) -> Found:
        """Search until all causes are found, or no further probe can tell."""
        every = tuple(range(len(self._switches)))
        noise = self._noise_runs()
        whole = Ask("bad", "all settings of the bad run", self._changes(every))
        self._ahead([Level("the good run and its noise", noise), Level("the bad run", (whole,))])
        if not self._measure_noise(*noise):
            return self.found
        state, bad = self._whole(whole, every)
        rest = every
        while state is State.BAD and len(self.found.causes) < CAUSES:
            cause = self._smallest(rest, bad)
            if cause is None:
                break
            self.found.causes.append(cause)
            rest = tuple(each for each in rest if each not in cause.switches)
            if not rest:
                state = State.GOOD
                break
            without = "the bad run without " + " and without ".join(
                _numbered(each.switches) for each in self.found.causes
            )
            whole = Ask(f"without-{len(self.found.causes)}", without, self._changes(rest))
            self._ahead([Level("the rest", (whole,))])
            state, bad = self._whole(whole, rest)
        self.found.rest = state
        return self.found

    def _noise_runs(self) -> tuple[Ask, ...]:
        """The good run with its own settings, and where correct stacks may differ."""
        asks = [Ask("good", "the good run again", {})]
        same = dict(self._batches)
        wide = {**same, DTYPE: self._other_dtype} if self._other_dtype else {}
        for name, changes in (("noise", same), ("noise-dtype", wide)):
            if changes:
                asks.append(Ask(name, f"noise: the good run with {_said(changes)}", changes))
        return tuple(asks)

    def _measure_noise(self, own_settings: Ask, *others: Ask) -> bool:
        """Replay the good run, and note how much correct stacks differ from it."""
        good = self._run(own_settings.name, {}, {})
        if good.samples is None:
            self._add(Probe(own_settings.name, own_settings.purpose, (), *_unresolved(good)))
            return False
        self._base, self._dtype = good.samples, good.dtype
        own = evidence.shifts(self._base, self._base)
        zero = dict.fromkeys(own, 0.0)
        self._add(self._probe(own_settings.name, own_settings.purpose, (), State.GOOD, good, zero))
        for ask in others:
            name, purpose, changes = ask.name, ask.purpose, ask.changes
            said = _said(changes)
            replay = self._run(name, changes, {})
            if replay.samples is None:
                self._add(Probe(name, purpose, (), *_unresolved(replay)))
                if DTYPE in changes:
                    self._round_to(str(changes[DTYPE]))
                continue
            shift = evidence.shifts(self._base, replay.samples)
            mean = _mean(shift)
            if not shift or evidence.alien(shift) or mean > GROSS:
                self.found.notes.append(
                    f"{said} alone differs {_by(mean)}, which rounding does not explain, so it "
                    "does not count as noise"
                )
                self._add(self._probe(name, purpose, (), State.UNRESOLVED, replay, shift))
                continue
            floored = evidence.at_least(shift, replay.dtype)
            if _mean(floored) > 100 * mean:
                said += (
                    f" (none; {math.sqrt(_mean(floored)):.2g} nats as published for correct stacks)"
                )
            self._noise.append(floored)
            self._measured.append(shift)
            self.found.noise.append(said)
            if DTYPE in changes:
                self.found.rounding = math.sqrt(mean)
            self._again.append(replay.samples)
            self._add(self._probe(name, purpose, (), State.GOOD, replay, shift))
        self._compare_with_recorded()
        return bool(self._noise)

    def _round_to(self, dtype: str) -> None:
        """Add the rounding of a data type whose noise can't be measured here."""
        least = evidence.ROUNDING.get(dtype)
        if least is not None and self._noise:
            self._noise.append(dict.fromkeys(self._noise[0], least))
            self._measured.append(self._noise[-1])
            said = f"{math.sqrt(least):.2g} nats as published for correct stacks in {dtype}"
            self.found.noise.append(f"{said}, because it could not be measured")
            self.found.rounding = math.sqrt(least)

    def _compare_with_recorded(self) -> None:
        """Note if the good run's settings compute something else today than in the good run."""
        if not self._recorded:
            return
        own = evidence.squares(self._recorded, self._base)
        noise = [evidence.squares(self._base, each) for each in self._again]
        if not own or not noise:
            return
        floored = [evidence.at_least(each, self._dtype) for each in noise]
        found = evidence.beyond(own, floored, noise)
        if found.exceeds or evidence.alien(own):
            self.found.notes.append(
                "the good run's settings compute something else today than in the good run itself "
                f"({_by(_mean(own))}): its software, its machine or a file has changed, and all "
                "probes are compared with what they compute today"
            )

    @property
    def _other_dtype(self) -> str:
        """The bad run's data type, if it differs by rounding only."""
        values = self._values(DTYPE)
        return str(values[1]) if values and ROUNDING.issuperset(values) else ""

    def _values(self, key: str) -> tuple[Any, ...]:
        """The values of both runs for a key; none if it does not differ."""
        changes = (change for each in self._switches for change in each.changes)
        return next(((each.good, each.bad) for each in changes if each.key == key), ())

    def _whole(self, ask: Ask, switches: Changes) -> tuple[State, Shifts]:
        """Replay all questions, and compare their differences with the noise."""
        name, purpose = ask.name, ask.purpose
        replay = self._run(name, ask.changes, {})
        if replay.samples is None:
            self._add(Probe(name, purpose, switches, *_unresolved(replay)))
            return State.UNRESOLVED, {}
        shift = evidence.shifts(self._base, replay.samples)
        found = evidence.beyond(shift, self._noise, self._measured)
        state, reason = _judged(shift, found)
        self._add(self._probe(name, purpose, switches, state, replay, shift, None, found, reason))
        return state, shift

    def _smallest(self, switches: Changes, bad: Shifts) -> Cause | None:
        """The smallest subset that differs as all of them do; None if none could be told."""
        found = evidence.distinct(bad, self._noise)
        looks = [
            evidence.choose(found, self._flipped, list(bad), *sizes) for sizes in evidence.LOOKS
        ]
        round_ = len(self.found.causes) + 1
        probes: dict[Changes, Probe] = {}

        def asks(subset: Changes) -> list[Ask]:
            name = f"{round_}-{'+'.join(str(each + 1) for each in subset)}"
            changes, purpose = self._changes(subset), _numbered(subset)
            return [
                Ask(each, purpose, changes, questions)
                for each, questions in zip((name, f"{name}{MORE}"), looks, strict=True)
            ]

        def ahead(among: Changes, subsets: Sequence[Changes]) -> None:
            title = f"cause {round_}, among {_numbered(among)}"
            self._ahead([Level(title, tuple(asks(each)[0] for each in subsets))])

        def test(subset: Changes) -> State:
            self._asked += 1
            for ask in asks(subset):
                name = ask.name
                replay = self._run(name, ask.changes, ask.questions)
                probe = self._decided(name, subset, replay, bad)
                if probe.state is not State.UNRESOLVED or replay.samples is None:
                    break
            probes[subset] = probe
            self._add(probe)
            return probe.state

        if len(found) < _enough(self._asked + 1):
            self.found.notes.append(
                f"only {len(found)} questions show the difference, too few to search by"
            )
            return None
        smallest = ddmin(switches, test, ahead)
        if smallest not in probes:  # all of them, none of which could be left out
            ahead(smallest, [smallest])
            test(smallest)
        if probes[smallest].state is not State.BAD:
            self.found.notes.append(
                f"on the questions that differ most, the difference did not show again with "
                f"{_numbered(smallest)}, so its cause can't be searched"
            )
            return None
        without = [tuple(each for each in smallest if each != one) for one in smallest]
        minimal = all(_without_effect(probes[each]) for each in without if each)
        few = evidence.choose(found, self._flipped, list(bad), TRACED, control=0)
        return Cause(smallest, probes[smallest], minimal, len(found), len(bad), few)

    def _decided(self, name: str, subset: Changes, replay: Replay, bad: Shifts) -> Probe:
        """The probe of a part of the settings, decided by the questions that it was asked."""
        purpose = _numbered(subset)
        if replay.samples is None:
            return Probe(name, purpose, subset, *_unresolved(replay))
        shift = evidence.shifts(self._base, replay.samples)
        side = evidence.side(shift, bad, self._noise, self._asked)
        return self._probe(name, purpose, subset, side.state, replay, shift, side)

    def _probe(
        self,
        name: str,
        purpose: str,
        switches: Changes,
        state: State,
        replay: Replay,
        shift: Shifts,
        side: Side | None = None,
        excess: Excess | None = None,
        reason: str = "",
    ) -> Probe:
        """A probe with a result."""
        flips, tokens = evidence.flips(self._base, replay.samples or ())
        return Probe(
            name,
            purpose,
            switches,
            state,
            str(replay.directory),
            replay.command,
            _mean(shift),
            side,
            excess,
            reason,
            evidence.interval(shift),
            flips,
            tokens,
        )

    def _changes(self, switches: Changes) -> dict[str, Any]:
        return {key: value for each in switches for key, value in self._switches[each].bad.items()}

    def _add(self, probe: Probe) -> None:
        self.found.probes.append(probe)
        self._tell(probe)


def _without_effect(probe: Probe) -> bool:
    """Whether a probe is good and shows no part of the difference either."""
    side = probe.side
    return probe.state is State.GOOD and side is not None and side.bad <= STRAY * side.distinct


def _judged(shift: Shifts, found: Excess) -> tuple[State, str]:
    """The state of a replay of all questions, and a reason where the excess alone does not say."""
    n = len(shift)
    if count := evidence.alien(shift):
        return State.BAD, (
            f"{count} of {n} questions can't be compared: they have other tokens than in the good "
            "run (a truncated prompt, another tokenizer or image size), or no log-probabilities"
        )
    if count := evidence.broken(shift):  # few of them are no significant mean
        return State.BAD, (
            f"{count} of {n} questions have log-probabilities that are infinite or not a number"
        )
    if n < evidence.ENOUGH:
        return State.UNRESOLVED, f"too few questions: {n}, at least {evidence.ENOUGH} needed"
    if found.exceeds:
        return State.BAD, ""
    if found.within:
        return State.GOOD, ""
    return State.UNRESOLVED, (
        f"{found.ratio:.2g} × the noise, not significantly more than {found.factor:g} ×, but up to "
        f"{found.upper:.2g} × can't be ruled out (95 %); ask more questions"
    )


def _by(mean: float) -> str:
    return f"by {math.sqrt(mean):.2g} nats" if mean < evidence.BROKEN else "in other tokens or NaN"


def _said(changes: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in changes.items())


def _numbered(switches: Changes) -> str:
    """For example `settings 2, 5`: numbers from 1, as every page lists them."""
    noun = "setting" if len(switches) == 1 else "settings"
    return f"{noun} {', '.join(str(each + 1) for each in switches)}"


def _enough(number: int) -> int:
    """Questions that must agree for probe `number` to be decided."""
    return math.ceil(-math.log2(evidence.allowed(number)))


def _mean(shift: Shifts) -> float:
    """Mean over questions; infinite if one has no finite difference."""
    if evidence.broken(shift) or evidence.alien(shift):
        return math.inf
    return math.fsum(shift.values()) / len(shift) if shift else math.nan


def _unresolved(replay: Replay) -> tuple[State, str, str, None, None, None, str]:
    """The fields of a probe that has no result, from its state on."""
    return (
        State.UNRESOLVED,
        str(replay.directory),
        replay.command,
        None,
        None,
        None,
        replay.reason,
    )
