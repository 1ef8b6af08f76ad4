"""Runs one evaluation, from configuration to exit status.

Each step's result is on disk before the next step starts.
"""

from __future__ import annotations

import shlex
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from rich.console import Console

from runner import preflight, secrecy
from runner.channel.worker import Looked
from runner.config.composed import Composed
from runner.config.schema import RunConfig, TrackingConfig
from runner.environment import Environment, collect
from runner.errors import UserError
from runner.evidence.samples import read_samples
from runner.facts import at_hand, gathered
from runner.inputs import sources
from runner.language import gettext
from runner.messages import warn
from runner.outcome import Outcome, State
from runner.plan import Plan
from runner.planning import Facts, make_plan
from runner.platforms import PLATFORMS
from runner.reference import stopped
from runner.reference.references import References, find
from runner.report import markdown, terminal
from runner.report.progress import ProgressDisplay
from runner.rundir import RunDirectory, read_json, write_atomic, write_json
from runner.status import Status
from runner.supervision import supervisor
from runner.supervision.checking import Checker, Prospect
from runner.supervision.interruption import deferring
from runner.tracking import records
from runner.tracking.courier import Courier, warn_pending
from runner.tracking.sender_process import NotSent
from runner.tracking.tracked import TrackedRun
from runner.verdict import Verdict, early, judge
from runner.verdict.rule import Against, needs_samples


@dataclass(frozen=True)
class Checked:
    """A run that has passed all checks."""

    config: RunConfig
    composed: Composed
    plan: Plan
    environment: Environment
    references: References | None = None


def run(config: RunConfig, composed: Composed, directory: Path) -> int:
    """Plan, check, evaluate, judge, report and record a run. Returns the exit status.

    Raises:
        UserError: if the configuration or the machine rules out the run; no engine was started.
    """
    out = terminal.console()
    with Courier() as courier:
        if config.preflight_only:
            with Checker() as checker:
                prospect = show_plan(config, courier, out, checker, directory)
            return prospect.status
        with supervisor.Supervisor() as engine:
            checked = check(config, composed, courier, out, engine)
            return perform(checked, directory, engine, courier, out).exit_status


def show_plan(
    config: RunConfig, courier: Courier, out: Console, checker: Checker, directory: Path | None
) -> Prospect:
    """Show the plan and check it without starting an engine.

    `directory` is the run's directory if it must be free. The result includes what could not be
    checked.

    Raises:
        UserError: if there is a problem; the plan is shown first.
    """
    found = preflight.look(config)
    references = _references(config, found, courier)
    environment = _environment(config)
    for warning in found.warnings:
        _warn(warning)
    if found.problems:  # a rejection does not wait for digests, nor for what depends on them
        plan = make_plan(found.config, at_hand(found, environment))
        plan = replace(plan, engine_fingerprint="", evaluation_fingerprint="")
    else:
        plan = make_plan(found.config, _facts(found, environment, references))
    used = references.run.used if references is not None else None
    terminal.show_plan(out, plan, found.memory, used)
    unfit = references.unfit(plan) if references is not None and not found.problems else []
    if not found.problems:
        unfit += stopped.problems(plan, config.journal.continues)
    if directory is not None and RunDirectory(directory).holds_a_run:
        unfit.append(f"output_dir={directory}: already contains a run; choose another directory")
    if problems := [*found.problems, *unfit]:
        raise UserError(*problems)
    out.print()
    weights = found.weights is not None and found.weights.directory is not None
    with ProgressDisplay(out) as display:
        prospect = checker.check(plan, display, config.limits, weights)
    if prospect.outcome.state is State.REFUSED:
        raise UserError(*prospect.outcome.reason.splitlines())
    if prospect.outcome.state is State.COMPLETED:
        terminal.show_prospect(out, prospect.requests, prospect.unchecked)
    else:
        out.print(secrecy.blotted(prospect.log))
        failed = gettext("the check failed: {reason}", reason=prospect.outcome.reason)
        out.print(secrecy.blotted(failed))
    return prospect


def check(
    config: RunConfig,
    composed: Composed,
    courier: Courier,
    out: Console,
    engine: supervisor.Supervisor | None = None,
) -> Checked:
    """Check everything that can be checked before an engine starts, and fetch missing files.

    Once no problem is known, the worker of `engine` imports its libraries while weights and data
    are being hashed.

    Raises:
        UserError: with one line for each problem.
    """
    found = preflight.look(config)
    references = _references(config, found, courier)
    if found.source is not None and not found.problems:
        if sources.fetch(config, found.source, out.print):
            found = preflight.look(config)  # the weights' id is now a directory
        if found.source is not None:
            sources.verify(config, found.source, out.print)
    for warning in found.warnings:
        _warn(warning)
    if found.problems:
        raise UserError(*found.problems)
    environment = _environment(config)
    if engine is not None:
        engine.start_early(make_plan(found.config, at_hand(found, environment)))
    plan = make_plan(found.config, _facts(found, environment, references))
    unfit = references.unfit(plan) if references is not None else []
    if unfit := [*unfit, *stopped.problems(plan, config.journal.continues)]:
        raise UserError(*unfit)
    return Checked(found.config, composed, plan, environment, references)


