"""python -m runner.promote RUN: makes a run the reference for its model and tasks."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from runner.channel.sender import FindNoise, GiveAlias
from runner.digest import digest_path
from runner.errors import UserError
from runner.language import ENGLISH, speaking
from runner.messages import complain, warn
from runner.outcome import Outcome
from runner.plan import Plan
from runner.reference import locating, standing
from runner.reference.reading import NOISE_RUN, asked_otherwise, incomplete, read
from runner.report import terminal
from runner.rundir import RunDirectory, read_json, write_json
from runner.status import INFRASTRUCTURE, INTERRUPTED, USAGE_ERROR, Status
from runner.suite import following, nights
from runner.tracking.aliases import now
from runner.tracking.courier import Courier
from runner.tracking.sender_process import NotSent
from runner.tracking.tracked import TrackedRun
from runner.verdict import Verdict, degenerate
from runner.verdict.doubts import meaningless
from runner.verdict.rule import THE_REFERENCE

HELP = """\
Sets an alias (baseline@MODEL/TASK) for a run in MLflow, so that everyone who uses this MLflow
store can refer to it. To compare later runs with it, use verdict=paired
verdict.reference=baseline@MODEL/TASK. A run that had the alias before loses it.

--auto moves references forward after good nights of a suite (docs/suites.md). The run that had
the alias first keeps baseline.first@MODEL/TASK, and the drift since then is shown.

--noise also stores noise runs, which show how much correct stacks differ: replays of RUN serve
verdict=replay, and ordinary runs of the same questions serve verdict=numerics. Later runs with
verdict.reference=baseline@MODEL/TASK use them. Promoting RUN again keeps them, unless you pass
--noise.

Exit status: 0 done · 1 rejected, with the reason · 2 MLflow failed
             130 interrupted
