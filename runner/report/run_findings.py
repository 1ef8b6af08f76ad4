"""Sentences of the report: the verdict, then caveats about the numbers."""

from __future__ import annotations

from collections.abc import Iterator

from runner.evidence.degenerate import SAID
from runner.outcome import MetricResult, Outcome, Repeated, TaskOutcome
from runner.percent import percent
from runner.plan import Plan
from runner.present.formats import cut, number, of
from runner.report.gates import weak_gates
from runner.status import Status
from runner.verdict import MetricVerdict, Verdict

SAYING = {
    Status.PASSED: "passed",
    Status.FAILED: "failed",
    Status.INCONCLUSIVE: "gave an inconclusive result",
    Status.UNJUDGED: "was measured but not judged",
    Status.ERROR: "was not measured: the run ended with an error",
    Status.REFUSED: "was not measured: the run was rejected",
    Status.INTERRUPTED: "was not fully measured: the run was interrupted",
}


def headline(plan: Plan, outcome: Outcome, verdict: Verdict) -> str:
    """Return one sentence with the verdict and up to three decisive metrics."""
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
    return f"{name} {number(metric.value, 3)}{error} (baseline {metric.baseline:g})"


def findings(plan: Plan, outcome: Outcome, verdict: Verdict) -> list[str]:
    """Return the reasons for the verdict and the caveats, one sentence each."""
    found = [f"{verdict.reason}."] if verdict.reason else []
    troubles = matters(outcome)
    found += [*repeats(outcome), *limited(outcome), *troubles]
    if outcome.tasks and not troubles:
        asked = sum(task.scored for task in outcome.tasks)
        of_answers = "all answers finished and were parsed"
        if plan.replay is not None:
            of_answers = "the engine was given the reference run's answers"
        found.append(f"All {asked} prompts fit, {of_answers}.")
    found += sampling(outcome)
    found += weak_gates(plan, outcome, verdict)
    found += [f"The attempt failed and was retried: {reason}." for reason in outcome.retries]
    found += [f"Overridden check: {line}" for line in plan.overruled]
    if plan.engine_args.get("trust_remote_code"):
        found.append("trust_remote_code was on: this run executed code shipped with the weights.")
    return found


def _part(outcome: Outcome) -> str:
    """` on 120 of 600 samples (task.limit)`; empty if all were asked."""
    if not limited(outcome):
        return ""
    asked = sum(task.expected for task in outcome.tasks)
    whole = sum(task.whole or task.expected for task in outcome.tasks)
    unit = "samples" if all(task.samples == 1 for task in outcome.tasks) else "questions"
    why = ", ".join(dict.fromkeys(task.left_out for task in outcome.tasks if task.partial))
    return f" on {asked} of {whole} {unit} ({why})"


def limited(outcome: Outcome) -> list[str]:
    """Return one sentence for each task that was asked only some of its questions."""
    return [
        f"{task.task}: limited to {task.expected} of {task.whole} {task.unit} ({task.left_out})."
        if task.look.last
        else f"{task.task}: stopped after {task.expected} of {task.whole} {task.unit}, asked in "
        "random order, because they were enough for a verdict (verdict.sequential, look "
        f"{task.look.number} of {task.look.of}). The other "
        f"{(task.whole or 0) - task.expected} were not asked."
        for task in outcome.tasks
        if task.partial
    ]


def departures(outcome: Outcome) -> list[str]:
    """Return one sentence for each request that differs from the configuration."""
    return [sentence for task in outcome.tasks for sentence in _departures(task)]


def sampling(outcome: Outcome) -> list[str]:
    """Return one sentence for each generation setting that may surprise a reader."""
    said = []
    for task in outcome.tasks:
        if task.greedy_by_default:
            said.append(
                f"{task.task}: the task sets neither do_sample nor temperature, so answers "
                "are greedy (lm-eval's documented default)."
            )
        if task.drawn:
            said.append(
                f"{task.task}: answers are sampled at random, with seeds from task.seed; change "
                "it for independent answers."
            )
    return said


def repeats(outcome: Outcome) -> list[str]:
    """Return one sentence for each metric of a task whose questions were asked several times."""
    return [
        _repeats(task.task, metric, metric.repeated)
        for task in outcome.tasks
        for metric in task.metrics
        if metric.task == task.task and metric.repeated is not None
    ]


def _repeats(task: str, metric: MetricResult, repeated: Repeated) -> str:
    k = repeated.samples
    said = f"{task} {metric.name}: avg@{k} {metric.value:.3f} over {metric.n} questions"
    if repeated.passed is None:
        return f"{said}, {k} samples each."
    said += "".join(
        f", pass@{size} {share:.3f}" for size, share in repeated.passed.items() if size > 1
    )
    said += f", maj@{k} {repeated.majority:.3f}" if repeated.majority is not None else ""
    shares = {"always": repeated.always, "sometimes": repeated.sometimes, "never": repeated.never}
    parts = (f"{percent(share)} {name}" for name, share in shares.items() if share is not None)
    return f"{said}. Questions answered right: {', '.join(parts)}."


def matters(outcome: Outcome) -> list[str]:
    """Return one sentence for each problem with prompts, answers or parsing."""
    return [sentence for task in outcome.tasks for sentence in _matters(task)]


def _matters(task: TaskOutcome) -> Iterator[str]:
    n, scored = task.evaluated, task.scored
    if n != task.expected:
        yield f"{task.task}: {n} of {task.expected} {task.unit} were evaluated."
    if task.truncated:
        prompts = of(task.truncated, scored)
        yield f"{task.task}: {prompts} prompts were left-truncated to max_model_len."
    if task.refused:
        prompts = of(task.refused, scored)
        yield f"{task.task}: {prompts} prompts exceeded max_model_len and were not sent."
    answers = task.answers or scored  # an older run's outcome does not count them
    if task.cut_answers:
        cut = of(task.cut_answers, answers)
        thinking = f", {task.cut_thinking} of them while thinking" if task.cut_thinking else ""
        yield f"{task.task}: {cut} answers were stopped at the token limit{thinking}."
    if task.thought_only:
        empty = of(task.thought_only, answers)
        yield f"{task.task}: {empty} answers are empty after their reasoning."
    for each in task.degenerate:
        yield (
            f"{task.task}: {of(each.answers, answers)} answers {SAID[each.kind]}; see document "
            f"{each.doc_id} of {each.task}."
        )
    if task.unparsable:
        drawn = f"; lm-eval guessed {task.guessed} of them at random" if task.guessed else ""
        yield f"{task.task}: {of(task.unparsable, scored)} answers could not be parsed{drawn}."
        lucky = [each for each in task.metrics if each.task == task.task and each.luck]
        for metric in lucky:
            yield (
                f"{task.task}: random guesses contribute {metric.luck:.3f} to {metric.name}; "
                f"without them the value is {metric.value - metric.luck:.3f}."
            )
    if task.unmatched:
        yield f"{task.task}: {of(task.unmatched, scored)} samples have no recorded engine answer."
    yield from _departures(task)


def _departures(task: TaskOutcome) -> Iterator[str]:
    for each in task.departures:
        yield (
            f"{task.task}: in {of(each.samples, task.evaluated)} {task.unit}, {each.said}; see "
            f"document {each.doc_id} of {each.task}."
        )
