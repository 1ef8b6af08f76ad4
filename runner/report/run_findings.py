"""Sentences of the report: the verdict, then caveats about the numbers."""

from __future__ import annotations

from collections.abc import Iterator

from runner.evidence.degenerate import SAID
from runner.language import N_, gettext, translated
from runner.outcome import MetricResult, Outcome, Repeated, TaskOutcome
from runner.percent import percent
from runner.plan import Plan
from runner.present.formats import cut, number, of
from runner.report.gates import weak_gates
from runner.status import Status
from runner.verdict import MetricVerdict, Verdict

SAYING = {
    Status.PASSED: N_("{model} passed"),
    Status.FAILED: N_("{model} failed"),
    Status.INCONCLUSIVE: N_("{model} gave an inconclusive result"),
    Status.UNJUDGED: N_("{model} was measured but not judged"),
    Status.ERROR: N_("{model} was not measured: the run ended with an error"),
    Status.REFUSED: N_("{model} was not measured: the run was rejected"),
    Status.INTERRUPTED: N_("{model} was not fully measured: the run was interrupted"),
}


def headline(plan: Plan, outcome: Outcome, verdict: Verdict) -> str:
    """Return one sentence with the verdict and up to three decisive metrics."""
    said = _on_part(gettext(SAYING[verdict.status], model=plan.model), outcome)
    decisive = [
        each for each in verdict.metrics if each.baseline is not None and each.value is not None
    ]
    telling = [each for each in decisive if each.status is verdict.status] or decisive
    if not telling or verdict.status in (Status.ERROR, Status.REFUSED, Status.INTERRUPTED):
        return gettext("{said}.", said=said)
    numbers = [_against(each) for each in telling[:3]]
    if len(telling) > 3:
        numbers.append(gettext("and {count} more", count=len(telling) - 3))
    return gettext("{said}: {numbers}.", said=said, numbers=gettext("; ").join(numbers))


def _against(metric: MetricVerdict) -> str:
    value = number(metric.value, 3)
    value += f" ± {number(metric.stderr, 3)}" if metric.stderr is not None else ""
    name = f"{cut(metric.task)} {cut(metric.metric)}" + (
        "" if metric.filter == "none" else f",{metric.filter}"
    )
    return gettext(
        "{name} {value} (baseline {baseline:g})",
        name=name,
        value=value,
        baseline=metric.baseline,
    )


def findings(plan: Plan, outcome: Outcome, verdict: Verdict) -> list[str]:
    """Return the reasons for the verdict and the caveats, one sentence each."""
    found = [gettext("{reason}.", reason=verdict.reason)] if verdict.reason else []
    troubles = matters(outcome)
    found += [*repeats(outcome), *limited(outcome), *troubles]
    if outcome.tasks and not troubles:
        asked = sum(task.scored for task in outcome.tasks)
        found.append(
            gettext("All {count} prompts fit, all answers finished and were parsed.", count=asked)
            if plan.replay is None
            else gettext(
                "All {count} prompts fit, the engine was given the reference run's answers.",
                count=asked,
            )
        )
    found += sampling(outcome)
    found += weak_gates(plan, outcome, verdict)
    found += [
        gettext("The attempt failed and was retried: {reason}.", reason=reason)
        for reason in outcome.retries
    ]
    found += [gettext("Overridden check: {line}", line=line) for line in plan.overruled]
    if plan.engine_args.get("trust_remote_code"):
        found.append(
            gettext("trust_remote_code was on: this run executed code shipped with the weights.")
        )
    return found


def _on_part(said: str, outcome: Outcome) -> str:
    """`… on 120 of 600 samples (task.limit)`, unless all were asked."""
    if not any(task.partial for task in outcome.tasks):
        return said
    asked = sum(task.expected for task in outcome.tasks)
    whole = sum(task.whole or task.expected for task in outcome.tasks)
    unit = N_("samples") if all(task.samples == 1 for task in outcome.tasks) else N_("questions")
    why = ", ".join(dict.fromkeys(task.left_out for task in outcome.tasks if task.partial))
    return gettext(
        "{said} on {asked} of {whole} {unit} ({why})",
        said=said,
        asked=asked,
        whole=whole,
        unit=gettext(unit),
        why=why,
    )


def limited(outcome: Outcome) -> list[str]:
    """Return one sentence for each task that was asked only some of its questions."""
    return [_limited(task) for task in outcome.tasks if task.partial]


def _limited(task: TaskOutcome) -> str:
    if task.look.last:
        return gettext(
            "{task}: limited to {asked} of {whole} {unit} ({key}).",
            task=task.task,
            asked=task.expected,
            whole=task.whole,
            unit=gettext(task.unit),
            key=task.left_out,
        )
    return gettext(
        "{task}: stopped after {asked} of {whole} {unit}, asked in random order, because they were "
        "enough for a verdict (verdict.sequential, look {look} of {looks}). The other {others} "
        "were not asked.",
        task=task.task,
        asked=task.expected,
        whole=task.whole,
        unit=gettext(task.unit),
        look=task.look.number,
        looks=task.look.of,
        others=(task.whole or 0) - task.expected,
    )


