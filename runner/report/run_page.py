"""Renders report.html from a run directory. Model output is untrusted and escaped."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from runner.channel.worker import Event, Progress, read_events
from runner.environment import Environment
from runner.evidence.outlines import read_outlines, with_texts
from runner.evidence.samples import Sample, asked_for
from runner.language import N_, gettext
from runner.outcome import Outcome, TaskOutcome
from runner.plan import Plan
from runner.present import mlflow_link
from runner.present.browser import Browser
from runner.present.formats import duration, interval, number, of, signed
from runner.present.lm_eval_command import lm_eval_command
from runner.present.pictures import pictures
from runner.present.strips import COLOURS, strips, told
from runner.present.template import template
from runner.report import run_findings
from runner.report.answers import Shown, shortened, worst
from runner.report.browsed import browsed
from runner.report.plots import Plot, histogram, pace
from runner.report.serving import serving
from runner.report.stack import engine, execution_mode, version
from runner.report.subjects import Subjects, by_subject
from runner.report.subjects import told as told_of_subject
from runner.rundir import RunDirectory
from runner.verdict import Verdict
from runner.verdict.explanation import beneath, reference

LAPS = {
    "load_tasks_s": N_("loading tasks"),
    "start_engine_s": N_("startup (imports, checks, engine)"),
    "evaluate_s": N_("evaluating"),
}


@dataclass(frozen=True)
class TaskPage:
    """One task: subjects, distributions of lengths and times, and example answers."""

    task: TaskOutcome
    subjects: Subjects | None
    plots: list[Plot]
    answers: list[Shown]


def render(
    run: RunDirectory,
    plan: Plan,
    environment: Environment,
    outcome: Outcome,
    verdict: Verdict,
    log_tail: str = "",
    served: Browser | None = None,
) -> str:
    """Render the page; samples, images and events are read from the run directory.

    The page of a server has none of the blocks of its browser: `served` ones are asked for.
    """
    samples = read_outlines(run.samples)
    events = list(read_events(run.events))
    times = [event.time for event in events]
    began, ended = min(times, default=run.config.stat().st_mtime), max(times, default=0.0)
    judged = [each for each in verdict.metrics if each.judged]
    line, marks = strips(judged)
    tasks = [_task(task, verdict, samples, events) for task in outcome.tasks]
    tasks = _with_texts(run, tasks, samples)
    shown = [shown.sample for task in tasks for shown in task.answers]
    page = template(
        "report.html.j2",
        beneath=beneath,
        interval=interval,
        number=number,
        of=of,
        reference=reference,
        shortened=shortened,
        signed=signed,
        told_of_subject=told_of_subject,
    )
    return page.render(
        plan=plan,
        environment=environment,
        outcome=outcome,
        verdict=verdict,
        command=run.command.read_text(encoding="utf-8") if run.command.exists() else "",
        headline=run_findings.headline(plan, outcome, verdict),
        findings=run_findings.findings(plan, outcome, verdict),
        execution_mode=execution_mode(plan, outcome),
        version=lambda *names: version(environment, *names).partition(" (")[0],
        serving=serving(outcome.served),
        engine_version=engine(plan, environment).partition(" (")[0],
        lm_eval_command=lm_eval_command(plan, outcome.greedy_by_default),
        judged=list(zip(judged, marks, strict=True)),
        line=line,
        colours=COLOURS,
        told=told,
        tasks=tasks,
        laps=[
            (gettext(said), outcome.timings[name])
            for name, said in LAPS.items()
            if name in outcome.timings
        ],
        pictures=pictures([run.images], [each for of in shown for each in of.image_hashes]),
        directory=run.path,
        browser=served or browsed(run, outcome, verdict, samples),
        served=served is not None,
        unit="samples",
        view=f"python -m runner.view {shlex.quote(str(run.path))}",
        log_tail=log_tail,
        began=datetime.fromtimestamp(began, timezone.utc),
        took=duration(ended - began) if ended > began else "",
        link_place=mlflow_link.START + mlflow_link.END,
    )


def _task(
    task: TaskOutcome, verdict: Verdict, samples: Sequence[Sample], events: Sequence[Event]
) -> TaskPage:
    own = asked_for(task, samples)
    once = list({(each.task, each.doc_id, each.repeat): each for each in own}.values())
    generated = any(len(sample.token_ids) for sample in once)
    own_events = [e for e in events if isinstance(e, Progress) and e.task == task.task]
    # The length of a scored choice is set by the task, not by the model.
    answer_tokens = [_answer_tokens(sample) for sample in once] if generated else []
    prompt_tokens = [max(s.prompt_tokens) for s in once if s.prompt_tokens]
    answer_times = [round(1000 * max(s.seconds)) for s in once if s.seconds]
    plots = (
        histogram(gettext("Answer length"), answer_tokens, gettext("tokens")),
        histogram(gettext("Prompt length"), prompt_tokens, gettext("tokens, including images")),
        histogram(gettext("Time per answer"), answer_times, gettext("milliseconds in the engine")),
        pace(gettext("Answers over time"), own_events),
    )
    subjects = by_subject(task, verdict, own)
    return TaskPage(
        task=task,
        subjects=subjects,
        plots=[plot for plot in plots if plot is not None],
        answers=worst(task, verdict, own, subjects),
    )


def _with_texts(
    run: RunDirectory, tasks: Sequence[TaskPage], samples: Sequence[Sample]
) -> list[TaskPage]:
    """The pages with the texts of the answers that they show."""
    chosen = {id(shown.sample) for task in tasks for shown in task.answers}
    places = [place for place, each in enumerate(samples) if id(each) in chosen]
    whole = {id(samples[place]): each for place, each in with_texts(run.samples, samples, places)}
    return [
        replace(
            task, answers=[replace(shown, sample=whole[id(shown.sample)]) for shown in task.answers]
        )
        for task in tasks
    ]


def _answer_tokens(sample: Sample) -> int:
    """The mean over its repeats."""
    return len(sample.token_ids) // max(len(sample.finish_reasons), 1)
