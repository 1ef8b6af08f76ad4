"""The search on made-up engines (tests/searched.py): what it finds among random settings."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runner.evidence.samples import Sample
from runner.why import evidence, findings
from runner.why.ddmin import State
from runner.why.evidence import Shifts
from runner.why.found import Found
from runner.why.probes import Replay
from runner.why.result import Why, result
from runner.why.search import Search
from runner.why.switches import Change, Cost, Differences, Switch
from tests.searched import Damage, Engines, SideBySide

SEEDS = range(20)
KINDS = ("one", "interaction", "two", "none")
OTHER = {"engine.window": 1}


def searched(engines: Engines, switches: Sequence[Switch] = ()) -> Found:
    return Search(switches or engines.switches, engines.run, lambda probe: None, OTHER).search()


def why(engines: Engines, found: Found) -> Why:
    return result("good", "bad", Differences(tuple(engines.switches)), found, engines.starts)


def sets(found: Found) -> list[set[int]]:
    return [set(each.switches) for each in found.causes]


def named(found: Found, name: str) -> State:
    (state,) = (each.state for each in found.probes if each.name == name)
    return state


@dataclass(frozen=True)
class Case:
    """A search that has ended, and the causes that it should have found."""

    engines: Engines
    causes: list[set[int]]
    found: Found

    @property
    def right(self) -> bool:
        return sorted(map(sorted, sets(self.found))) == sorted(map(sorted, self.causes))


@cache
def case(kind: str, seed: int) -> Case:
    """12 to 24 settings, of which a third rounds otherwise, and damage of 6 to 60 times the noise
    in a fifth of the questions or more."""
    drawn = random.Random(f"{kind} {seed}")
    n = drawn.randint(12, 24)
    first, second = drawn.sample(range(n), 2)
    causes = {
        "one": [{first}],
        "interaction": [{first, second}],
        "two": [{first}, {second}],
        "none": [],
    }[kind]
    damages = [
        Damage(
            frozenset(each),
            math.exp(drawn.uniform(math.log(6), math.log(60))),
            drawn.uniform(0.2, 1.0),
        )
        for each in causes
    ]
    rounding = frozenset(drawn.sample(range(n), n // 3))
    engines = Engines(n, damages, seed, rounding=rounding)
    return Case(engines, causes, searched(engines))


@pytest.mark.slow
def test_exactly_the_causes_are_found() -> None:
    every = [(kind, seed) for kind in KINDS for seed in SEEDS]
    wrong = [each for each in every if not case(*each).right]
    assert len(wrong) <= 0.05 * len(every), wrong


@pytest.mark.slow
def test_probes_that_run_side_by_side_give_the_same_result() -> None:
    unneeded = 0
    for kind, seed in zip(itertools.cycle(KINDS), SEEDS, strict=False):
        one = case(kind, seed)
        engines = replace(one.engines, ran=[])
        at_once = SideBySide(engines)
        found = Search(
            engines.switches,
            at_once.run,
            lambda probe: None,
            OTHER,
            ahead=at_once.ahead,
        ).search()
        assert repr(found) == repr(one.found)
        unneeded += len(at_once.unneeded)
    assert unneeded > 0


def test_settings_without_effect_end_in_nothing_beyond_noise() -> None:
    cases = [case("none", seed) for seed in SEEDS]
    said = [findings.headline(why(each.engines, each.found)) for each in cases]
    silent = sum(each.startswith("Nothing departs beyond noise") for each in said)
    assert silent >= 0.95 * len(cases)
    assert all(named(each.found, "bad") is not State.UNRESOLVED for each in cases)


@pytest.mark.slow
def test_engine_starts_for_one_cause() -> None:
    for seed in SEEDS:
        engines = case("one", seed).engines
        assert engines.starts <= 2 * math.ceil(math.log2(engines.n)) + 4, seed


@pytest.mark.slow
def test_what_is_left_is_measured() -> None:
    for seed in SEEDS:
        found = case("one", seed).found
        assert found.rest is State.GOOD
        assert [each.name for each in found.probes][:3] == ["good", "noise", "bad"]
        assert found.probes[-1].name == "without-1"
        assert len({each.name for each in found.probes}) == len(found.probes)


def state_of(share: float, seed: int, number: int) -> State:
    """The state of a single probe: with the damage of the bad run in a share of the questions.

    The noise of the bad run's and the probe's stacks is a third above that of the noise runs.
    """
    generator = np.random.default_rng(seed)
    n = 64

    def noise(loud: float = 1.0) -> NDArray[np.float64]:
        tails: NDArray[np.float64] = generator.standard_t(4, size=n).clip(-4, 4)
        return loud * np.exp(0.5 * tails)

    hit = 40.0**2 * np.exp(0.6 * generator.normal(size=n)) * (generator.random(n) < 0.6)
    runs = [_shifts(noise()), _shifts(noise())]
    bad = _shifts(noise(1.33) + hit)
    probe = _shifts(noise(1.33) + hit * (generator.random(n) < share))
    return evidence.side(probe, bad, runs, number).state


def _shifts(values: NDArray[np.float64]) -> Shifts:
    return {("t", number): float(value) for number, value in enumerate(values)}


@pytest.mark.parametrize("number", [1, 4])
def test_a_probe_is_rarely_taken_for_the_other_side(number: int) -> None:
    """At the stated level; half of the damaged questions are not taken for noise."""
    tries, level = 400, evidence.allowed(number) / len(evidence.LOOKS)
    most = tries * level + 3 * math.sqrt(tries * level)
    healthy = [state_of(0.0, seed, number) for seed in range(tries)]
    faulty = [state_of(1.0, seed, number) for seed in range(tries)]
    half = [state_of(0.5, seed, number) for seed in range(tries)]
    assert healthy.count(State.BAD) <= most
    assert faulty.count(State.GOOD) <= most
    assert healthy.count(State.GOOD) >= 0.95 * tries
    assert faulty.count(State.BAD) >= 0.95 * tries
    assert half.count(State.BAD) >= 0.5 * tries
    assert half.count(State.GOOD) <= 0.05 * tries


@pytest.mark.parametrize("on_bad", range(0, 33, 4))
def test_levels_are_those_of_the_binomial_distribution(on_bad: int) -> None:
    """If each question is on the bad run's side by a chance of a quarter or a half."""
    from scipy.stats import binom

    noise = {("t", place): 1.0 for place in range(32)}
    bad = dict.fromkeys(noise, 100.0)
    probe = {key: 50.0 if key[1] < on_bad else 1.0 for key in noise}
    for number in (1, 5):
        side = evidence.side(probe, bad, [noise], number)
        assert (side.bad, side.distinct, side.allowed) == (on_bad, 32, evidence.allowed(number) / 2)
        if side.state is State.BAD:
            assert binom.sf(on_bad - 1, 32, 0.25) <= side.allowed
        elif side.state is State.GOOD:
            assert binom.cdf(on_bad, 32, 0.5) <= side.allowed
        else:
            assert binom.sf(on_bad - 1, 32, 0.25) > side.allowed < binom.cdf(on_bad, 32, 0.5)


