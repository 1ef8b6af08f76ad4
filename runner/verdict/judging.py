"""Judges all metrics of a run, each by its rule; the worst status is the run's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from runner.config.verdict import BASELINE_RULES, REFERENCE_RULES, VerdictConfig
from runner.evidence.questions import by_question
from runner.evidence.samples import Sample, asked_for
from runner.language import N_, gettext
from runner.look import ONLY
from runner.outcome import Outcome, State, TaskOutcome
from runner.plan import Evaluation
from runner.stats import ALPHA
from runner.status import EXIT_STATUS, Status
from runner.verdict import (
    answer_rules,
    compared,
    corpus,
    cut,
    degenerate,
    isclose,
    luck,
    not_worse,
    numerics,
    paired,
    replay,
)
from runner.verdict.doubts import (
    ALLOW,
    ALLOW_REFERENCE,
    doubts_of,
    meaningless,
    of_reference,
    other_samples,
)
from runner.verdict.result import MetricVerdict, Verdict
from runner.verdict.rule import Against, Case, Rule, needs_reference, settings
from runner.verdict.settle import Judged, missing, settled, shown, unheld

RULES: Mapping[str, Rule] = {
    "isclose": isclose.judge,
    "not_worse": not_worse.judge,
    "paired": paired.judge,
}


def judge(
    outcome: Outcome,
    evaluations: tuple[Evaluation, ...],
    config: VerdictConfig,
    samples: Sequence[Sample] = (),
    against: Against | None = None,
) -> Verdict:
    """Judge every metric that has a baseline or reference value; show the others unjudged.

    `samples` are all samples of the run (`isclose` needs none); `against` is the reference run.
    """
    by_task = {task.task: task for task in outcome.tasks}
    samples = by_question(samples)
    if against is not None:
        against = replace(
            against,
            samples=by_question(against.samples),
            others=[replace(each, samples=by_question(each.samples)) for each in against.others],
            noise=[replace(each, samples=by_question(each.samples)) for each in against.noise],
        )
    of_engine = outcome.served.doubts if outcome.served is not None else []
    found: list[Judged | MetricVerdict] = []
    for evaluation in evaluations:
        task = by_task.get(evaluation.task)
        found += _judge_task(evaluation, task, config, samples, against, of_engine)
    found = corpus.shown_only(found, config)
    origins = {each.task: each.origins for each in evaluations}
    metrics = tuple(
        replace(each, baseline_origin=_origin(each, origins, against))
        for each in settled(found, config.correction)
    )
    if outcome.state is State.COMPLETED:
        status, reason = _whole(metrics, config)
        if status is Status.UNJUDGED:
            reason = gettext("; ").join([reason, *of_engine, *_doubts(outcome, config)])
        elif status is not Status.PASSED and against is not None and against.best_of:
            reason = gettext("; ").join([reason, against.best_of])
    else:
        status, reason = Status(outcome.state.value), outcome.reason
    nothing_to_judge = status is Status.UNJUDGED and not any(m.judged for m in metrics)
    excused = nothing_to_judge and not config.require_baseline and not needs_reference(config)
    return Verdict(
        status,
        reason,
        describe(config, against),
        metrics,
        0 if excused else EXIT_STATUS[status],
        against.used if against is not None else None,
        stopped=outcome.state is State.COMPLETED
        and any(not task.look.last for task in outcome.tasks),
    )


def _origin(
    metric: MetricVerdict, origins: Mapping[str, dict[str, dict[str, str]]], against: Against | None
) -> str:
    """Origin of the value that the metric was judged against; empty without one."""
    if metric.baseline is None:
        return ""
    if metric.rule in REFERENCE_RULES:
        return against.named if against is not None else ""
    return origins.get(metric.task, {}).get(metric.metric, {}).get(metric.filter, "")


def describe(config: VerdictConfig, against: Against | None) -> str:
    """Describe the run's rule in one line."""
    flags = {
        ALLOW: config.allow_partial,
        degenerate.ALLOW: config.allow_degenerate,
        cut.ALLOW: config.allow_cut,
        ALLOW_REFERENCE: config.allow_reference,
        "verdict.sequential": config.sequential,
    }
    allowed = [f"{key}=true" for key, value in flags.items() if value]
    return gettext(", ").join([_rule(config, against), *allowed])


def _rule(config: VerdictConfig, against: Against | None) -> str:
    if config.rule == "isclose":
        return isclose.describe(config.rtol)
    noise = len(against.noise) if against is not None else 0
    if config.rule == "numerics":
        return numerics.describe(config.numerics, noise)
    if config.rule == "replay":
        return replay.describe(config, noise)
    runs = len(against.runs) if against is not None else 1
    if config.rule == "not_worse":
        said = N_("{rule}: drop from the baseline; margin {margin:g}, level {level:g}")
    elif runs == 1:
        said = N_(
            "{rule}: drop from the reference run on the same samples; margin {margin:g}, level "
            "{level:g}"
        )
    else:
        said = N_(
            "{rule}: drop from the mean of {runs} reference runs on the same samples; margin "
            "{margin:g}, level {level:g}"
        )
    return gettext(said, rule=config.rule, runs=runs, margin=config.margin, level=ALPHA)


