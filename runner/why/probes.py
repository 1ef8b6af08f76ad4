"""Runs the probes of a search: replays of the good run's answers with some settings changed.

Each is an ordinary run with a directory and an MLflow run of its own. One that finished before is
not run again, so a search that was interrupted goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from runner.attempt import record_failure
from runner.config.recorded import Recorded, again
from runner.config.schema import RunConfig
from runner.errors import UserError
from runner.evidence.samples import Sample, read_samples
from runner.outcome import Outcome, State
from runner.plan import Plan
from runner.reference.locating import Located
from runner.reference.reading import read
from runner.run import check, perform
from runner.rundir import RunDirectory, read_json
from runner.status import INTERRUPTED, Status
from runner.supervision.supervisor import Supervisor
from runner.sweep import resume
from runner.tracking.courier import Courier
from runner.verdict import Verdict

PROBES = "probes"


@dataclass(frozen=True)
class Replay:
    """A finished probe. Without samples, `reason` says why it has none."""

    directory: Path
    command: str
    samples: Sequence[Sample] | None
    reason: str = ""
    engine: str = ""


class Prober:
    """Runs replays of one reference run beneath a directory, on one engine while they share it."""

    def __init__(
        self, good: Recorded, reference: Path, place: Path, courier: Courier, out: Console
    ) -> None:
        self._good = good
        self._reference = reference
        self._place = place
        self._courier = courier
        self._out = out
        self._engine = Supervisor()

    def __enter__(self) -> Prober:
        self._engine.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._engine.__exit__(*exception)

    @property
    def starts(self) -> int:
        """Number of engines that were started."""
        return self._engine.starts

    def check_reference(self) -> None:
        """Check that the good run can be replayed.

        Raises:
            UserError: if it is incomplete, or a replay itself.
        """
        found = read(str(self._reference), Located(self._reference), "GOOD")
        if found.replayed:
            raise UserError(
                f"GOOD={self._reference}: is a replay, so its answers are those of another run; "
                "give the run that it replayed"
            )

    def replay(
        self, name: str, changes: Mapping[str, Any], questions: Mapping[str, list[int]]
    ) -> Replay:
        """Replay the good run's answers to some questions with some settings changed.

        No questions mean all. `name` is that of the probe's directory, and of its MLflow run.

        Raises:
            KeyboardInterrupt: after the bookkeeping of an interrupted probe.
        """
        directory = self._place / PROBES / name
        reason, command = "", ""
        try:
            config, composed = again(self._good, self._changes(changes, questions, directory))
            command = composed.command
            sweep = replace(config.sweep, id=f"why-{self._place.name}", point=name)
            config = replace(config, sweep=sweep)
            checked = check(config, composed, self._courier, self._out)
            if resume.status_of(directory, checked) is None:
                resume.make_room(directory)
                perform(checked, directory, self._engine, self._courier, self._out, brief=True)
                if resume.ended(directory, INTERRUPTED) == INTERRUPTED:
                    raise KeyboardInterrupt
            return self._finished(directory, command)
        except UserError as error:
            reason = "; ".join(error.problems)
        except Exception as error:  # ours, or a full disk: this probe has no result
            record_failure(directory, error)
            reason = f"{type(error).__name__}: {error}"
        return Replay(directory, command, None, reason)

    def _finished(self, directory: Path, command: str) -> Replay:
        files = RunDirectory(directory)
        outcome: Outcome = read_json(files.outcome, Outcome)
        verdict: Verdict = read_json(files.verdict, Verdict)
        plan: Plan = read_json(files.plan, Plan)
        if outcome.state is not State.COMPLETED or verdict.status is Status.ERROR:
            return Replay(directory, command, None, outcome.reason or verdict.reason)
        samples = read_samples(files.samples)
        return Replay(directory, command, samples, engine=plan.engine_fingerprint)

    def _changes(
        self, changes: Mapping[str, Any], questions: Mapping[str, list[int]], directory: Path
    ) -> dict[str, Any]:
        return {
            **changes,
            "verdict.rule": "replay",
            "verdict.reference": str(self._reference),
            "verdict.metrics": {},
            "verdict.sequential": False,
            "verdict.replay.noise": None,
            "verdict.replay.way": "decode",
            "verdict.replay.questions": dict(questions),
            "journal.continues": None,
            "preflight_only": False,
            "output_dir": str(directory),
        }


def refuse_endpoint(config: RunConfig, name: str) -> None:
    """Refuse a run of a server that this project did not start.

    Raises:
        UserError: if the run was of such a server.
    """
    if config.engine.endpoint.url:
        raise UserError(
            f"{name}: ran on a server at {config.engine.endpoint.url}, whose settings can't be "
            "changed from here; give runs that start their engine"
        )
