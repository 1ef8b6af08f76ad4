"""Verdicts of a run and of its metrics, as stored in verdict.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import ConfigDict

from runner.language import N_, gettext
from runner.look import ONLY, Look
from runner.plan import joined_origins
from runner.status import Status


@dataclass(frozen=True)
class MetricVerdict:
    """The verdict on one metric with its baseline and uncertainty.

    It was measured on `n` questions with `answers` samples each, of `whole` without the limit
    (None: no limit applied).
    `interval` is the two-sided 95 % confidence interval of the value; `difference` is value minus
    baseline, in the metric's own unit. `baseline` is the reference run's value on the same samples
    where a rule compares with one; `baseline_origin` says where the number comes from.

    `rule` is empty where the metric was not judged. `drop` is positive where the value is worse;
    `p` is one-sided, `p_adjusted` is Holm's for all metrics of the run; `upper` is the drop's
    one-sided 95 % bound, which passes under `margin`. `detectable` is the drop that would have
    failed in 4 of 5 such runs. If the verdict is INCONCLUSIVE for too few samples, a run of
    `samples_to_pass` without a drop passes, and one of `samples_to_fail` with a drop of twice the
    margin fails, each in 4 of 5 runs (None: no number is enough). `clusters` is how many
    groups of samples the errors allow for. `tolerated` are the lowest and the highest value that
    the rule tolerates (None: no such end), as every figure draws them (runner/verdict/boundary.py).
    `look` is the look at which a run that may stop early was judged.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(ser_json_inf_nan="strings")

    task: str
    metric: str
    filter: str
    status: Status
    value: float | None
    stderr: float | None
    interval: tuple[float, float] | None
    n: int
    baseline: float | None
    difference: float | None
    reason: str
    rule: str = ""
    test: str = ""
    drop: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    margin: float | None = None
    upper: float | None = None
    detectable: float | None = None
    samples_to_pass: int | None = None
    samples_to_fail: int | None = None
    clusters: int | None = None
    evidence: str = ""
    whole: int | None = None
    baseline_origin: str = ""
    tolerated: tuple[float | None, float | None] | None = None
    answers: int = 1
    look: Look = ONLY

    @property
    def name(self) -> str:
        """Return `canary acc` or `gsm8k exact_match,strict-match`, as lm-eval writes it."""
        return f"{self.task} {self.metric},{self.filter}".removesuffix(",none")

    @property
    def partial(self) -> bool:
        """Return whether samples were left out, by a limit or because the run stopped."""
        return self.whole is not None and self.n < self.whole

    @property
    def unit(self) -> str:
        """Return what `n` counts, as reports call it after `gettext`."""
        return N_("samples") if self.answers == 1 else N_("questions")

    @property
    def count(self) -> str:
        """Return `600`, or `120 of 600` for a partial run."""
        if not self.partial:
            return str(self.n)
        return gettext("{n} of {whole}", n=self.n, whole=self.whole)

    @property
    def judged(self) -> bool:
        """Return whether the metric was judged, with or without a baseline."""
        return self.baseline is not None or bool(self.rule)


@dataclass(frozen=True)
class ReferenceUsed:
    """The reference run of a verdict: its name, location and configuration.

    `noise` are the noise runs that `replay` or `numerics` judges by, and `others` the further
    reference runs that `paired` pools with it.
    """

    name: str
    directory: str
    run_id: str | None
    model: str
    platform: str
    layout: str
    engine_fingerprint: str
    evaluation_fingerprint: str
    status: str
    noise: tuple[ReferenceUsed, ...] = ()
    others: tuple[ReferenceUsed, ...] = ()

    @property
    def runs(self) -> tuple[ReferenceUsed, ...]:
        """All reference runs."""
        return (self, *self.others)


@dataclass(frozen=True)
class Verdict:
    """The verdict on a run.

    `stopped` says that it was reached before all questions were asked.
    """

    status: Status
    reason: str
    rule: str
    metrics: tuple[MetricVerdict, ...]
    exit_status: int
    reference: ReferenceUsed | None = None
    stopped: bool = False

    @property
    def baseline_origin(self) -> str:
        """Return where the baselines come from; each metric is listed if they differ."""
        return joined_origins((each.name, each.baseline_origin) for each in self.metrics)