def test_the_levels_of_all_probes_sum_to_the_stated_error() -> None:
    levels = [evidence.allowed(number) for number in range(1, 10_000)]
    assert 0.999 * evidence.ERROR < sum(levels) <= evidence.ERROR


def test_probes_that_do_not_start_are_unresolved_and_the_cause_is_found() -> None:
    """Setting 3 is rejected without setting 12, which is in the other half."""
    engines = Engines(16, [Damage(frozenset({9}), 20)], broken=lambda on: 3 in on and 12 not in on)
    found = searched(engines)
    assert sets(found) == [{9}]
    unresolved = [each for each in found.probes if each.state is State.UNRESOLVED]
    assert unresolved and all(each.reason == "engine.extra: rejected" for each in unresolved)
    assert ("settings 1, 2, 3, 4, 5, 6, 7, 8", "engine.extra: rejected") in why(
        engines, found
    ).untested


def test_if_no_part_starts_it_is_not_said_that_all_are_needed() -> None:
    engines = Engines(4, [Damage(frozenset({2}), 20)], broken=lambda on: 0 < len(on) < 4)
    found = searched(engines)
    assert sets(found) == [{0, 1, 2, 3}]
    page = why(engines, found)
    assert "only together" not in findings.headline(page)
    assert "could not be told" in " ".join(findings.findings(page))


def test_an_interaction_is_said_to_show_only_together() -> None:
    engines = Engines(6, [Damage(frozenset({1, 4}), 20)])
    found = searched(engines)
    assert findings.headline(why(engines, found)) == (
        "engine.extra.s1: false → true and engine.extra.s4: false → true make the difference, but "
        "only together"
    )


