"""From the command line to the pages: reads both runs, searches, and writes what was found."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console

from runner.config import loading, recorded
from runner.config.recorded import Recorded
from runner.environment import Environment
from runner.errors import UserError
from runner.evidence.replayed import Question
from runner.evidence.samples import read_samples
from runner.plan import Plan
from runner.reference import locating
from runner.report import terminal
from runner.rundir import RunDirectory, read_json
from runner.tracking.courier import Courier
from runner.why import page, screen
from runner.why.cost import cost
from runner.why.probes import Prober, Replay, refuse_endpoint
from runner.why.reproduction import commands, stack
from runner.why.result import Stack, Why, result
from runner.why.search import Found, Search
from runner.why.switches import Differences, differences, set_aside

# What the probes print of themselves.
LOG = "probes.log"


def investigate(given: argparse.Namespace, command: str) -> bool:
    """Search for the causes; return whether one was found.

    Raises:
        UserError: if the two runs can't be searched.
    """
    out = terminal.console()
    with Courier() as courier:
        good, bad = (_directory(name, given.uri, courier) for name in (given.good, given.bad))
        ours, theirs = recorded.read(good), recorded.read(bad)
        for name, each in ((given.good, ours), (given.bad, theirs)):
            refuse_endpoint(loading.load(each.tree), name)
        differ = differences(ours, theirs, (_environment(good), _environment(bad)))
        if not differ.switches:
            raise UserError(_no_difference(differ))
        files = [RunDirectory(each) for each in (good, bad)]
        screen.show_differences(out, differ, cost(differ.switches, files))
        if given.plan:
            return True
        _refuse_unwritable(given.output)
        found = _search(given, ours, differ, files, courier, out)
    page.write(given.output, found, command)
    screen.show(out, found, given.output)
    return bool(found.causes)


def _search(
    given: argparse.Namespace,
    good: Recorded,
    differ: Differences,
    files: list[RunDirectory],
    courier: Courier,
    out: Console,
) -> Why:
    set_aside(differ.inherited)
    place = given.output.resolve()
    shown = screen.Progress(out)
    with (
        (place / LOG).open("a", encoding="utf-8") as log,
        Prober(good, files[0].path, place, courier, Console(file=log)) as prober,
    ):
        prober.check_reference()

        def run(name: str, *settings: Any) -> Replay:
            with shown.running(name):
                return prober.replay(name, *settings)

        window = good.value("engine.window")
        search = Search(differ.switches, run, shown.tell, window, _flipped(files))
        found = search.search()
        return result(
            str(given.good),
            str(given.bad),
            differ,
            found,
            prober.starts,
            commands(good, files[0].path, differ.switches, found.causes),
            _stack(good, found),
        )


def _stack(good: Recorded, found: Found) -> Stack | None:
    """What the first probe ran on."""
    first = RunDirectory(Path(found.probes[0].directory))
    if not (first.plan.is_file() and first.environment.is_file()):
        return None
    return stack(good, read_json(first.plan, Plan), read_json(first.environment, Environment))


def _directory(name: str, uri: str, courier: Courier) -> Path:
    try:
        return locating.locate(name, uri, courier).directory
    except UserError as error:
        told = (problem.removeprefix(f"{locating.KEY}=") for problem in error.problems)
        raise UserError(*told) from error


def _environment(directory: Path) -> Environment | None:
    """The recorded environment; None if it is missing or of another version of the runner."""
    file = RunDirectory(directory).environment
    try:
        return read_json(file, Environment) if file.is_file() else None
    except ValueError:
        return None


def _flipped(files: list[RunDirectory]) -> frozenset[Question]:
    """The questions whose scores differ between the two runs."""
    if not all(each.samples.is_file() for each in files):
        return frozenset()
    one, other = (
        {
            (each.task, each.doc_id, each.filter, each.repeat): dict(each.scores)
            for each in read_samples(run.samples)
        }
        for run in files
    )
    return frozenset(key[:2] for key, scores in one.items() if other.get(key, scores) != scores)


def _no_difference(differ: Differences) -> str:
    found = "; ".join((*differ.asked, *differ.environment))
    return (
        "no setting of the engine differs between the two runs, so there is nothing to search"
        + (f". What differs: {found}" if found else "")
        + ". python -m runner.compare GOOD BAD compares their answers"
    )


def _refuse_unwritable(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {output}: not writable ({error.strerror})") from error
