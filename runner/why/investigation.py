"""From the command line to the pages: finds both runs, searches, and writes what was found."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from rich.console import Console

from runner.commands import create
from runner.config import loading, recorded
from runner.config.recorded import Recorded, recomposed
from runner.environment import Environment
from runner.errors import UserError
from runner.evidence.replayed import Question
from runner.evidence.samples import read_samples
from runner.plan import Plan
from runner.reference.locating import directory_of
from runner.report import terminal
from runner.rundir import RunDirectory, read_json
from runner.sweep.ray import Options
from runner.tracking.courier import Courier
from runner.why import page, screen
from runner.why.cost import cost
from runner.why.found import Ask, Found, Level, Probe
from runner.why.ladder import Climb, Tried, read_ladder
from runner.why.launcher import chosen
from runner.why.probes import Prober, Runs, other_batches, refuse_endpoint, refuse_unusable
from runner.why.ray import RayRuns
from runner.why.reproduction import commands, stack
from runner.why.result import Stack, Why, result
from runner.why.search import Search
from runner.why.switches import (
    Differences,
    Switch,
    differences,
    grounded,
    shell_variables,
)
from runner.why.tracing import traced
from runner.why.tree import SearchTree

# What the probes print of themselves.
LOG = "probes.log"
# What the good run is called if it is run here.
GOOD = "good-scores"


class Display(Protocol):
    """Shows a search while it runs."""

    def ahead(self, levels: Sequence[Level]) -> None: ...

    def follow(self, found: Found, switches: Sequence[Switch]) -> None: ...

    def tried(self, tried: Tried) -> None: ...

    def tell(self, probe: Probe) -> None: ...


def investigate(given: argparse.Namespace, command: str) -> bool:
    """Search for the causes; return whether one was found.

    Raises:
        UserError: if the runs can't be searched.
    """
    out = terminal.console()
    loading.register()
    place = given.output.resolve()
    with Courier() as courier:
        found = [(name, directory_of(name, given.uri, courier)) for name in given.runs]
        sides = [(name, each, _usable(name, each)) for name, each in found]
        refuse_unusable(*sides[0][:2])
        options = chosen(given.launcher)
        if given.plan:
            _show_plan(given, sides, options is not None, out)
            return True
        if len(sides) > 1:
            _differences(*sides)  # before anything is written
        create(given.output)
        bad = sides[-1]
        with (
            (place / LOG).open("a", encoding="utf-8") as log,
            _runs(place, courier, Console(file=log), options) as runs,
            _display(out, runs, place) as shown,
        ):
            good, tried = _good_run(given, sides, runs, shown, out)
            if good is None:
                why, differ, config = _nothing(bad), Differences(()), bad[2]
            else:
                differ = _differences(good, bad)
                runs.set_aside(differ.inherited)
                config = grounded(good[2], differ.base)
                why = _searched((good[0], good[1], config), bad, differ, runs, shown, out)
    why = replace(why, ladder=tuple(tried))
    page.write(given.output, why, command)  # a trace takes minutes, and may fail
    if good is not None and why.causes:
        origins = traced(config, good[1], differ.switches, why.causes, place, command, out)
        why = replace(why, origins=origins)
        page.write(given.output, why, command)
    screen.show(out, why, given.output)
    return bool(why.causes)


# The user's name of a run, its directory, and its configuration.
Named = tuple[str, Path, Recorded]


def _runs(place: Path, courier: Courier, out: Console, options: Options | None) -> Runs:
    return Runs(place, courier, out) if options is None else RayRuns(place, courier, out, options)


def _display(out: Console, runs: Runs, place: Path) -> AbstractContextManager[Display]:
    return SearchTree(out, runs, place) if out.is_terminal else screen.Lines(out)


def _good_run(
    given: argparse.Namespace, sides: list[Named], runs: Runs, shown: Display, out: Console
) -> tuple[Named | None, list[Tried]]:
    """The good run: given, run here, or found by a ladder, with what was tried; or none."""
    if len(sides) > 1:
        return sides[0], []
    if given.good:
        return _run_good(given.good, sides[0], runs, shown, out), []
    tried = _climbed(given, sides[0], runs, shown, out)
    better = next((each for each in tried if each.good), None)
    if better is None or better.directory is None:
        return None, tried
    return (f"with {better.rung.change}", better.directory, recorded.read(better.directory)), tried


def _climbed(
    given: argparse.Namespace, bad: Named, runs: Runs, shown: Display, out: Console
) -> list[Tried]:
    name, directory, config = bad
    ladder = given.ladder or str(config.value("engine.platform"))
    rungs = read_ladder(ladder)
    out.print(f"no good run: trying the {len(rungs)} changes of the ladder {ladder} on {name}")
    environment = _environment(directory)
    own = differences(config, config, (environment, environment), shell_variables())
    runs.set_aside(own.inherited)
    config = grounded(config, own.base)
    return Climb(config, directory, runs, shown.tried, shown.ahead).climb(rungs)


def _run_good(overrides: list[str], bad: Named, runs: Runs, shown: Display, out: Console) -> Named:
    """Run the configuration that is believed good."""
    said = " ".join(overrides)
    config = recomposed(bad[2], overrides)
    out.print(f"running the bad run's configuration with {said} as the good run …")
    shown.ahead([Level("the good run", (Ask(GOOD, said, {}),))])
    done = runs.run(GOOD, config, {})
    if done.reason:
        raise UserError(f"--good {said}: the run did not complete: {done.reason}")
    return said, done.directory, recorded.read(done.directory)


def _searched(
    good: Named, bad: Named, differ: Differences, runs: Runs, shown: Display, out: Console
) -> Why:
    files = [RunDirectory(each[1]) for each in (good, bad)]
    screen.show_differences(out, differ, cost(differ.switches, files, runs.side_by_side))
    prober = Prober(runs, good[2], good[1])

    def ahead(levels: Sequence[Level]) -> None:
        shown.ahead(levels)
        prober.ahead(levels)

    search = Search(
        differ.switches,
        prober.replay,
        shown.tell,
        other_batches(good[2], bad[2]),
        _flipped(files),
        read_samples(files[0].samples),
        ahead,
    )
    shown.follow(search.found, differ.switches)
    found = search.search()
    return result(
        good[0],
        bad[0],
        differ,
        found,
        runs.starts,
        runs.nodes,
        commands(good[2], good[1], differ.switches, found.causes, differ.inherited),
        _stack(good[2], found),
    )


def _nothing(bad: Named) -> Why:
    """The result of a ladder without a better rung."""
    return result("", bad[0], Differences(()), Found(), 0)


def _show_plan(
    given: argparse.Namespace, sides: list[Named], side_by_side: bool, out: Console
) -> None:
    """Show what would be searched, and start nothing."""
    if len(sides) == 1 and not given.good:
        name, _, config = sides[0]
        rungs = read_ladder(given.ladder or str(config.value("engine.platform")))
        screen.show_ladder(out, name, rungs, side_by_side)
        return
    if len(sides) == 1:
        name, directory, config = sides[0]
        sides = [(" ".join(given.good), directory, recomposed(config, given.good)), sides[0]]
    good, bad = sides
    differ = _differences(good, bad)
    files = [RunDirectory(each[1]) for each in sides]
    screen.show_differences(out, differ, cost(differ.switches, files, side_by_side))


def _differences(good: Named, bad: Named) -> Differences:
    environments = (_environment(good[1]), _environment(bad[1]))
    differ = differences(good[2], bad[2], environments, shell_variables())
    if not differ.switches:
        raise UserError(_no_difference(differ))
    return differ


def _usable(name: str, directory: Path) -> Recorded:
    found = recorded.read(directory)
    refuse_endpoint(name, found)
    return found


def _stack(good: Recorded, found: Found) -> Stack | None:
    """What the first probe ran on."""
    first = RunDirectory(Path(found.probes[0].directory))
    if not (first.plan.is_file() and first.environment.is_file()):
        return None
    return stack(good, read_json(first.plan, Plan), read_json(first.environment, Environment))


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
