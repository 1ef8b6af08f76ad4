"""Moves reference runs forward after good nights: python -m runner.promote --auto."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from runner.channel.sender import FindAlias, GiveAlias
from runner.config.verdict import OF_ANSWERS
from runner.errors import UserError
from runner.language import gettext, ngettext
from runner.plan import Plan
from runner.reference import locating
from runner.rundir import RunDirectory, read_json
from runner.status import Status
from runner.suite import nights, pooled, result
from runner.suite.markdown import night
from runner.suite.nights import Night
from runner.suite.result import EntryResult, Pooled, SuiteResult
from runner.sweep.summary import read_sweep
from runner.tracking.aliases import now
from runner.tracking.courier import Courier
from runner.tracking.sender_process import NotSent
from runner.tracking.tracked import TrackedRun

# Good nights in a row, tonight included.
NIGHTS = 5
# End of the alias of the run that was the reference first, which never moves.
FIRST = ".first"
# Gives a run directory the alias.
Promote = Callable[[str], object]
# A model and its task: what an alias stands for.
Place = tuple[str, str]


class Doubt(Exception):
    """Why a reference must not move."""


@dataclass(frozen=True)
class Step:
    """What became of the reference of an entry.

    `place` is the model and task of its alias, empty if it was not looked up. `doubt` says why the
    alias did not move, empty if it did. `first` is the MLflow id of the run that has
    the alias of the first reference run, empty if none has. `drift` compares tonight with the first
    one.
    """

    entry: str
    doubt: str = ""
    first: str = ""
    drift: Pooled | None = None
    place: str = ""


def follow(
    directory: Path, alias: str, count: int, courier: Courier, promote: Promote
) -> list[Step]:
    """Give tonight's runs the alias, entry by entry, if there is no doubt about any of the nights.

    Raises:
        UserError: if the directory is no finished suite, or not its latest night.
    """
    tonight = result.read(directory)
    if later := nights.later(directory, tonight.name, tonight.started):
        raise UserError(f"{directory}: not the latest night, which is {later[-1]}; give that one")
    known = [Night(directory, tonight), *nights.earlier(directory, tonight.name, tonight.started)]
    lost = nights.unfinished(directory, tonight.name, known[:count][-1].result.started)
    places = {entry.name: _place(directory, entry) for entry in tonight.entries}
    shared = Counter(place for place in places.values() if place is not None)
    steps = []
    for entry in tonight.entries:
        place = places[entry.name]
        step = Step(entry.name)
        try:
            if lost:
                raise Doubt(gettext("{night} has no result", night=lost[0]))
            if why := doubt(entry, known, count):
                raise Doubt(why)
            if place is None:
                raise Doubt(gettext("it has no single task, or tonight's run is not in MLflow"))
            if shared[place] > 1:
                raise Doubt(
                    gettext(
                        "another entry has the same model and task ({place})", place="/".join(place)
                    )
                )
            step = _moved(Follower(directory, entry, place, alias, courier), promote)
        except Doubt as doubted:
            step = Step(entry.name, str(doubted))
        except (UserError, NotSent, OSError, ValueError) as error:
            told = " ".join(str(error).split())
            step = Step(entry.name, gettext("not possible: {error}", error=told))
        steps.append(step)
    return steps


def show(out: Console, steps: Sequence[Step], alias: str) -> None:
    """Print what became of each reference, and how far tonight is from the first one."""
    for step in steps:
        said = {"entry": step.entry, "alias": alias, "doubt": step.doubt}
        if step.doubt:
            out.print(gettext("{entry}: {alias} not updated: {doubt}", **said))
        else:
            out.print(gettext("{entry}: {alias} updated", **said))
        if step.drift is not None:
            out.print(f"  {pooled.told(step.drift)}")


def doubt(entry: EntryResult, known: Sequence[Night], count: int) -> str:
    """Why an entry's run of tonight should not become its reference; empty if nothing is known.

    `known` are all nights, tonight first.
    """
    if not entry.required:
        return gettext("it is advisory")
    if len(known) < count:
        return ngettext(
            "only {count} night so far, {needed} needed",
            "only {count} nights so far, {needed} needed",
            len(known),
            needed=count,
        )
    tonight = known[0].result
    for each in known[:count]:
        then = next((e for e in each.result.entries if _same(e, entry)), None)
        if why := _doubt(then, entry, each.result, tonight):
            return gettext("on {night}, {doubt}", night=night(each.result.id), doubt=why)
    return ""


def _doubt(
    then: EntryResult | None, entry: EntryResult, that_night: SuiteResult, tonight: SuiteResult
) -> str:
    if that_night.exit_status:
        return gettext("the suite's verdict was {verdict}", verdict=that_night.verdict)
    if any(test.significant for test in that_night.pooled):
        return gettext("the pooled test found a drop")
    if then is None or then.missing:
        return gettext("it did not run")
    if then.verdict != Status.PASSED.value:
        return gettext("its verdict was {verdict}", verdict=then.verdict)
    if any(metric.whole is not None and metric.n < metric.whole for metric in then.metrics):
        return gettext("only a part of the questions was asked")
    if any(metric.rule in OF_ANSWERS for metric in then.metrics):
        return gettext(
            "replay and numerics compare with the present reference run, not with its scores"
        )
    if then.evaluation_fingerprint != entry.evaluation_fingerprint:
        return gettext("the evaluation differed")
    if (then.engine_fingerprint, that_night.versions) != (
        entry.engine_fingerprint,
        tonight.versions,
    ):
        return gettext("the engine's settings or a version differed")
    return ""


def _same(one: EntryResult, other: EntryResult) -> bool:
    return (one.name, one.model, one.task) == (other.name, other.model, other.task)


def _place(directory: Path, entry: EntryResult) -> Place | None:
    """What the alias of an entry stands for; None if it has no run in MLflow or several tasks."""
    files = RunDirectory(directory / entry.directory)
    if not entry.directory or not files.tracked.is_file():
        return None
    plan: Plan = read_json(files.plan, Plan)
    tasks = [each.task for each in plan.evaluations]
    return (plan.model, tasks[0]) if len(tasks) == 1 else None


@dataclass(frozen=True)
class Follower:
    """An entry of a night, and the aliases that stand for its model and task in MLflow."""

    directory: Path
    entry: EntryResult
    place: Place
    alias: str
    courier: Courier

    @property
    def files(self) -> RunDirectory:
        return RunDirectory(self.directory / self.entry.directory)

    @property
    def tracked(self) -> TrackedRun:
        found: TrackedRun = read_json(self.files.tracked, TrackedRun)
        return found

    def bearer(self, alias: str) -> str:
        """The id of the run with the alias; empty if there is none.

        Raises:
            UserError: if several runs have it.
        """
        wanted = FindAlias(self.tracked.uri, alias, *self.place, required=False)
        return self.courier.ask(wanted, locating.LOOKUP_S)

    def drift(self, first: str) -> Pooled:
        """Compare with the first reference run.

        Raises:
            Doubt: if they have no scores in common.
        """
        located = locating.locate(first, self.tracked.uri, self.courier)
        found = pooled.drift(read_sweep(self.directory), self.entry, located.directory)
        if found is None:
            raise Doubt(
                gettext(
                    "it has no scores in common with the first reference run ({run})", run=first
                )
            )
        asked = max((metric.n for metric in self.entry.metrics), default=0)
        if found.questions < asked:
            raise Doubt(
                gettext(
                    "it has only {common:,} of {asked:,} questions in common with the first "
                    "reference run ({run})",
                    common=found.questions,
                    asked=asked,
                    run=first,
                )
            )
        return found

    def mark_first(self, run_id: str) -> None:
        """Give the run the alias of the first reference run."""
        uri, (model, task) = self.tracked.uri, self.place
        given = GiveAlias(uri, run_id, self.alias + FIRST, model, (task,), now())
        self.courier.ask(given, locating.LOOKUP_S)


def _moved(follower: Follower, promote: Promote) -> Step:
    """Move the alias, unless tonight is worse than the first reference run.

    Raises:
        Doubt: if it is not known which run was the first, or how it compares.
    """
    name, alias = follower.entry.name, follower.alias
    marked = follower.bearer(alias + FIRST)
    place = "/".join(follower.place)
    if not marked and (before := nights.noted_first(follower.directory, name, place)):
        command = f"python -m runner.promote RUN --alias {alias}{FIRST}"
        raise Doubt(
            gettext(
                "the first reference run ({run}) is no longer in MLflow; choose another with "
                "{command}",
                run=before,
                command=command,
            )
        )
    first = marked or follower.bearer(alias)
    drift = follower.drift(first) if first else None
    if drift is not None and drift.significant:
        why = gettext("significantly worse than the first reference run (p = {p:.2g})", p=drift.p)
        return Step(name, why, marked, drift, place)
    if first and not marked:  # before it loses its own alias, or nothing would tell which it was
        follower.mark_first(first)
    promote(str(follower.files.path))
    if not first:
        first = follower.tracked.run_id
        follower.mark_first(first)
    return Step(name, "", first, drift, place)
