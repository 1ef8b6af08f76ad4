"""Reads one of the two runs from disk."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from runner.environment import Environment
from runner.errors import UserError
from runner.evidence.draws import drawn_tasks
from runner.evidence.questions import by_question
from runner.evidence.samples import Sample
from runner.evidence.stored import read_stored
from runner.language import gettext
from runner.outcome import Outcome, State
from runner.plan import Plan
from runner.rundir import RunDirectory, read_json
from runner.verdict import Verdict


@dataclass(frozen=True)
class Side:
    """A run under the name given by the user; missing files are None or empty."""

    name: str
    files: RunDirectory
    plan: Plan
    outcome: Outcome
    verdict: Verdict | None
    environment: Environment | None
    config: dict[str, Any]

    @property
    def incomplete(self) -> str:
        """Return why the run is incomplete; empty if it completed."""
        if self.outcome.state is not State.COMPLETED:
            return gettext(
                "ended with {state}: {reason}",
                state=self.outcome.state.value,
                reason=self.outcome.reason,
            )
        return ""

    @cached_property
    def samples(self) -> list[Sample]:
        """Return one sample per question and filter, with all its answers.

        Texts and tokens stay in the file (runner/evidence/stored.py).

        Empty if the run ended before writing any.

        Raises:
            UserError: if they cannot be read.
        """
        return by_question(read_stored(self.files.samples))

    @cached_property
    def drawn(self) -> frozenset[str]:
        """Return the tasks and subtasks whose answers are sampled at random."""
        return drawn_tasks(self.outcome, self.samples)


def read_side(name: str, directory: Path) -> Side:
    """Read everything about a run except its samples.

    Raises:
        UserError: if there is no run, one that ended before it measured anything, a replay, or one
            whose files cannot be read.
    """
    files = RunDirectory(directory)
    if not files.plan.is_file():
        raise UserError(f"{name}: no run in {directory} ({files.plan.name} is missing)")
    if not files.outcome.is_file():
        raise UserError(f"{name}: the run measured nothing ({files.outcome.name} is missing)")
    try:
        plan = _plan(files.plan)
        if plan.replay is not None:
            raise UserError(
                f"{name}: the run is a replay, whose answers are those of another run; its own "
                f"report says how it differs ({files.report})"
            )
        return Side(
            name=name,
            files=files,
            plan=plan,
            outcome=read_json(files.outcome, Outcome),
            verdict=_read(files.verdict, Verdict),
            environment=_read(files.environment, Environment),
            config=_config(files.config),
        )
    except ValueError as error:  # pydantic's: a file of another version, or cut by hand
        raise UserError(f"{name}: cannot be read: {' '.join(str(error).split())[:300]}") from error


def _plan(file: Path) -> Plan:
    """The plan; those of earlier versions have one set of generation settings for all tasks."""
    plan: Plan = read_json(file, Plan)
    earlier = json.loads(file.read_text(encoding="utf-8")).get("gen_kwargs")
    if not earlier:
        return plan
    evaluations = (replace(each, gen_kwargs=earlier | each.gen_kwargs) for each in plan.evaluations)
    return replace(plan, evaluations=tuple(evaluations))


def _read(file: Path, kind: type[Any]) -> Any:
    return read_json(file, kind) if file.is_file() else None


def _config(file: Path) -> dict[str, Any]:
    import yaml

    if not file.is_file():
        return {}
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{file}: {error}") from error
    return found if isinstance(found, dict) else {}
