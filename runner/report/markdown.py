"""report.md: the verdict as Markdown that can be pasted into a release note."""

from __future__ import annotations

from runner.environment import Environment
from runner.language import gettext
from runner.outcome import Outcome, TaskOutcome
from runner.plan import Plan
from runner.present.formats import cell, fenced, interval, number, of, plus_minus, signed
from runner.present.lm_eval_command import lm_eval_command
from runner.present.template import template
from runner.report.gates import weak_gates
from runner.report.run_findings import departures, repeats, sampling
from runner.report.serving import serving
from runner.report.stack import engine_settings, execution_mode, version, vllm_version
from runner.status import Status
from runner.verdict import MetricVerdict, Verdict, explanation

MARKS = {Status.PASSED: "✅", Status.FAILED: "❌", Status.INCONCLUSIVE: "❔", Status.UNJUDGED: ""}


def render(
    plan: Plan,
    environment: Environment,
    outcome: Outcome,
    verdict: Verdict,
    log_tail: str = "",
    command: str = "",
) -> str:
    """Render the report; `log_tail` is shown if the run did not complete, `command` started it."""
    page = template(
        "report.md.j2",
        beneath=explanation.beneath,
        cell=cell,
        counts=_counts,
        fenced=fenced,
        interval=interval,
        marked=_marked,
        number=number,
        of=of,
        plus_minus=plus_minus,
        reference=explanation.reference,
        signed=signed,
    )
    return page.render(
        plan=plan,
        environment=environment,
        outcome=outcome,
        engine_settings=engine_settings(plan, outcome),
        verdict=verdict,
        execution_mode=execution_mode(plan, outcome),
        version=lambda *names: version(environment, *names),
        vllm_version=vllm_version(plan, environment),
        lm_eval_command=lm_eval_command(plan, outcome.greedy_by_default),
        notes=[
            *repeats(outcome),
            *departures(outcome),
            *sampling(outcome),
            *weak_gates(plan, outcome, verdict),
        ],
        serving=serving(outcome.served),
        log_tail=log_tail,
        command=command,
    )


def _marked(metric: MetricVerdict) -> str:
    return MARKS[metric.status] + (number(metric.value) or gettext("missing"))


def _counts(task: TaskOutcome) -> str:
    """How many questions a task asked, how long that took, and what its answers lack."""
    asked = gettext(
        "{part} of {whole} {unit}",
        part=task.evaluated,
        whole=task.whole or task.expected,
        unit=gettext(task.unit),
    )
    asked += " (task.limit)" if task.partial else ""
    if task.samples > 1:
        asked = gettext("{asked}, {count} samples each,", asked=asked, count=task.samples)
    unparsable = gettext("unparsable answers: {answers}", answers=of(task.unparsable, task.scored))
    if task.guessed:
        unparsable = gettext(
            "{unparsable} (guessed at random by lm-eval: {count})",
            unparsable=unparsable,
            count=task.guessed,
        )
    degenerate = of(task.degenerate_answers, task.answers or task.scored)
    faults = [
        gettext("left-truncated prompts: {count}", count=task.truncated),
        gettext("prompts over max_model_len: {count}", count=task.refused),
        gettext("answers stopped at the token limit: {count}", count=task.cut_answers),
        gettext("degenerate answers: {answers}", answers=degenerate),
        unparsable,
    ]
    return gettext(
        "{task}: {asked} in {seconds:.0f} s, {tokens} tokens generated; {faults}",
        task=task.task,
        asked=asked,
        seconds=task.seconds,
        tokens=task.output_tokens,
        faults=gettext(", ").join(faults),
    )
