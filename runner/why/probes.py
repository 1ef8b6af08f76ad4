"""Runs the probes of a search, each an ordinary run with a directory and an MLflow run of its own.

Most are replays of one run's answers with some settings changed. A probe that finished before is
not run again, so a search that was interrupted goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from runner.attempt import record_failure
from runner.config.composed import Composed
from runner.config.recorded import ABSENT, Recorded, again
from runner.config.schema import RunConfig
from runner.errors import FULL, UserError
from runner.evidence.samples import Sample, read_samples
from runner.outcome import Outcome, State
from runner.reference.locating import Located
from runner.reference.reading import read
from runner.run import check, perform
from runner.rundir import RunDirectory, read_json
from runner.status import INTERRUPTED
from runner.supervision.supervisor import Supervisor
from runner.sweep import record, resume
from runner.tracking.courier import Courier
from runner.why.found import Level
from runner.why.switches import set_aside

PROBES = "probes"
RUN = "run"


@dataclass(frozen=True)
class Done:
    """A run that ended. If it did not complete, `reason` says why."""

    directory: Path
    command: str
    reason: str = ""
    dtype: str = ""


@dataclass(frozen=True)
class Replay:
    """A finished probe. Without samples, `reason` says why it has none."""

    directory: Path
    command: str
    samples: Sequence[Sample] | None
    reason: str = ""
    dtype: str = ""


# A run that may be needed: its name, its configuration and the changes to it.
Asked = tuple[str, Recorded, Mapping[str, Any]]


class Runs:
    """Runs configurations beneath a directory, one after another on this machine.

    Those that need the same engine in turn share it.
    """

    # Whether runs that were started ahead run at the same time.
    side_by_side = False

    def __init__(self, place: Path, courier: Courier, out: Console) -> None:
        self._place = place
        self._courier = courier
        self._out = out
        self._engine = Supervisor()
        self._current = ""

    def __enter__(self) -> Runs:
        self._engine.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._engine.__exit__(*exception)

    @property
    def starts(self) -> int:
        """Number of engines that were started."""
        return self._engine.starts

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes of a cluster on which engines ran: none, as all ran on this machine."""
        return ()

    @property
    def running(self) -> frozenset[str]:
        """The names of the runs that have begun and are still needed."""
        return frozenset({self._current} - {""})

    def run(self, name: str, recorded: Recorded, changes: Mapping[str, Any]) -> Done:
        """Run a configuration with some settings changed, unless it has finished before.

        `name` is that of its directory, and of its MLflow run. An error is a reason, not raised.

        Raises:
            KeyboardInterrupt: after the bookkeeping of an interrupted run.
        """
        self._current = name
        try:
            config, composed = placed(self._place, name, recorded, changes)
        except UserError as error:
            return Done(self._place / PROBES / name, "", "; ".join(error.problems))
        else:
            return performed(config, composed, self._engine, self._courier, self._out)
        finally:
            self._current = ""

    def set_aside(self, inherited: tuple[str, ...]) -> None:
        """Remove variables of this process that the runs must not inherit."""
        set_aside(inherited)

    def ahead(self, asked: Iterable[Asked]) -> None:
        """Start what may be needed next, if there are devices for it: here they are in use."""

    def drop(self) -> None:
        """Stop what was started ahead and is not needed any more."""


def placed(
    place: Path, name: str, recorded: Recorded, changes: Mapping[str, Any]
) -> tuple[RunConfig, Composed]:
    """Return the configuration of a run with its directory and its name in MLflow.

    Raises:
        UserError: if the changes are invalid.
    """
    directory = str(place / PROBES / name)
    config, composed = again(
        recorded, {**changes, "output_dir": directory, "preflight_only": False}
    )
    sweep = replace(config.sweep, id=record.sweep_id(place), point=name)
    return replace(config, sweep=sweep), composed


