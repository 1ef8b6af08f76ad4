"""What the server answers: the page of a run, and the blocks that its script asks for."""

from __future__ import annotations

from pathlib import Path

from runner.environment import Environment
from runner.errors import UserError
from runner.evidence.outlines import read_outlines
from runner.outcome import Outcome
from runner.plan import Plan
from runner.report.browsed import browsed
from runner.report.run_page import render
from runner.rundir import RunDirectory, read_json
from runner.verdict import Verdict


def read_pages(directory: Path) -> dict[str, tuple[str, bytes]]:
    """Content type and content by path, all in memory; blocks are compressed.

    Raises:
        UserError: if the directory has no run, one without samples, or files that can't be read.
    """
    run = RunDirectory(directory)
    for file in (run.plan, run.environment, run.outcome, run.verdict, run.samples):
        if not file.is_file():
            raise UserError(
                f"{directory}: not the directory of a run with samples ({file.name} is missing)"
            )
    try:
        plan, environment = read_json(run.plan, Plan), read_json(run.environment, Environment)
        outcome, verdict = read_json(run.outcome, Outcome), read_json(run.verdict, Verdict)
    except ValueError as error:
        raise UserError(
            f"{directory}: cannot be read: {' '.join(str(error).split())[:300]}"
        ) from error
    whole = browsed(run, outcome, verdict, read_outlines(run.samples), limited=False)
    if whole is None:
        raise UserError(f"{run.samples}: has no samples")
    page = render(run, plan, environment, outcome, verdict, served=whole)
    # A page of another run, still open at the same port, must not be given texts of this one.
    pages = {
        f"/blocks/{whole.digest}/{name}": ("application/octet-stream", block)
        for name, block in whole.blocks
    }
    return {"/": ("text/html; charset=utf-8", page.encode()), **pages}
