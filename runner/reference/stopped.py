"""Checks of the stopped run that a run continues (`journal.continues`)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from runner.plan import Plan
from runner.rundir import RunDirectory, read_json
from runner.verdict import Verdict

KEY = "journal.continues"


def problems(plan: Plan, continues: str | None) -> list[str]:
    """Return why the plan can't continue the run in this directory; empty if it can."""
    if continues is None:
        return []
    name = f"{KEY}={continues}"
    if plan.journal is None:
        return [
            f"{name}: this run has no journal; set journal=resume (and engine.endpoint.label with "
            "engine=endpoint), or remove the key"
        ]
    if plan.sequential:
        return [f"{name}: set verdict.sequential=false, otherwise the run stops again"]
    files = RunDirectory(Path(continues).expanduser())
    try:
        verdict: Verdict = read_json(files.verdict, Verdict)
        theirs: Plan = read_json(files.plan, Plan)
    except (OSError, ValueError):
        return [
            f"{name}: no verdict.json and plan.json in this directory; give the directory of the "
            "run that stopped early"
        ]
    if not verdict.stopped:
        return [f"{name}: this run did not stop early (verdict.sequential); remove the key"]
    if theirs.engine_fingerprint != plan.engine_fingerprint:
        return [
            f"{name}: the run used another engine (fingerprint {theirs.engine_fingerprint}, here "
            f"{plan.engine_fingerprint}); use the same settings, or remove the key"
        ]
    if _asked(theirs) != _asked(plan):
        return [f"{name}: the run asked other questions, or in another way; repeat its command"]
    return []


def _asked(plan: Plan) -> tuple[object, ...]:
    """What a plan asks, without the values that answers are compared with."""
    evaluations = [replace(each, baselines={}, origins={}) for each in plan.evaluations]
    return evaluations, plan.system_instruction, plan.seed
