"""report.md: the verdict as Markdown that can be pasted into a release note."""

from __future__ import annotations

from runner.environment import Environment
from runner.outcome import Outcome
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
    return f"{MARKS[metric.status]}{number(metric.value) or 'missing'}"