def _judge_task(
    evaluation: Evaluation,
    task: TaskOutcome | None,
    config: VerdictConfig,
    samples: Sequence[Sample],
    against: Against | None,
    of_engine: Sequence[str],
) -> list[Judged | MetricVerdict]:
    """The task's metrics. `of_engine` are reasons to doubt the engine, whatever the task."""
    if config.rule == "replay":
        if task is None:
            return []
        return [answer_rules.replayed(evaluation, task, config, samples, against, of_engine)]
    wanted = {
        (metric, name): value
        for metric, filters in compared.wanted(evaluation, config, against).items()
        for name, value in filters.items()
    }
    found: list[Judged | MetricVerdict] = []
    own = asked_for(task, samples) if task is not None else []
    pairing, limited = compared.pairing(evaluation, own, against)
    look = task.look if task is not None else ONLY
    limited = limited or not look.last
    for result in task.metrics if task is not None else ():
        assert task is not None
        key = (result.metric, result.filter)
        if result.task != evaluation.task or key not in wanted:
            found.append(shown(result))
            continue
        how = settings(config, evaluation.task, *key)
        held = how.rule in BASELINE_RULES and not config.allow_partial
        case = Case(
            result=result,
            task=task,
            settings=how,
            baseline=wanted[key].value,
            stated=wanted.pop(key),
            samples=[each for each in own if each.filter == result.filter],
            pairing=compared.of_filter(pairing, result.filter),
            limited=limited,
            other_samples=other_samples(evaluation, task) if held else "",
            degenerate=answer_rules.degenerate_answers(task, how.rule, config, against),
            cut=answer_rules.cut_answers(task, how.rule, config, against),
            look=look,
        )
        rule = RULES[case.settings.rule]
        finding = rule(case)
        doubts = (
            doubts_of(task, result.n),
            ""
            if math.isfinite(case.baseline or 0.0)
            else gettext("it is compared with {value}", value=case.baseline),
            *of_engine,
            meaningless(task),
            case.degenerate,
            case.cut,
            case.other_samples,
            of_reference(evaluation, case.settings.rule, against, config.allow_reference),
            luck.doubt(case, rule, finding),
        )
        found.append(Judged(case, finding, gettext(", ").join(filter(None, doubts))))
    found += [missing(evaluation.task, *key, known.value) for key, known in wanted.items()]
    found += _unheld(found, evaluation, config)
    if config.rule == "numerics" and task is not None:
        found.append(
            answer_rules.shifted(evaluation, task, config, pairing, limited, against, of_engine)
        )
    return found


def _unheld(
    found: Sequence[Judged | MetricVerdict], evaluation: Evaluation, config: VerdictConfig
) -> list[MetricVerdict]:
    """Metrics listed in `verdict.metrics` that have no baseline or reference value."""
    judged = {
        (each.case.result.metric, each.case.result.filter)
        if isinstance(each, Judged)
        else (each.metric, each.filter)
        for each in found
        if isinstance(each, Judged) or each.judged
    }
    return [
        unheld(evaluation.task, metric, name, settings(config, evaluation.task, metric, name).rule)
        for metric, filters in config.metrics.get(evaluation.task, {}).items()
        for name in filters
        if (metric, name) not in judged
    ]


def _whole(metrics: tuple[MetricVerdict, ...], config: VerdictConfig) -> tuple[Status, str]:
    judged = [metric for metric in metrics if metric.judged]
    for status in (Status.FAILED, Status.INCONCLUSIVE, Status.UNJUDGED):
        reasons: dict[str, list[str]] = {}
        for metric in judged:
            if metric.status is status:
                reasons.setdefault(metric.reason, []).append(_name(metric))
        if reasons:
            said = (
                gettext("{metrics}: {reason}", metrics=gettext(", ").join(names), reason=reason)
                for reason, names in reasons.items()
            )
            return status, gettext("; ").join(said)
    if judged:
        limited = {metric.task: metric for metric in judged if metric.partial}
        passed = gettext("{count} of {count} judged metrics passed", count=len(judged))
        parts = (_part(metric, config) for metric in limited.values())
        return Status.PASSED, gettext("; ").join([passed, *parts])
    if config.rule in REFERENCE_RULES:
        return Status.UNJUDGED, gettext(
            "nothing to judge: the reference run has no values for these metrics"
        )
    return Status.UNJUDGED, gettext(
        "nothing to judge: no baseline for the measured metrics (set "
        "model.baselines.<task>.<metric>.<filter>, or verdict.require_baseline=false)"
    )


def _part(metric: MetricVerdict, config: VerdictConfig) -> str:
    """How many samples of its task a metric had, and why not all."""
    why = config.replay.chosen or "task.limit"
    if not metric.look.last:
        why = gettext("stopped early")
    if metric.answers == 1:
        said = N_("{task}: {count} samples ({why})")
    else:
        said = N_("{task}: {count} questions ({why})")
    return gettext(said, task=metric.task, count=metric.count, why=why)


def _doubts(outcome: Outcome, config: VerdictConfig) -> list[str]:
    """Problems of each task, for runs in which no metric was judged."""
    return [
        gettext("{task}: {doubt}", task=task.task, doubt=doubt)
        for task in outcome.tasks
        for doubt in (
            doubts_of(task, task.evaluated),
            meaningless(task),
            answer_rules.degenerate_answers(task, config.rule, config, None),
            answer_rules.cut_answers(task, config.rule, config, None),
        )
        if doubt
    ]


def _name(metric: MetricVerdict) -> str:
    return f"{metric.task} {metric.metric},{metric.filter}"