@pytest.mark.parametrize("broken", ["good", "noise", "bad"])
def test_without_a_base_or_noise_nothing_is_claimed(broken: str) -> None:
    engines = Engines(8, [Damage(frozenset({2}), 20)])

    def run(name: str, *settings: Any) -> Replay:
        done = engines.run(name, *settings)
        return replace(done, samples=None, reason="out of memory") if name == broken else done

    found = Search(engines.switches, run, lambda probe: None, OTHER).search()
    assert found.causes == []
    assert (
        findings.headline(why(engines, found))
        == "Inconclusive: the settings may or may not make a difference"
    )
    assert found.probes[-1].reason == "out of memory"


@pytest.mark.parametrize("value", [math.nan, -math.inf])
@pytest.mark.parametrize("share", [0.05, 1.0])
def test_log_probabilities_that_are_not_numbers_are_a_difference(
    value: float, share: float
) -> None:
    """Few of them are no significant mean, and too few to search by."""
    engines = Engines(8)

    def run(name: str, changes: Mapping[str, Any], questions: Mapping[str, list[int]]) -> Replay:
        done = engines.run(name, changes, questions)
        assert done.samples is not None
        if "engine.extra.s5" not in changes:
            return done
        return replace(done, samples=[spoilt(each, value, share) for each in done.samples])

    found = Search(engines.switches, run, lambda probe: None, OTHER).search()
    page = why(engines, found)
    assert named(found, "bad") is State.BAD
    assert "infinite or not a number" in " ".join(findings.findings(page))
    if share == 1:
        assert sets(found) == [{5}] and found.rest is State.GOOD
    else:
        assert found.causes == [] and "too few to search by" in found.notes[0]


def spoilt(sample: Sample, value: float, share: float) -> Sample:
    if sample.doc_id >= 40 * share:
        return sample
    listed = [value] * len(sample.top_logprobs)
    return replace(sample, logprobs=[value] * len(sample.logprobs), top_logprobs=listed)


def test_noise_that_rounding_does_not_explain_does_not_count() -> None:
    """The good run is broken with one request at a time."""
    engines = Engines(8, [Damage(frozenset({2}), 20)])

    def run(name: str, changes: Mapping[str, Any], questions: Mapping[str, list[int]]) -> Replay:
        louder = {**changes, "engine.extra.s2": True} if name == "noise" else changes
        return engines.run(name, louder, questions)

    engines._damages[0] *= 100
    found = Search(engines.switches, run, lambda probe: None, OTHER).search()
    assert found.causes == [] and "rounding does not explain" in found.notes[0]


def test_the_other_data_type_is_noise() -> None:
    """Its rounding, of ten times the other noise, is no cause, and a fault beyond it is."""
    engines = Engines(8, [Damage(frozenset({0}), 10), Damage(frozenset({6}), 200, 0.7)])
    dtype = Switch((Change("engine.dtype", "float32", "bfloat16"),), Cost.RESTART)
    asked: dict[str, Mapping[str, Any]] = {}

    def run(name: str, changes: Mapping[str, Any], questions: Mapping[str, list[int]]) -> Replay:
        asked[name] = changes
        plain = {
            "engine.extra.s0" if key == "engine.dtype" else key: value
            for key, value in changes.items()
        }
        return engines.run(name, plain, questions)

    switches = [dtype, *engines.switches[1:]]
    found = Search(switches, run, lambda probe: None, OTHER).search()
    assert asked["noise-dtype"] == {"engine.window": 1, "engine.dtype": "bfloat16"}
    assert len(found.noise) == 2
    assert sets(found) == [{6}] and found.rest is State.GOOD


def test_questions_of_a_probe() -> None:
    """Those that flipped, then those that tell most, others at random, and one of each task."""
    every = [("one", n) for n in range(100)] + [("other", 0)]
    told = [("one", n) for n in range(60)]
    chosen = evidence.choose(told, frozenset({("one", 59)}), every)
    assert {*range(47), 59} <= set(chosen["one"]) and chosen["other"] == [0]
    assert sum(map(len, chosen.values())) in (evidence.CHOSEN + evidence.CONTROL, 65)
    assert chosen == evidence.choose(told, frozenset({("one", 59)}), every)


def test_a_difference_that_does_not_show_again_is_no_cause() -> None:
    """Only the first run with the bad settings was damaged."""
    engines = Engines(4, [Damage(frozenset({0}), 20)])

    def run(name: str, changes: Mapping[str, Any], questions: Mapping[str, list[int]]) -> Replay:
        return engines.run(name, changes if name == "bad" else {}, questions)

    found = Search(engines.switches, run, lambda probe: None, OTHER).search()
    assert found.causes == [] and "did not show again" in found.notes[0]