def performed(
    config: RunConfig, composed: Composed, engine: Supervisor, courier: Courier, out: Console
) -> Done:
    """Run a configuration in its directory, unless it has finished there before.

    Raises:
        KeyboardInterrupt: after the bookkeeping of an interrupted run.
    """
    directory = Path(config.output_dir)
    command = composed.command
    try:
        checked = check(config, composed, courier, out)
        if resume.status_of(directory, checked) is None:
            resume.make_room(directory)
            perform(checked, directory, engine, courier, out, brief=True)
            if resume.ended(directory, INTERRUPTED) == INTERRUPTED:
                raise KeyboardInterrupt
        outcome: Outcome = read_json(RunDirectory(directory).outcome, Outcome)
        completed = outcome.state is State.COMPLETED
        reason = "" if completed else outcome.reason or f"ended with {outcome.state.value}"
        return Done(directory, command, reason, str(outcome.engine.get("dtype", "")))
    except UserError as error:
        return Done(directory, command, "; ".join(error.problems))
    except Exception as error:  # ours: this run has no result
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        record_failure(directory, error)
        return Done(directory, command, f"{type(error).__name__}: {error}")


def other_batches(recorded: Recorded, other: Recorded | None = None) -> dict[str, Any]:
    """Return changes with which correct arithmetic differs: other batches than in both runs.

    The batches are small, because a fault of large batches is no noise.
    """
    runs = [each for each in (recorded, other) if each is not None]
    batch = recorded.value("task.batch_size")
    if recorded.value("engine.runtime") == "transformers" or batch not in (ABSENT, None, "auto"):
        used = {str(each.value("task.batch_size")) for each in runs}
        return {"task.batch_size": next(each for each in ("1", "2", "3") if each not in used)}
    windows = {each.value("engine.window") for each in runs}
    return {"engine.window": next(each for each in (1, 2, 3) if each not in windows)}


class Prober:
    """Replays the answers of one run with other settings."""

    def __init__(self, runs: Runs, recorded: Recorded, reference: Path) -> None:
        self._runs = runs
        self._recorded = recorded
        self._reference = reference

    def replay(
        self, name: str, changes: Mapping[str, Any], questions: Mapping[str, list[int]]
    ) -> Replay:
        """Replay the answers to some questions with some settings changed. None means all."""
        done = self._runs.run(name, self._recorded, self._replayed(changes, questions))
        if done.reason:
            return Replay(done.directory, done.command, None, done.reason)
        samples = read_samples(RunDirectory(done.directory).samples)
        return Replay(done.directory, done.command, samples, dtype=done.dtype)

    def ahead(self, levels: Sequence[Level]) -> None:
        """Start the replays of these levels ahead, and stop those that are not among them."""
        self._runs.drop()
        self._runs.ahead(
            (ask.name, self._recorded, self._replayed(ask.changes, ask.questions))
            for level in levels
            for ask in level.asks
        )

    def _replayed(
        self, changes: Mapping[str, Any], questions: Mapping[str, list[int]]
    ) -> dict[str, Any]:
        return {
            **changes,
            "verdict.rule": "replay",
            "verdict.reference": str(self._reference),
            "verdict.metrics": {},
            "verdict.sequential": False,
            "verdict.numerics.noise": None,
            "verdict.replay.noise": None,
            "verdict.replay.way": "decode",
            "verdict.replay.questions": dict(questions),
            "verdict.replay.draw": None,
            "journal.continues": None,
        }


def refuse_endpoint(name: str, recorded: Recorded) -> None:
    """Refuse a run on a server that was not started here.

    Raises:
        UserError: if it is one.
    """
    url = recorded.value("engine.endpoint.url")
    if isinstance(url, str):
        raise UserError(
            f"{name}: ran on a server at {url}, whose settings can't be changed from here; give "
            "runs that start their engine"
        )


def refuse_unusable(name: str, directory: Path) -> None:
    """Refuse a run whose answers can't be replayed.

    Raises:
        UserError: if it is incomplete, or a replay itself.
    """
    try:
        found = read(name, Located(directory), RUN)
    except UserError as error:
        raise UserError(*(each.removeprefix(f"{RUN}=") for each in error.problems)) from error
    if found.replayed:
        raise UserError(
            f"{name}: is a replay, so its answers are those of another run; give the run that it "
            "replayed"
        )