def perform(
    checked: Checked,
    directory: Path,
    engine: supervisor.Supervisor,
    courier: Courier,
    out: Console,
    brief: bool = False,
) -> Verdict:
    """Evaluate on the engine, judge and report, then upload. Returns the verdict.

    Interrupts are deferred while judging and reporting. `brief` shortens the output for the points
    of a sweep; the comparison shows the rest.

    Raises:
        UserError: if lm-eval or vLLM rejects something that only they can check.
    """
    config, plan, environment = checked.config, checked.plan, checked.environment
    files = RunDirectory(directory)
    files.claim()
    checked.composed.write(files)
    write_json(files.plan, plan)
    write_json(files.environment, environment)

    if not brief:
        tasks = ", ".join(each.task for each in plan.evaluations)
        out.print(
            gettext(
                "{model} on {platform} ({layout}): {tasks}",
                model=plan.model,
                platform=plan.platform,
                layout=plan.parallel_mode,
                tasks=tasks,
            )
        )
    if config.tracking.enabled:
        courier.begin(files, records.begin(config, plan, environment, _milliseconds()))
    with deferring():  # except where `evaluate` allows an interrupt
        # Half a second that is free while the engine works. Not a daemon: one that Python ends
        # during an import can crash the process.
        threading.Thread(target=_prepare_page).start()
        with ProgressDisplay(out, brief) as display:
            enough = partial(_enough, checked, files)
            outcome = engine.evaluate(plan, files, display, config.limits, enough)
        for file in (files.engine_log, files.events, files.outcome):
            secrecy.blot(file)
        outcome = replace(outcome, reason=secrecy.blotted(outcome.reason))
        verdict = _judged(checked, outcome, files)
        write_json(files.verdict, verdict)
        engine.recorded(verdict.stopped)
        tail = supervisor.log_tail(files.engine_log) if outcome.state is State.ERROR else ""
        write_atomic(
            files.report,
            markdown.render(plan, environment, outcome, verdict, tail, checked.composed.command),
        )
        _write_page(files, plan, environment, outcome, verdict, tail)
        if outcome.state is State.REFUSED:
            courier.forget(files)
            raise UserError(*outcome.reason.splitlines())
        if brief:
            terminal.show_point(out, verdict, tail)
            terminal.show_departures(out, outcome)
        else:
            terminal.show_verdict(out, plan.model, verdict, tail)
            terminal.show_matters(out, outcome)
            terminal.show_gates(out, plan, outcome, verdict)
            terminal.show_feeding(out, outcome)
            terminal.show_reports(out, files.report, files.report_html)
            if verdict.reference is not None:
                both = shlex.join([verdict.reference.directory, str(files.path)])
                if plan.replay is None:
                    command = f"python -m runner.compare {both}"
                    out.print(gettext("compare: {command}", command=command))
                if verdict.status is Status.FAILED:
                    command = f"python -m runner.why {both}"
                    out.print(gettext("why: {command}", command=command))
    if config.tracking.enabled:
        tracked = _send(files, courier, config.tracking)
        if tracked is not None and not brief:
            terminal.show_tracked(out, tracked)
    return verdict


def _environment(config: RunConfig) -> Environment:
    return collect(PLATFORMS[config.engine.platform], config.engine.interpreter)


def _facts(
    found: preflight.Findings, environment: Environment, references: References | None
) -> Facts:
    facts = gathered(found, environment)
    replay = references.replay(found.config) if references is not None else None
    return replace(facts, replay=replay)


def _references(
    config: RunConfig, found: preflight.Findings, courier: Courier
) -> References | None:
    """The runs to compare with; problems with them are added to the other problems in `found`."""
    try:
        return find(config, courier)
    except UserError as error:
        found.problems += error.problems
        return None


def _judged(checked: Checked, outcome: Outcome, files: RunDirectory) -> Verdict:
    """The verdict. Samples are read only if the rule needs them."""
    rule = checked.config.verdict
    kept = needs_samples(rule) and files.samples.is_file()
    samples = read_samples(files.samples) if kept else ()
    return judge(outcome, checked.plan.evaluations, rule, samples, _against(checked))


def _enough(checked: Checked, files: RunDirectory, look: Looked) -> bool:
    """Whether the questions asked so far are enough for a verdict on the task.

    The task is not finished yet, so it does not stay in the outcome on disk.
    """
    outcome: Outcome = read_json(files.outcome, Outcome)
    rule, evaluations = checked.config.verdict, checked.plan.evaluations
    samples = read_samples(files.samples)
    finished = tuple(each for each in outcome.tasks if each.task != look.task)
    write_json(files.outcome, replace(outcome, tasks=finished))
    return early.enough(look.task, outcome, evaluations, rule, samples, _against(checked))


def _against(checked: Checked) -> Against | None:
    references = checked.references
    return references.against(checked.plan) if references is not None else None


def _prepare_page() -> None:
    """Import what the reports need. What fails here fails again when it is written."""
    with suppress(Exception):
        import pyarrow.parquet  # noqa: F401
        import scipy.special  # noqa: F401

        from runner.present import plots
        from runner.report import run_page  # noqa: F401

        plots.load()


def _write_page(
    files: RunDirectory,
    plan: Plan,
    environment: Environment,
    outcome: Outcome,
    verdict: Verdict,
    log_tail: str,
) -> None:
    """Write the HTML report. An error here is only a warning: the other files have all the data."""
    from runner.report.run_page import render

    try:
        page = render(files, plan, environment, outcome, verdict, log_tail)
        write_atomic(files.report_html, page)
    except Exception as error:
        why = f" ({error.strerror})" if isinstance(error, OSError) else ""
        if not why:
            traceback.print_exc()
        _warn(f"{files.report_html} was not written{why}; {files.report} has the numbers")


def _send(run: RunDirectory, courier: Courier, tracking: TrackingConfig) -> TrackedRun | None:
    """Upload the run. The verdict is already on disk, so a failed upload is only a warning."""
    try:
        return courier.send(run, tracking.timeout_s)
    except NotSent as error:
        warn_pending(run.path, tracking.uri, str(error))
        return None


_warn = cache(warn)  # most points of a sweep have the same warnings


def _milliseconds() -> int:
    return int(time.time() * 1000)
