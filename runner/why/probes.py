"""Runs the probes of a search, each an ordinary run with a directory and an MLflow run of its own.

Most are replays of one run's answers with some settings changed. A probe that finished before is
not run again, so a search that was interrupted goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from runner.attempt import record_failure
from runner.config.recorded import ABSENT, Recorded, again
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


class Runs:
    """Runs configurations beneath a directory, on one engine while they share it."""

    def __init__(self, place: Path, courier: Courier, out: Console) -> None:
        self._place = place
        self._courier = courier
        self._out = out
        self._engine = Supervisor()

    def __enter__(self) -> Runs:
        self._engine.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._engine.__exit__(*exception)

    @property
    def starts(self) -> int:
        """Number of engines that were started."""
        return self._engine.starts

    def run(self, name: str, recorded: Recorded, changes: Mapping[str, Any]) -> Done:
        """Run a configuration with some settings changed, unless it has finished before.

        `name` is that of its directory, and of its MLflow run. An error is a reason, not raised.

        Raises:
            KeyboardInterrupt: after the bookkeeping of an interrupted run.
        """
        directory = self._place / PROBES / name
        placed = {**changes, "output_dir": str(directory), "preflight_only": False}
        command = ""
        try:
            config, composed = again(recorded, placed)
            command = composed.command
            sweep = replace(config.sweep, id=record.sweep_id(self._place), point=name)
            config = replace(config, sweep=sweep)
            checked = check(config, composed, self._courier, self._out)
            if resume.status_of(directory, checked) is None:
                resume.make_room(directory)
                perform(checked, directory, self._engine, self._courier, self._out, brief=True)
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
        replayed = {
            **changes,
            "verdict.rule": "replay",
            "verdict.reference": str(self._reference),
            "verdict.metrics": {},
            "verdict.sequential": False,
            "verdict.replay.noise": None,
            "verdict.replay.way": "decode",
            "verdict.replay.questions": dict(questions),
            "journal.continues": None,
        }
        done = self._runs.run(name, self._recorded, replayed)
        if done.reason:
            return Replay(done.directory, done.command, None, done.reason)
        samples = read_samples(RunDirectory(done.directory).samples)
        return Replay(done.directory, done.command, samples, dtype=done.dtype)


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