def departures(outcome: Outcome) -> list[str]:
    """Return one sentence for each request that differs from the configuration."""
    return [sentence for task in outcome.tasks for sentence in _departures(task)]


def sampling(outcome: Outcome) -> list[str]:
    """Return one sentence for each generation setting that may surprise a reader."""
    said = []
    for task in outcome.tasks:
        if task.greedy_by_default:
            said.append(
                gettext(
                    "{task}: the task sets neither do_sample nor temperature, so answers are "
                    "greedy (lm-eval's documented default).",
                    task=task.task,
                )
            )
        if task.drawn:
            said.append(
                gettext(
                    "{task}: answers are sampled at random, with seeds from task.seed; change it "
                    "for independent answers.",
                    task=task.task,
                )
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
    said = gettext(
        "{task} {metric}: avg@{k} {value:.3f} over {n} questions",
        task=task,
        metric=metric.name,
        k=k,
        value=metric.value,
        n=metric.n,
    )
    if repeated.passed is None:
        return gettext("{said}, {k} samples each.", said=said, k=k)
    numbers = [said]
    numbers += [f"pass@{size} {share:.3f}" for size, share in repeated.passed.items() if size > 1]
    numbers += [f"maj@{k} {repeated.majority:.3f}"] if repeated.majority is not None else []
    shares = {
        N_("{share} always"): repeated.always,
        N_("{share} sometimes"): repeated.sometimes,
        N_("{share} never"): repeated.never,
    }
    parts = (
        gettext(message, share=percent(share))
        for message, share in shares.items()
        if share is not None
    )
    return gettext(
        "{numbers}. Questions answered right: {parts}.",
        numbers=gettext(", ").join(numbers),
        parts=gettext(", ").join(parts),
    )


def matters(outcome: Outcome) -> list[str]:
    """Return one sentence for each problem with prompts, answers or parsing."""
    return [sentence for task in outcome.tasks for sentence in _matters(task)]


def _matters(task: TaskOutcome) -> Iterator[str]:
    name, n, scored = task.task, task.evaluated, task.scored
    if n != task.expected:
        yield gettext(
            "{task}: {n} of {expected} {unit} were evaluated.",
            task=name,
            n=n,
            expected=task.expected,
            unit=gettext(task.unit),
        )
    if task.truncated:
        yield gettext(
            "{task}: {prompts} prompts were left-truncated to max_model_len.",
            task=name,
            prompts=of(task.truncated, scored),
        )
    if task.refused:
        yield gettext(
            "{task}: {prompts} prompts exceeded max_model_len and were not sent.",
            task=name,
            prompts=of(task.refused, scored),
        )
    yield from _answers(task)
    yield from _parsing(task)
    if task.unmatched:
        yield gettext(
            "{task}: {samples} samples have no recorded engine answer.",
            task=name,
            samples=of(task.unmatched, scored),
        )
    yield from _departures(task)


def _answers(task: TaskOutcome) -> Iterator[str]:
    """Problems of the answers themselves."""
    name = task.task
    answers = task.answers or task.scored  # an older run's outcome does not count them
    if task.cut_answers:
        stopped = of(task.cut_answers, answers)
        yield (
            gettext(
                "{task}: {answers} answers were stopped at the token limit, {thinking} of them "
                "while thinking.",
                task=name,
                answers=stopped,
                thinking=task.cut_thinking,
            )
            if task.cut_thinking
            else gettext(
                "{task}: {answers} answers were stopped at the token limit.",
                task=name,
                answers=stopped,
            )
        )
    if task.thought_only:
        yield gettext(
            "{task}: {answers} answers are empty after their reasoning.",
            task=name,
            answers=of(task.thought_only, answers),
        )
    for each in task.degenerate:
        yield gettext(
            "{task}: {answers} answers {said}; see document {doc_id} of {subtask}.",
            task=name,
            answers=of(each.answers, answers),
            said=gettext(SAID[each.kind]),
            doc_id=each.doc_id,
            subtask=each.task,
        )


def _parsing(task: TaskOutcome) -> Iterator[str]:
    """Answers that could not be parsed, and what guesses contribute."""
    if not task.unparsable:
        return
    unparsable = of(task.unparsable, task.scored)
    yield (
        gettext(
            "{task}: {answers} answers could not be parsed; lm-eval guessed {guessed} of them at "
            "random.",
            task=task.task,
            answers=unparsable,
            guessed=task.guessed,
        )
        if task.guessed
        else gettext(
            "{task}: {answers} answers could not be parsed.", task=task.task, answers=unparsable
        )
    )
    for metric in task.metrics:
        if metric.task == task.task and metric.luck:
            yield gettext(
                "{task}: random guesses contribute {luck:.3f} to {metric}; without them the value "
                "is {value:.3f}.",
                task=task.task,
                luck=metric.luck,
                metric=metric.name,
                value=metric.value - metric.luck,
            )


def _departures(task: TaskOutcome) -> Iterator[str]:
    for each in task.departures:
        yield gettext(
            "{task}: in {samples} {unit}, {said}; see document {doc_id} of {subtask}.",
            task=task.task,
            samples=of(each.samples, task.evaluated),
            unit=gettext(task.unit),
            said=translated(each.said),
            doc_id=each.doc_id,
            subtask=each.task,
        )
