"""python -m runner.sync: uploads pending runs to MLflow."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from runner.errors import UserError, cause
from runner.messages import complain
from runner.report import terminal
from runner.rundir import EARLIER
from runner.status import INFRASTRUCTURE, INTERRUPTED, USAGE_ERROR
from runner.suite.entries import is_suite
from runner.suite.finish import finish as finish_suite
from runner.suite.result import without_runs
from runner.sweep import lock, record, store
from runner.sweep.finish import finish
from runner.sweep.summary import read_sweep
from runner.tracking.courier import Courier
from runner.tracking.pending import deliver, own, pending
from runner.tracking.tracked import run_page

HELP = """\
Uploads every run that could not be uploaded when it ended, also after an interrupted upload. No run
is uploaded twice. A run that was killed before its verdict is recorded as KILLED. Sweeps are
compared, and suites judged, again so that their pages have links. A suite whose run directories
were deleted keeps its result. Without a directory: outputs/, multirun/ and suites/.

Exit status: 0 everything is uploaded · 1 usage error · 2 some runs are still pending (listed)
"""
USUAL = ("outputs", "multirun", "suites")
# A run can have many files, and the caller waits for them.
TIMEOUT_S = 300.0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(
        "python -m runner.sync",
        description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "directories",
        nargs="*",
        type=Path,
        metavar="RUN_OR_SWEEP_DIR",
        help="directory of a run, a sweep or a suite",
    )
    try:
        given = parser.parse_args(arguments)
    except SystemExit as error:
        return USAGE_ERROR if error.code else 0
    directories = given.directories or [Path(name) for name in USUAL if Path(name).is_dir()]
    missing = [f"{each}: no such directory" for each in directories if not each.is_dir()]
    if missing:
        complain(UserError(*missing))
        return USAGE_ERROR
    try:
        return sync(directories, terminal.console())
    except KeyboardInterrupt:
        return INTERRUPTED


def sync(directories: Sequence[Path], out: Console) -> int:
    """Upload all pending runs and return the exit status."""
    runs = {run.path.resolve(): run for each in directories for run in pending(each)}
    sent = left = 0
    if runs:  # the first upload can take long and prints nothing
        out.print(f"runs to upload: {len(runs)} (timeout {TIMEOUT_S:g} s each)")
    with Courier() as courier:
        for delivery in deliver(courier, runs.values(), TIMEOUT_S):
            if delivery.tracked is not None:
                sent += 1
                out.print(f"uploaded: {delivery.run.path}  {run_page(delivery.tracked)}")
            elif delivery.busy:
                out.print(f"skipped: {delivery.run.path}: {delivery.problem}")
            else:
                left += 1
                where = f" ({delivery.uri})" if delivery.uri else ""
                out.print(f"pending: {delivery.run.path}{where}: {delivery.problem}")
    kept = 0
    for sweep in _sweeps(directories):
        try:
            if store.is_recorded(read_sweep(sweep)):
                continue
            if is_suite(sweep) and without_runs(sweep):
                kept += 1
            else:
                left += not _compare(sweep, out)
        except UserError as error:  # a file cannot be read
            left += 1
            out.print(f"pending: {error}")
        except OSError as error:
            left += 1
            out.print(f"pending: {sweep}: could not write the comparison: {cause(error)}")
    if kept:
        suites = "1 suite" if kept == 1 else f"{kept} suites"
        out.print(f"not judged again, because run directories were deleted: {suites}")
    out.print(f"{sent} uploaded, {left} pending")
    return INFRASTRUCTURE if left else 0


def _compare(sweep: Path, out: Console) -> bool:
    """Compare a sweep, or judge a suite, again; return whether nothing is left to upload."""
    try:
        lock.take(sweep)
    except UserError as error:
        out.print(f"skipped: {error}")
        return True
    out.print(f"\n{sweep}:")
    if is_suite(sweep):
        finish_suite(sweep, out)
    else:
        finish(sweep, out)
    return store.is_recorded(read_sweep(sweep))


def _sweeps(directories: Sequence[Path]) -> list[Path]:
    """All sweeps in the directories, without earlier attempts at a point."""
    # A third-party launcher writes points but no sweep.json.
    found = {file.parent for each in directories for file in own(each.rglob(record.NAME))}
    found |= {
        file.parent.parent for each in directories for file in own(each.rglob(f"*/{record.POINT}"))
    }
    return sorted(each for each in found if each.name != EARLIER)


if __name__ == "__main__":
    sys.exit(main())
