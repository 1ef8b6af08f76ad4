"""What each rule says of a stack that was asked some of the canary's questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from omegaconf import OmegaConf

from benchmarks.detection_stacks import METRIC, Stack
from runner.config.verdict import FEWEST_QUESTIONS, VerdictConfig
from runner.evidence.pairing import Pairing, pair
from runner.evidence.replayed import Difference, Differences, differences, of_ordinary
from runner.look import ONLY
from runner.outcome import MetricResult, TaskOutcome
from runner.stats import means
from runner.stats.excess import excess
from runner.stats.outliers import Unasked
from runner.status import Status
from runner.verdict import isclose, not_worse, numerics, paired, settle
from runner.verdict.replay import against_noise
from runner.verdict.replay_measured import Measured
from runner.verdict.rule import THE_REFERENCE, Case, Finding, settings

TASK = "canary"
CHOICES = Path(__file__).parent.parent / "conf" / "verdict"
ACCURACY = {"isclose": isclose.judge, "not_worse": not_worse.judge, "paired": paired.judge}


@cache
def chosen(rule: str) -> VerdictConfig:
    """The settings of `verdict=RULE`."""
    schema = OmegaConf.structured(VerdictConfig)
    config: VerdictConfig = OmegaConf.to_object(  # type: ignore[assignment]
        OmegaConf.merge(schema, OmegaConf.load(CHOICES / f"{rule}.yaml"))
    )
    return config


@dataclass(frozen=True)
class Reference:
    """The reference run, and noise runs with healthy rounding."""

    stack: Stack
    noise: Sequence[Stack]

    @cached_property
    def runs(self) -> list[dict[int, float]]:
        """Difference of each noise run from the reference by question, in nats²."""
        return [_differences(self.stack, each) for each in self.noise]

    @cached_property
    def shifts(self) -> dict[str, dict[int, Difference]]:
        """How far the answers of each noise run differ from the reference's, by question."""
        return {each.name: _shifts(self.stack, each) for each in self.noise}


class Judged:
    """A stack that is compared with the reference; the slow parts are done once per question."""

    def __init__(self, reference: Reference, stack: Stack) -> None:
        self.name = stack.name
        self._reference = reference
        self._before = [each.scores[METRIC] for each in reference.stack.answers]
        self._stack = stack
        self._differences = _differences(reference.stack, stack)
        self._shifts = _shifts(reference.stack, stack)
        pairing = pair(reference.stack.answers, stack.answers)
        self._pairs = {second.doc_id: (first, second) for first, second in pairing.pairs}
        self._unpaired = {
            each.second.doc_id: each for each in pairing.unpaired if each.second is not None
        }

    def status(self, rule: str, asked: Sequence[int]) -> Status:
        """Judge the answers to the questions in `asked` by a rule with its default limits.

        isclose compares with the reference's accuracy on the same questions. not_worse, whose test
        allows for the choice of questions, compares with that on all questions.
        """
        if rule == "replay":
            return self._replay(asked)
        if rule == "numerics":
            return self._numerics(asked)
        config = chosen(rule)
        result = self._result(asked)
        task = TaskOutcome(TASK, (result,), expected=len(asked), evaluated=len(asked))
        known = self._before if rule == "not_worse" else [self._before[i] for i in asked]
        case = Case(
            result,
            task,
            settings(config, TASK, METRIC, "none"),
            means.mean(known),
            [self._stack.answers[i] for i in asked],
            self._pairing(asked),
        )
        return _decided(ACCURACY[rule](case), case)

    def _pairing(self, asked: Sequence[int]) -> Pairing:
        return Pairing(
            tuple(self._pairs[i] for i in asked if i in self._pairs),
            tuple(self._unpaired[i] for i in asked if i in self._unpaired),
        )

    def _result(self, asked: Sequence[int]) -> MetricResult:
        scores = [self._stack.answers[i].scores[METRIC] for i in asked]
        value, stderr = means.mean(scores), means.standard_error(scores)
        return MetricResult(TASK, METRIC, "none", value, stderr, len(asked), True, True)

    def _numerics(self, asked: Sequence[int]) -> Status:
        """As runner.verdict.numerics decides, which would compare the answers anew for each run."""
        if len(asked) < FEWEST_QUESTIONS or any(i not in self._shifts for i in asked):
            return Status.INCONCLUSIVE

        def drawn(shifts: Mapping[int, Difference]) -> Differences:
            return Differences({(TASK, i): shifts[i] for i in asked}, 0)

        noise = {name: drawn(each) for name, each in self._reference.shifts.items()}
        found = Measured(THE_REFERENCE, drawn(self._shifts), noise, {})
        if sum(each.tokens for each in found.own.by_question.values()) < numerics.ENOUGH:
            return Status.INCONCLUSIVE
        factor = VerdictConfig().numerics.factor
        return against_noise(found, factor, ONLY, (), numerics.GET_NOISE)[0]

    def _replay(self, asked: Sequence[int]) -> Status:
        """As runner.verdict.replay decides, which would compare the tokens anew for each run."""
        if len(asked) < FEWEST_QUESTIONS or any(i not in self._differences for i in asked):
            return Status.INCONCLUSIVE
        runs = [[each[i] for i in asked] for each in self._reference.runs]
        left = sorted(set(self._reference.runs[0]) - set(asked))
        rest = [[each[i] for i in left] for each in self._reference.runs]
        share = len(asked) / (len(asked) + len(left))
        found = excess(
            [self._differences[i] for i in asked],
            max(runs, key=means.mean),
            VerdictConfig().replay.factor,
            runs,
            unasked=Unasked(rest, rest, [share] * len(asked), [share] * len(left)),
        )
        if found.exceeds:
            return Status.FAILED
        return Status.PASSED if found.within else Status.INCONCLUSIVE


def _differences(reference: Stack, stack: Stack) -> dict[int, float]:
    """Variance of the logits' differences by question; those with other prompts are missing."""
    pairs = pair(reference.replayed, stack.replayed).pairs
    found = differences(pairs, VerdictConfig().numerics.near_tie).by_question
    return {doc_id: _logits(each) for (_, doc_id), each in found.items()}


def _shifts(reference: Stack, stack: Stack) -> dict[int, Difference]:
    """How far the answers differ, by question; those with other prompts are missing."""
    pairs = pair(reference.answers, stack.answers).pairs
    found = differences(pairs, VerdictConfig().numerics.near_tie, of_ordinary).by_question
    return {doc_id: each for (_, doc_id), each in found.items()}


def _logits(difference: Difference) -> float:
    assert difference.logits is not None
    return difference.logits


def _decided(finding: Finding, case: Case) -> Status:
    """The status of one metric; a correction for several metrics has nothing to correct."""
    if finding.drop is None:
        assert finding.status is not None
        return finding.status
    drop = finding.drop
    return settle.decide(drop.drop, drop.upper, drop.p, case.settings.margin)[0]
