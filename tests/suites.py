"""Nights of a suite as the sweeper and a launcher leave them, without an engine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from runner.plan import Plan
from runner.rundir import read_json, write_json
from runner.suite import entries
from runner.suite.entries import Asked, Entry
from runner.sweep.record import point_directory
from tests import sweeps
from tests.sweeps import Found

NAME = "nightly"


@dataclass(frozen=True)
class Played:
    """An entry and what became of it. Neither `found` nor `status` nor `refused`: not run."""

    name: str
    found: Found | None = None
    tier: str = "required"
    model: str = "tiny"
    task: str = sweeps.TASK
    status: int | None = None
    refused: tuple[str, ...] = ()


def right(count: int, of: int = 100) -> list[float]:
    return [1.0] * count + [0.0] * (of - count)


def night(
    root: Path, played: Sequence[Played], date: str = "2026-11-22", started: float = 1000.0
) -> Path:
    """The directory of one night: `root/DATE/22-10-11`."""
    directory = root / date / "22-10-11"
    points = [
        sweeps.Asked(
            (f"model={each.model}", f"task={each.task}", f"suite.entry={each.name}"),
            each.found,
            each.status,
            each.refused,
        )
        for each in played
    ]
    sweeps.build(directory, points, f"{date}/22-10-11")
    for number, each in enumerate(played):
        if each.found is not None:
            _tell_apart(point_directory(directory, number).plan, each)
    asked = [Entry(n, e.name, e.model, e.task, e.tier) for n, e in enumerate(played)]
    write_json(directory / entries.NAME, Asked(NAME, started, tuple(asked)))
    return directory


def _tell_apart(file: Path, played: Played) -> None:
    """Weights by model and evaluation by number of questions, as a real plan has them."""
    assert played.found is not None
    plan: Plan = read_json(file, Plan)
    asked = f"{played.task} {len(played.found.scores)}"
    digest = hashlib.sha256(asked.encode()).hexdigest()
    write_json(file, replace(plan, weights=played.model, evaluation_fingerprint=digest))
