"""Verdicts in another language: the same statuses and numbers, and no English sentence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from runner.baseline import Baseline
from runner.config.verdict import MetricRuleConfig
from runner.evidence.pairing import Pairing, Reason, Unpaired
from runner.look import Look
from runner.outcome import Degeneracy, Degenerate, Departure, Outcome, State
from runner.plan import Plan
from runner.reference import chosen, requests, standing
from runner.reference.locating import Located
from runner.reference.reading import Reference, incomplete
from runner.status import Status
from runner.tracking.courier import Courier
from runner.verdict import Verdict, boundary, gates, judge
from runner.verdict.cause import CLASSES, HeldOut, likely_cause
from runner.verdict.explanation import beneath, reference
from runner.verdict.paired import unpaired
from runner.verdict.rule import Noise
from tests.pseudo import speak_pseudo, untranslated
from tests.unit import test_cause as causes
from tests.unit import test_early as looks
from tests.unit import test_verdict as values
from tests.unit import test_verdict_inputs as inputs
from tests.unit import test_verdict_luck as luck
from tests.unit import test_verdict_no_mean as corpora
from tests.unit import test_verdict_numerics as shifts
from tests.unit import test_verdict_repeats as repeats
from tests.unit import test_verdict_replay as replays
from tests.unit import test_verdict_rules as rules
from tests.unit import test_verdict_words as words

# Keys with their values, a rule that is code, and the names of runs in these tests.
KEYS = {"allow", "cut", "degenerate", "partial", "reference", "sequential", "true", "verdict"}
CODE = {"np", "isclose", "baseline", "round", "value", "rtol", "task", "limit"}
RUNS = {"other", "runs"}

DOUBTFUL = {
    "truncated": 1,
    "refused": 2,
    "unmatched": 3,
    "departures": (Departure("seed", "⟦x⟧", 4, "t", 0),),
    "degenerate": tuple(Degenerate(kind, 50, "t", 3) for kind in Degeneracy),
    "cut_answers": 300,
    "cut_thinking": 20,
    "unparsable": inputs.N,
}
ALLOWED = {f"allow_{name}": True for name in ("partial", "degenerate", "cut", "reference")} | {
    "sequential": True
}
SCORED = [[1.0, 1.0, 1.0, 0.0]] * 150 + [[0.0, 0.0, 1.0, 0.0]] * 50


def paired(worse: int, better: int, n: int = 900, **changed: object) -> Verdict:
    return rules.paired(*rules.flipped(worse, better, n), **changed)


def shifted(logprobs: tuple[float, ...], tokens: tuple[int, ...] = (5, 7)) -> Verdict:
    base = rules.spoken((5, 7), (-0.5, -0.1), (1.0, 3.0))
    own = rules.spoken(tokens, logprobs, (1.0, 3.0))
    return judge(rules.run(own), (rules.asked(),), rules.NUMERICS, own, rules.against(base))


def listed(rule: str) -> Verdict:
    own = rules.questions([1.0, 0.0] * 450)
    metrics = {"t": {"accc": {"none": MetricRuleConfig(rule=rule)}}}
    config = replace(rules.PAIRED, metrics=metrics)
    return judge(rules.run(own), (rules.asked(),), config, own, rules.against(own))


def clustered(kind: str) -> Verdict:
    before, after = (rules.subjects(side, 6) for side in rules.flipped(12, 0, 600))
    own, config = after, replace(rules.PAIRED, cluster=kind, margin=0.05)
    return judge(rules.run(own), (rules.asked(),), config, own, rules.against(before))


def looked(number: int) -> Verdict:
    theirs = rules.questions([1.0, 0.0] * 300)
    own = theirs[:240]
    found = looks.looked(own, Look(number, 12))
    config = replace(rules.PAIRED, sequential=True)
    return judge(found, (rules.asked(),), config, own, rules.against(theirs))


VERDICTS: dict[str, Callable[[], Verdict]] = {
    "failed": lambda: paired(40, 10),
    "passed": lambda: paired(10, 10),
    "gained": lambda: paired(0, 90),
    "open": lambda: paired(24, 20, margin=0.01),
    "open, few": lambda: paired(1, 1, 4),
    "no direction": lambda: judge(
        rules.run(own := rules.questions([1.0, 0.0] * 300), higher=None),
        (rules.asked(),),
        rules.PAIRED,
        own,
        rules.against(own),
    ),
    "empty": lambda: rules.paired([], []),
    "fewer": lambda: rules.paired([1.0] * 900, [1.0] * 720),
    "scores": lambda: rules.paired([0.5] * 30, [math.nan] * 30),
    "no margin": lambda: paired(10, 10, margin=1.0),
    "listed, paired": lambda: listed("paired"),
    "listed, isclose": lambda: listed("isclose"),
    "subjects": lambda: clustered("subject"),
    "fields": lambda: clustered("passage"),
    "early": lambda: looked(4),
    "last": lambda: looked(12),
    "several": lambda: judge(
        (flips := rules.two_filters((19, 8), (5, 5)))[0],
        (rules.asked(),),
        rules.PAIRED,
        flips[1],
        flips[2],
    ),
    "isclose": lambda: values.judged(0.5, 0.51),
    "isclose, below": lambda: values.judged(0.4, 0.51),
    "isclose, above": lambda: values.judged(0.6, 0.51),
    "isclose, NaN": lambda: values.judged(math.nan, 0.51),
    "part": lambda: values.in_part(0.9),
    "part, below": lambda: values.in_part(0.84),
    "part, known": lambda: values.in_part(0.9, of_baseline=120.0),
    "part, other": lambda: values.in_part(0.9, limit=20.0, of_baseline=120.0, asked=20),
    "no baseline": lambda: values.run_of(),
    "not measured": lambda: values.run_of(None, 0.5),
    "guesses": lambda: luck.verdict(
        luck.RULES[0], luck.questions(300, guessed_right=60), luck.questions(300)
    ),
    "corpus": lambda: corpora.judged(
        ({"bleu": 30.0, "acc": 0.5}, corpora.SCORED), ({"bleu": 30.0, "acc": 0.5}, corpora.SCORED)
    ),
    "corpus alone": lambda: corpora.judged(
        ({"bleu": 30.0}, corpora.SCORED), ({"bleu": 30.0}, corpora.SCORED)
    ),
    "repeated": lambda: repeats.paired(SCORED, SCORED),
    "repeated, worse": lambda: repeats.paired(SCORED, [[0.0] * 4] * 200),
    "repeated, open": lambda: repeats.paired(SCORED, SCORED, margin=0.01),
    "repeated, fewer": lambda: repeats.paired(SCORED[:30], SCORED[:30], margin=0.02),
    "repeated, baseline": lambda: repeats.not_worse(SCORED, Baseline(0.64), margin=0.06),
    "uncertain baseline": lambda: repeats.not_worse(
        [[1.0]] * 20 + [[0.0]] * 10, Baseline(0.7, n=30), margin=0.02
    ),
    "shift": lambda: shifted((-0.501, -0.102)),
    "shift, large": lambda: shifted((-0.9, -0.1)),
    "shift, parted": lambda: shifted((-0.5, -0.1), (6, 7)),
    "shift, noise": lambda: shifts.verdict(shifts.answers(0.008, 3), p99=0.2),
    "shift, no noise": lambda: shifts.verdict(shifts.REFERENCE, (), differing=0.05),
    "shift, gross": lambda: shifts.verdict(shifts.answers(0.5, 3), ()),
    "shift, ended": lambda: shifts.verdict(shifts.parted(shifts.REFERENCE, 2, ended=True)),
    "shift, not finite": lambda: shifted((-0.5, math.nan)),
    "shift, few": lambda: shifts.verdict(shifts.REFERENCE[:19], reference=shifts.REFERENCE[:19]),
    **{f"doubts, {rule}": lambda rule=rule: inputs.judged(
        rule, inputs.outcome(**DOUBTFUL), inputs.outcome(**DOUBTFUL)
    ) for rule in inputs.RULES},
    **{f"allowed, {rule}": lambda rule=rule: inputs.judged(rule, **ALLOWED)
       for rule in inputs.RULES},
    "replay": lambda: replays.judged(replays.stack(0.05, 2)),
    "replay, loud": lambda: replays.judged(replays.stack(0.15, 2)),
    "replay, near": lambda: replays.judged(replays.stack(0.086, 2)),
    "replay, outliers": lambda: replays.judged(replays.with_outliers(0.05, 3)),
    "replay, few": lambda: replays.judged(replays.stack(0.05, 2)[:10]),
    "replay, no noise": lambda: replays.judged(replays.stack(0.05, 2), noise=()),
    "replay, gross": lambda: replays.judged(replays.stack(3.0, 2), noise=()),
    "replay, no difference": lambda: replays.judged(
        replays.stack(0.05, 2), noise=(Noise("other", replays.REFERENCE),)
    ),
    "replay, another stack": lambda: replays.judged(
        replays.stack(3.0, 2), noise=(Noise("other", replays.stack(3.0, 3)),)
    ),
    "replay, fewer": lambda: replays.judged(
        replays.stack(0.05, 2),
        noise=(*replays.NOISE, Noise("other", replays.stack(0.05)[:30], ("⟦x⟧", "⟦y⟧"))),
    ),
    "replay, other answers": lambda: replays.judged(
        [replace(each, token_ids=(1,)) for each in replays.stack(0.05, 2)]
    ),
}  # fmt: skip


def numbers(verdict: Verdict) -> Verdict:
    """The verdict without its sentences."""
    metrics = tuple(
        replace(each, reason="", evidence="", baseline_origin="") for each in verdict.metrics
    )
    return replace(verdict, reason="", rule="", metrics=metrics)


@pytest.mark.parametrize("name", VERDICTS)
def test_a_verdict_is_the_same_in_every_language(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    english = VERDICTS[name]()
    speak_pseudo(monkeypatch)
    other = VERDICTS[name]()
    assert repr(numbers(other)) == repr(numbers(english))
    said = [other.reason, other.rule]
    for metric in other.metrics:
        said += [metric.reason, metric.evidence, metric.baseline_origin, beneath(metric)]
    if other.reference is not None:
        said.append(reference(other.reference))
    assert untranslated(" ".join(said)) <= KEYS | CODE | RUNS | {"same", "loud", "again"}


def test_noise_runs_and_several_runs_are_described(monkeypatch: pytest.MonkeyPatch) -> None:
    speak_pseudo(monkeypatch)
    noisy = replace(words.USED, noise=(replace(words.USED, name="a"),))
    several = replace(words.USED, others=(noisy,))
    names = {"cuda", "float", "baseline", "runs"}
    assert untranslated(reference(noisy) + reference(several)) <= names
    endless = replace(words.JUDGED, upper=math.inf, samples_to_pass=None, evidence="")
    shown = "".join(map(beneath, (endless, replace(endless, answers=4, samples_to_fail=None))))
    assert not untranslated(shown)


@pytest.mark.parametrize("name", CLASSES)
def test_a_likely_cause_is_translated(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    held = dict.fromkeys(CLASSES, HeldOut(1.0, 9))
    monkeypatch.setattr("runner.verdict.cause.measured", lambda: (causes.LIMITS, held))
    speak_pseudo(monkeypatch)
    said = likely_cause(causes.BASE, causes.STACKS[name], causes.NOISE, True)
    assert said and not untranslated(said)


def test_ranges_and_gates_are_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    speak_pseudo(monkeypatch)
    ranges = ((0.7, 0.8), (0.7, None), (None, 0.8))
    assert not untranslated(" ".join(map(boundary.said, ranges)))
    gate = gates.isclose(0.5, 0.05, 100)
    assert not untranslated(gates.said(gate, 0.5) + gates.said(gate, 0.01))


def test_samples_without_a_partner_are_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    speak_pseudo(monkeypatch)
    alone = [Unpaired(None, None, reason) for reason in Reason]
    assert not untranslated(unpaired(Pairing((), tuple(alone)), False))


def test_doubts_about_a_reference_are_translated(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    speak_pseudo(monkeypatch)
    said = [
        standing.judged(""),
        standing.judged(Status.FAILED.value),
        standing.other_model("a", "b", "", ""),
        *incomplete(Outcome(State.COMPLETED)),
        *incomplete(Outcome(State.ERROR, "⟦x⟧")),
        *incomplete(inputs.outcome(truncated=1)),
    ]
    assert all(said) and not untranslated(" ".join(said))
    (evaluation, *_) = plan.evaluations
    differ = requests.of_task({"num_fewshot": 3}, evaluation, "A", "B")
    differ += requests.of_plan({"system_instruction": "x"}, plan, "A", "B")
    assert differ
    assert all(line.startswith("⟦") and line.endswith("⟧") for line in differ)


def test_the_best_of_several_runs_is_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    class Found:
        def ask(self, *_: object) -> list[str]:
            return ["a", "b"]

    class Run:
        outcome = Outcome(State.COMPLETED)

    speak_pseudo(monkeypatch)
    located = Located(Path("x"), "f" * 32, "sqlite:///mlflow.db")
    said = chosen.best_of(cast(Reference, Run()), located, cast(Courier, Found()))
    assert said and not untranslated(said)