"""
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(
        "python -m runner.promote",
        description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help="a run directory or an MLflow run id")
    parser.add_argument("--alias", default="baseline", help="name of the alias (default: baseline)")
    parser.add_argument(
        "--uri",
        default=os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd()}/mlflow.db",
        help="MLflow tracking URI if RUN is an id (default: MLFLOW_TRACKING_URI, or mlflow.db in "
        "the working directory)",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="promote a run that FAILED, is partial (task.limit) or incomplete, or store a noise "
        "run that FAILED or is of another model",
    )
    parser.add_argument(
        "--noise",
        nargs="+",
        default=[],
        metavar="RUN",
        help="runs on correct stacks: replays of RUN (verdict=replay verdict.reference=RUN), or "
        "ordinary runs of the same questions for verdict=numerics; run directories or MLflow run "
        "ids; they replace those stored before",
    )
    parser.add_argument(
        "--auto",
        action="store_true",
        help="RUN is the directory of a suite's night: each entry's reference moves forward to its "
        "run of this night, if there is no doubt about the last nights",
    )
    parser.add_argument(
        "--nights",
        type=int,
        default=following.NIGHTS,
        metavar="N",
        help=f"good nights in a row that --auto needs, this one included ({following.NIGHTS})",
    )
    try:
        given = parser.parse_args(arguments)
    except SystemExit as error:
        return USAGE_ERROR if error.code else 0
    try:
        with Courier() as courier:
            if given.auto:
                return _follow(given, courier)
            return promote(given.run, given.alias, given.uri, given.force, courier, given.noise)
    except UserError as error:
        complain(UserError(*(line.removeprefix(f"{locating.KEY}=") for line in error.problems)))
        return USAGE_ERROR
    except NotSent as error:
        complain(UserError(f"MLflow did not set the alias: {error}"))
        return INFRASTRUCTURE
    except ValueError as error:  # pydantic's: a file of another version, or cut short
        said = " ".join(str(error).split())[:200]
        complain(UserError(f"{given.run}: not a readable run ({said})"))
        return USAGE_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _follow(given: argparse.Namespace, courier: Courier) -> int:
    if given.force or given.noise:
        raise UserError("--auto: never with --force or --noise; promote such a run by itself")
    if given.nights < 1:
        raise UserError(f"--nights {given.nights}: at least 1 night is needed")

    def moved(run: str) -> int:
        return promote(run, given.alias, given.uri, False, courier)

    directory = Path(given.run)
    steps = following.follow(directory, given.alias, given.nights, courier, moved)
    write_json(directory / nights.REFERENCES, steps)
    following.show(terminal.console(), steps, given.alias)
    return 0


def promote(
    name: str,
    alias: str,
    uri: str,
    force: bool,
    courier: Courier,
    noise: Sequence[str] = (),
) -> int:
    """Set the alias, store the noise runs, and print which run the alias points to.

    Raises:
        UserError: if a run is not in MLflow, cannot be a reference or a noise run, or needs
            --force.
        NotSent: if MLflow does not set it.
    """
    if not NAME.fullmatch(alias):
        raise UserError(
            f"--alias {alias}: use letters, digits, _ . and -, starting with a letter or digit"
        )
    located = locating.locate(name, uri, courier)
    files = RunDirectory(located.directory)
    if files.tracked.is_file():
        tracked: TrackedRun = read_json(files.tracked, TrackedRun)
        located, uri = replace(located, run_id=tracked.run_id), tracked.uri
    if located.run_id is None:
        raise UserError(
            f"{name}: not recorded in MLflow, which stores aliases ({files.tracked.name} is "
            "missing); upload it with python -m runner.sync"
        )
    doubts = _doubts(files)
    plan: Plan = read_json(files.plan, Plan)
    if plan.replay is not None:
        raise UserError(
            f"{name}: the run is a replay, whose answers are those of another run; promote the run "
            f"that it replayed, and add --noise {name} if this one ran on a correct stack"
        )
    if doubts and not force:
        raise UserError(
            *(f"{name}: {line}" for line in doubts),
            "to promote it anyway, use --force (against a run that FAILED, others pass only with "
            "verdict.allow_reference=true)",
        )
    for line in doubts:
        warn(f"{name}: {line}; promoted anyway (--force)")
    noise_ids = _noise(noise, name, files, uri, force, courier) if noise else ()
    known = courier.ask(FindNoise(uri, located.run_id), locating.LOOKUP_S)
    tasks = [each.task for each in plan.evaluations]
    given = GiveAlias(uri, located.run_id, alias, plan.model, tuple(tasks), now(), noise_ids)
    stored = noise_ids or known
    before = courier.ask(given, locating.LOOKUP_S)
    outcome: Outcome = read_json(files.outcome, Outcome)
    parts = {each.task: each for each in outcome.tasks if each.partial}
    out = terminal.console()
    for task in tasks:
        part = parts.get(task)
        said = f", {part.expected} of {part.whole} {part.unit} ({part.left_out})" if part else ""
        out.print(f"{alias}@{plan.model}/{task} is now run {located.run_id}{said}")
    for run_id in before:
        out.print(f"run {run_id} no longer has this alias")
    if stored:
        kept = "" if noise_ids else " (stored before; --noise replaces them)"
        out.print(f"noise runs: {', '.join(stored)}{kept}")
    if dropped := [each for each in known if each not in stored]:
        out.print(f"no longer noise runs: {', '.join(dropped)}")
    return 0


@speaking(ENGLISH)
def _noise(
    names: Sequence[str],
    reference: str,
    files: RunDirectory,
    uri: str,
    force: bool,
    courier: Courier,
) -> tuple[str, ...]:
    """The MLflow run ids of the noise runs, each once.

    Raises:
        UserError: with a line for each run that can't be one.
    """
    problems: list[str] = []
    found: dict[str, None] = {}
    plan: Plan = read_json(files.plan, Plan)
    asked: Outcome = read_json(files.outcome, Outcome)
    digest = digest_path(files.samples)
    for name in names:
        option = f"--noise={name}"
        try:
            run = read(name, locating.locate(name, uri, courier, "--noise"), "--noise")
        except UserError as error:
            problems += error.problems
            continue
        doubts = (
            standing.judged(run.used.status),
            standing.other_model(run.used.model, plan.model, run.weights, plan.weights),
            "" if run.replayed else _fewer(run.outcome, asked),
        )
        doubt = " and ".join(filter(None, doubts))
        differ = [] if run.replayed else asked_otherwise(run, plan, NOISE_RUN, THE_REFERENCE)
        if run.replayed not in ("", digest):
            problems.append(
                f"{option}: the run is a replay, but not of {reference}; run verdict=replay "
                f"verdict.reference={reference} on a correct stack, and give that run"
            )
        elif digest_path(run.files.samples) == digest:
            problems.append(
                f"{option}: the run is {reference} itself, which shows no noise; run the same "
                "questions again on a correct stack, and give that run"
            )
        elif differ:
            problems += [f"{option}: {line}" for line in differ]
        elif run.used.run_id is None:
            problems.append(
                f"{option}: not recorded in MLflow, which stores noise runs; upload it with "
                "python -m runner.sync"
            )
        elif doubt and not force:
            problems.append(
                f"{option}: the run {doubt}; give a run on a stack that is known to be correct, or "
                "use --force if this one is"
            )
        else:
            if doubt:
                warn(f"{option}: the run {doubt}; used anyway (--force)")
            found[run.used.run_id] = None
    if problems:
        raise UserError(*problems)
    return tuple(found)


def _fewer(noise: Outcome, reference: Outcome) -> str:
    """Which questions of the reference run an ordinary noise run lacks; empty if none."""
    evaluated = {task.task: task.evaluated for task in noise.tasks}
    found = [
        f"evaluated {evaluated[task.task]:,} questions of {task.task}, and the reference run "
        f"{task.evaluated:,}"
        for task in reference.tasks
        if evaluated.get(task.task, task.evaluated) < task.evaluated
    ]
    return " and ".join(found)


@speaking(ENGLISH)
def _doubts(files: RunDirectory) -> list[str]:
    for needed in (files.plan, files.outcome, files.verdict):
        if not needed.is_file():
            raise UserError(f"{files.path}: not a completed run ({needed.name} is missing)")
    outcome: Outcome = read_json(files.outcome, Outcome)
    verdict: Verdict = read_json(files.verdict, Verdict)
    plan: Plan = read_json(files.plan, Plan)
    asked = {each.task: vars(each) for each in plan.evaluations}
    found = incomplete(outcome)
    found += [
        f"of {task.task}, the run {limited}"
        for task in outcome.tasks
        if (limited := standing.partial(asked.get(task.task, {}), task))
    ]
    if verdict.status is not Status.PASSED:
        found += [
            f"of {task.task}, {doubt}"
            for task in outcome.tasks
            for doubt in (meaningless(task), degenerate.too_many(task))
            if doubt
        ]
    if judged := standing.judged(verdict.status.value):
        found.append(f"the run {judged} ({verdict.reason})")
    return found


if __name__ == "__main__":
    sys.exit(main())