@pytest.mark.parametrize("questions", [1, 3])
def test_rare_gross_damage_is_not_within_noise(questions: int) -> None:
    engines = Engines(4)

    def run(name: str, changes: Mapping[str, Any], asked: Mapping[str, list[int]]) -> Replay:
        done = engines.run(name, {}, asked)
        assert done.samples is not None
        if "engine.extra.s1" not in changes:
            return done
        damaged = [
            replace(each, top_logprobs=[10 * value for value in each.top_logprobs])
            if number < questions
            else each
            for number, each in enumerate(done.samples)
        ]
        return replace(done, samples=damaged)

    found = Search(engines.switches, run, lambda probe: None, OTHER).search()
    assert named(found, "bad") is not State.GOOD
    assert not findings.headline(why(engines, found)).startswith("Nothing departs")


def test_questions_with_other_tokens_are_a_difference() -> None:
    """A truncated prompt can't be compared, and is no agreement."""
    engines = Engines(6)

    def run(name: str, changes: Mapping[str, Any], asked: Mapping[str, list[int]]) -> Replay:
        done = engines.run(name, {}, asked)
        assert done.samples is not None
        if "engine.extra.s4" not in changes:
            return done
        cut = [
            replace(each, token_ids=[0, *each.token_ids[1:]]) if each.doc_id % 2 else each
            for each in done.samples
        ]
        return replace(done, samples=cut)

    found = Search(engines.switches, run, lambda probe: None, OTHER).search()
    assert "can't be compared" in next(each for each in found.probes if each.name == "bad").reason
    assert sets(found) == [{4}] and found.rest is State.GOOD


def test_an_engine_that_repeats_itself_exactly_has_the_noise_of_its_data_type() -> None:
    """A correct stack that rounds otherwise is no cause, whatever the noise runs show."""
    engines = Engines(4, rounding=frozenset({2}))

    def run(name: str, changes: Mapping[str, Any], asked: Mapping[str, list[int]]) -> Replay:
        plain = {key: value for key, value in changes.items() if key != "engine.window"}
        return replace(engines.run(name, plain, asked), dtype="bfloat16")

    engines._scales *= 0.02 / engines._scales.mean()
    found = Search(engines.switches, run, lambda probe: None, OTHER).search()
    assert found.causes == [] and "0.031 nats as published" in found.noise[0]


def test_a_question_that_repeats_exactly_has_the_noise_of_the_others() -> None:
    noise = {("t", n): 1e-8 if n < 3 else 2e-4 for n in range(10)}
    found = evidence.at_least(noise, "bfloat16")
    assert found["t", 0] == 2e-4 and found["t", 5] == 2e-4
    (hardly,) = set(evidence.at_least({**dict.fromkeys(noise, 1e-8)}, "bfloat16").values())
    assert hardly == 0.031**2
    one = evidence.at_least({**dict.fromkeys(noise, 1e-8), ("t", 1): 3e-8}, "bfloat16")
    assert set(one.values()) == {0.031**2}
    assert evidence.at_least(dict.fromkeys(noise, 1e-8), "float32") == dict.fromkeys(noise, 1e-8)


@pytest.mark.parametrize("changed", [False, True])
def test_a_good_run_that_its_settings_do_not_repeat_is_noted(changed: bool) -> None:
    engines = Engines(4)
    recorded = engines.run("then", {"engine.window": 2}, {}).samples or ()
    if changed:
        recorded = [
            replace(each, logprobs=[value - 0.5 for value in each.logprobs]) for each in recorded
        ]
    search = Search(engines.switches, engines.run, lambda probe: None, OTHER, recorded=recorded)
    notes = search.search().notes
    assert any("compute something else today" in each for each in notes) == changed


def test_a_probe_is_asked_more_only_if_a_few_questions_do_not_agree() -> None:
    engines = Engines(8, [Damage(frozenset({2}), 20, 0.5), Damage(frozenset({5}), 20, 0.5)])
    found = searched(engines)
    names = [name for name, _ in engines.ran]
    again = [name for name in names if name.endswith("-more")]
    assert sets(found) in ([{2}, {5}], [{5}, {2}])
    assert len(again) < sum(name[0].isdigit() for name in names) / 2
    shown = [each.name for each in found.probes]
    assert len(set(shown)) == len(shown)
    assert all(f"{name}-more" not in names for name in shown if not name.endswith("-more"))
