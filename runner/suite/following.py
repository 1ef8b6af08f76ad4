"""Moves reference runs forward after good nights: python -m runner.promote --auto."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from runner.channel.sender import FindAlias, GiveAlias
from runner.errors import UserError
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
from runner.tracking.tracked import TrackedRun

# Good nights in a row, tonight included.
NIGHTS = 5
NAME = "references.json"
# End of the alias of the run that was the reference first, which never moves.
FIRST = ".first"
# Gives a run directory the alias.
Promote = Callable[[str], object]


@dataclass(frozen=True)
class Step:
    """What became of the reference of an entry.

    `doubt` says why it did not move, empty if it did. `drift` compares tonight with the first
    reference run; None if there was none before.
    """

    entry: str
    doubt: str
    drift: Pooled | None


def follow(
    directory: Path, alias: str, count: int, courier: Courier, promote: Promote
) -> list[Step]:
    """Give tonight's runs the alias, entry by entry, if there is no doubt about any of the nights.

    Raises:
        UserError: if the directory is no finished suite.
        NotSent: if MLflow can't be asked.
    """
    tonight = result.read(directory)
    before = nights.earlier(directory, tonight.name, tonight.started)
    known = [Night(directory, tonight), *before]
    return [_step(entry, known, alias, count, courier, promote) for entry in tonight.entries]


def show(out: Console, steps: Sequence[Step], alias: str) -> None:
    """Print what became of each reference, and how far tonight is from the first one."""
    for step in steps:
        out.print(
            f"{step.entry}: {alias} " + (f"not updated: {step.doubt}" if step.doubt else "updated")
        )
        if step.drift is not None:
            out.print(f"  {pooled.told(step.drift)}")


def doubt(entry: EntryResult, known: Sequence[Night], count: int) -> str:
    """Why an entry's run of tonight should not become its reference; empty if nothing is known.

    `known` are all nights, tonight first.
    """
    if len(known) < count:
        word = "night" if len(known) == 1 else "nights"
        return f"only {len(known)} {word} so far, {count} needed"
    tonight = known[0].result
    for each in known[:count]:
        then = next((e for e in each.result.entries if _same(e, entry)), None)
        if why := _doubt(then, entry, each.result, tonight):
            return f"on {night(each.result.id)}, {why}"
    return ""


def _doubt(
    then: EntryResult | None, entry: EntryResult, that_night: SuiteResult, tonight: SuiteResult
) -> str:
    if that_night.exit_status:
        return f"the suite's verdict was {that_night.verdict}"
    if any(test.significant for test in that_night.pooled):
        return "the pooled test found a drop"
    if then is None or then.missing:
        return "it did not run"
    if then.verdict != Status.PASSED.value:
        return f"its verdict was {then.verdict}"
    if any(metric.whole is not None and metric.n < metric.whole for metric in then.metrics):
        return "only a part of the questions was asked"
    if any(metric.rule == "replay" for metric in then.metrics):
        return "it was judged by replay, whose noise runs belong to the present reference run"
    if then.evaluation_fingerprint != entry.evaluation_fingerprint:
        return "the evaluation differed"
    if (then.engine_fingerprint, that_night.versions) != (
        entry.engine_fingerprint,
        tonight.versions,
    ):
        return "the engine's settings or a version differed"
    return ""


def _same(one: EntryResult, other: EntryResult) -> bool:
    return (one.name, one.model, one.task) == (other.name, other.model, other.task)


def _step(
    entry: EntryResult,
    known: Sequence[Night],
    alias: str,
    count: int,
    courier: Courier,
    promote: Promote,
) -> Step:
    directory = known[0].directory
    files = RunDirectory(directory / entry.directory)
    if not entry.directory or not files.tracked.is_file():
        return Step(entry.name, "tonight's run is not in MLflow", None)
    tracked: TrackedRun = read_json(files.tracked, TrackedRun)
    plan: Plan = read_json(files.plan, Plan)
    tasks = tuple(each.task for each in plan.evaluations)
    store = _Store(tracked.uri, plan.model, tasks, courier)
    first, drift = store.bearer(alias + FIRST), None
    if first is not None:
        try:
            located = locating.locate(first, tracked.uri, courier)
            drift = pooled.drift(read_sweep(directory), entry, located.directory)
        except (UserError, OSError, ValueError) as error:
            return Step(entry.name, f"the first reference run can't be compared: {error}", None)
    why = doubt(entry, known, count)
    if not why and drift is not None and drift.significant:
        why = f"significantly worse than the first reference run (p = {drift.p:.2g})"
    if why:
        return Step(entry.name, why, drift)
    if first is None:
        store.give(store.bearer(alias) or tracked.run_id, alias + FIRST)
    try:
        promote(str(files.path))
    except UserError as error:
        return Step(entry.name, "; ".join(error.problems), drift)
    return Step(entry.name, "", drift)


@dataclass(frozen=True)
class _Store:
    """The aliases of a model and its tasks in an MLflow store."""

    uri: str
    model: str
    tasks: tuple[str, ...]
    courier: Courier

    def bearer(self, alias: str) -> str | None:
        """The id of the run with the alias; None if there is none."""
        try:
            wanted = FindAlias(self.uri, alias, self.model, self.tasks[0])
            return self.courier.ask(wanted, locating.LOOKUP_S)
        except UserError:
            return None

    def give(self, run_id: str, alias: str) -> None:
        given = GiveAlias(self.uri, run_id, alias, self.model, self.tasks, now())
        self.courier.ask(given, locating.LOOKUP_S)
