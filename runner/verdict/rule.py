"""Inputs and results of the verdict rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from runner.baseline import Baseline
from runner.config.verdict import REFERENCE_RULES, VerdictConfig
from runner.evidence.pairing import Pairing
from runner.evidence.samples import Sample
from runner.language import N_, gettext
from runner.look import ONLY, Look
from runner.outcome import MetricResult, Outcome, TaskOutcome
from runner.stats.drops import Drop
from runner.status import Status
from runner.verdict.result import ReferenceUsed

# Why a metric is INCONCLUSIVE before the last look at a run that may stop early.
LATER = N_("this can only be judged when all questions have been asked")
# The two runs in a sentence.
THE_REFERENCE, THE_RUN = N_("the reference run"), N_("this run")


@dataclass(frozen=True)
class Noise:
    """A replay of the reference run on a correct stack, or for `numerics` an ordinary run.

    `doubts` say why it may not be one, for example "FAILED itself". `dtype` is that of its engine,
    empty if unknown.
    """

    name: str
    samples: Sequence[Sample]
    doubts: Sequence[str] = ()
    dtype: str = ""


@dataclass(frozen=True)
class Against:
    """The reference run: its identity, outcome, samples, limits by task, and noise runs.

    `doubts` say why it should not be a reference, for example "FAILED itself". `others` are further
    reference runs, if several are pooled. `best_of` says among how many runs it is the best, if it
    was chosen among several (runner/reference/chosen.py); empty if not.
    """

    used: ReferenceUsed
    outcome: Outcome
    samples: Sequence[Sample]
    limits: Mapping[str, float | None] = field(default_factory=dict)
    doubts: Sequence[str] = ()
    noise: Sequence[Noise] = ()
    others: Sequence[Against] = ()
    best_of: str = ""

    @property
    def runs(self) -> tuple[Against, ...]:
        """All reference runs."""
        return (self, *self.others)

    @property
    def named(self) -> str:
        """Return `reference run a`, or `mean of 2 reference runs (a, b)`."""
        names = [each.used.name for each in self.runs]
        if len(names) == 1:
            return gettext("reference run {name}", name=names[0])
        return gettext(
            "mean of {count} reference runs ({names})",
            count=len(names),
            names=gettext(", ").join(names),
        )


@dataclass(frozen=True)
class Settings:
    """Settings by which one metric is judged."""

    rule: str
    rtol: float
    margin: float
    higher_is_better: bool | None
    cluster: str


@dataclass(frozen=True)
class Case:
    """One metric of one task and all inputs of a rule.

    `samples` are the task's own under the metric's filter; `pairing` matches them, as its second,
    with the reference run's; `limited` says that this run was asked fewer samples on purpose, and
    `other_samples` why the baseline is of others than the run's, empty if it is of the same.
    `degenerate` and `cut` say how many answers are degenerate or cut, if that is more than is
    accepted; `stated` is what is known of the baseline's measurement. Samples are questions, with
    mean scores. `look` is the look at a run that may stop early.
    """

    result: MetricResult
    task: TaskOutcome
    settings: Settings
    baseline: float | None = None
    samples: Sequence[Sample] = ()
    pairing: Pairing | None = None
    limited: bool = False
    other_samples: str = ""
    degenerate: str = ""
    cut: str = ""
    stated: Baseline | None = None
    look: Look = ONLY


@dataclass(frozen=True)
class Finding:
    """The result of a rule for one metric.

    A `drop` is settled together with those of the run's other metrics (runner/verdict/settle.py); a
    rule that answers at once gives `status` and no drop. A finding that is INCONCLUSIVE for what it
    lacks says so in `reason`; `of_corpus` says that the metric has no scores of single samples, as
    BLEU has none.
    """

    status: Status | None = None
    reason: str = ""
    drop: Drop | None = None
    baseline: float | None = None
    detectable: float | None = None
    samples_to_pass: int | None = None
    clusters: int | None = None
    evidence: str = ""
    of_corpus: bool = False


class Rule(Protocol):
    """A rule for one metric."""

    def __call__(self, case: Case) -> Finding: ...


def refused(reason: str, baseline: float | None = None) -> Finding:
    """Return an INCONCLUSIVE finding for a metric that cannot be judged."""
    return Finding(Status.INCONCLUSIVE, reason, baseline=baseline)


def settings(config: VerdictConfig, task: str, metric: str, filter_name: str) -> Settings:
    """Return the run's settings with the overrides in `verdict.metrics` for this metric."""
    own = config.metrics.get(task, {}).get(metric, {}).get(filter_name)
    given = {} if own is None else {k: v for k, v in vars(own).items() if v is not None}
    return Settings(
        **{
            "rule": config.rule,
            "rtol": config.rtol,
            "margin": config.margin,
            "higher_is_better": None,
            "cluster": config.cluster,
            **given,
        }
    )


def rules_used(config: VerdictConfig) -> set[str]:
    """Return the run's rule and the rules of individual metrics."""
    overrides = (
        own.rule
        for metrics in config.metrics.values()
        for filters in metrics.values()
        for own in filters.values()
    )
    return {config.rule, *filter(None, overrides)}


def needs_reference(config: VerdictConfig) -> bool:
    return not rules_used(config).isdisjoint(REFERENCE_RULES)


def needs_samples(config: VerdictConfig) -> bool:
    """Return whether a rule needs samples; `isclose` needs values only."""
    return rules_used(config) != {"isclose"}
