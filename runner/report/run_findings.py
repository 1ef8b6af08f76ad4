"""The page's sentences: the verdict first, then what a reader should know before trusting it."""

from __future__ import annotations

from collections.abc import Iterator

from runner.outcome import Outcome, TaskOutcome
from runner.plan import Plan
from runner.present.formats import cut, number, of
from runner.status import Status
from runner.verdict import MetricVerdict, Verdict

SAYING = {
    Status.PASSED: "scores what it should",
    Status.FAILED: "does not score what it should",
    Status.INCONCLUSIVE: "may or may not score what it should",
    Status.UNJUDGED: "was measured, and there is nothing to judge it by",
    Status.ERROR: "was not measured: the run broke",
    Status.REFUSED: "was not measured: the run was refused",
    Status.INTERRUPTED: "was not measured to the end: the run was interrupted",
}


def headline(plan: Plan, outcome: Outcome, verdict: Verdict) -> str:
    """One sentence, with the numbers that decide where there are few."""
    said = f"{plan.model} {SAYING[verdict.status]}{_part(outcome)}"
    decisive = [
        each for each in verdict.metrics if each.baseline is not None and each.value is not None
    ]
    telling = [each for each in decisive if each.status is verdict.status] or decisive
    if not telling or verdict.status in (Status.ERROR, Status.REFUSED, Status.INTERRUPTED):
        return f"{said}."
    numbers = "; ".join(_against(each) for each in telling[:3])
    more = f"; and {len(telling) - 3} more" if len(telling) > 3 else ""
    return f"{said}: {numbers}{more}."


def _against(metric: MetricVerdict) -> str:
    error = f" ± {number(metric.stderr, 3)}" if metric.stderr is not None else ""
    name = f"{cut(metric.task)} {cut(metric.metric)}" + (
        "" if metric.filter == "none" else f",{metric.filter}"
    )
    return f"{name} {number(metric.value, 3)}{error} against {metric.baseline:g}"


def findings(plan: Plan, outcome: Outcome, verdict: Verdict) -> list[str]:
    """What explains the verdict, and what could make the numbers mean something else."""
    found = [f"{verdict.reason}."] if verdict.reason else []
    troubles = matters(outcome)
    found += [*limited(outcome), *troubles]
    if outcome.tasks and not troubles:
        asked = sum(task.evaluated for task in outcome.tasks)
        found.append(f"All {asked} prompts fit, all answers finished and were parsed.")
    found += sampling(outcome)
    found += [f"The attempt failed and was retried: {reason}." for reason in outcome.retries]
    found += [f"Overruled: {line}" for line in plan.overruled]
    if plan.engine_args.get("trust_remote_code"):
        found.append("trust_remote_code was on: code that came with the weights ran in this run.")
    return found


def _part(outcome: Outcome) -> str:
    """`, on 120 of 600 samples (task.limit)`; empty where all were asked."""
    if not limited(outcome):
        return ""
    asked = sum(task.expected for task in outcome.tasks)
    whole = sum(task.whole or task.expected for task in outcome.tasks)
    return f", on {asked} of {whole} samples (task.limit)"


def limited(outcome: Outcome) -> list[str]:
    """Each task of which a limit left samples out, in a sentence."""
    return [
        f"{task.task}: {task.expected} of {task.whole} samples were asked (task.limit)."
        for task in outcome.tasks
        if task.partial
    ]


def departures(outcome: Outcome) -> list[str]:
    """What was not asked as configured: a sentence each."""
    return [sentence for task in outcome.tasks for sentence in _departures(task)]


def sampling(outcome: Outcome) -> list[str]:
    """How answers were generated, where a reader might expect otherwise: a sentence each."""
    said = []
    for task in outcome.tasks:
        if task.greedy_by_default:
            said.append(
                f"{task.task}: the task sets neither do_sample nor temperature; its answers are "
                "greedy, which is lm-eval's documented default."
            )
        if task.drawn:
            said.append(
                f"{task.task}: answers are sampled at random, as the task or task.gen_kwargs "
                "asks; another run gets others."
            )
    return said


def matters(outcome: Outcome) -> list[str]:
    """What was not asked, answered or read as it should be: a sentence each."""
    return [sentence for task in outcome.tasks for sentence in _matters(task)]


def _matters(task: TaskOutcome) -> Iterator[str]:
    n = task.evaluated
    if n != task.expected:
        yield f"{task.task}: {n} of {task.expected} samples were evaluated."
    if task.truncated:
        yield f"{task.task}: {of(task.truncated, n)} prompts lost their beginning to max_model_len."
    if task.refused:
        yield f"{task.task}: {of(task.refused, n)} prompts were too long to be asked at all."
    if task.cut_answers:
        # An older run's outcome does not count answers.
        cut = of(task.cut_answers, task.answers or n)
        yield f"{task.task}: {cut} answers were stopped at the token limit."
    if task.unparsable:
        drawn = f"; it guessed {task.guessed} of them at random" if task.guessed else ""
        yield (
            f"{task.task}: in {of(task.unparsable, n)} answers lm-eval found nothing that it could "
            f"read{drawn}."
        )
        lucky = [each for each in task.metrics if each.task == task.task and each.luck]
        for metric in lucky:
            yield (
                f"{task.task}: guessing earned {metric.luck:.3f} of {metric.name}; without it the "
                f"value is {metric.value - metric.luck:.3f}."
            )
    if task.unmatched:
        yield f"{task.task}: {of(task.unmatched, n)} samples have no record of the engine's answer."
    yield from _departures(task)


def _departures(task: TaskOutcome) -> Iterator[str]:
    for each in task.departures:
        yield (
            f"{task.task}: in {of(each.samples, task.evaluated)} samples, {each.said}; see "
            f"document {each.doc_id} of {each.task}."
        )
