"""python -m runner.compare A B: compares candidate B with reference A."""

from __future__ import annotations

import argparse
import datetime
import os
import shlex
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import UserError, cause
from runner.messages import complain
from runner.status import INFRASTRUCTURE, INTERRUPTED, USAGE_ERROR

if TYPE_CHECKING:
    from runner.tracking.courier import Courier

HELP = """\
Compares two runs question by question. A is the reference, B the candidate. Each is a run
directory, an MLflow run id, or an alias set by python -m runner.promote (baseline@MODEL/TASK).
One of them can be a sweep directory: each of its points is then compared with the other run.

Writes compare.html (a self-contained page), compare.md and compare.json.

Examples
  python -m runner.compare outputs/2026-11-25/10-00-00 outputs/2026-11-25/11-00-00
  python -m runner.compare baseline@qwen2_5_vl_7b/mmmu_val outputs/2026-11-25/11-00-00
  python -m runner.compare outputs/2026-11-25/10-00-00 multirun/2026-11-25/12-00-00

Exit status: 0 B is no worse · 3 B is worse · 4 inconclusive, with the reason · 1 usage error
             2 the comparison failed · 130 interrupted
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = _parser()
    words = sys.argv[1:] if arguments is None else arguments
    try:
        given = parser.parse_args(words)
    except SystemExit as error:
        return USAGE_ERROR if error.code else 0
    command = shlex.join(["python", "-m", "runner.compare", *words])
    try:
        return _compare(given, command)
    except UserError as error:
        complain(error)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        complain(UserError(f"could not write the comparison: {cause(error)}"))
        return INFRASTRUCTURE
    except Exception:
        traceback.print_exc()
        return INFRASTRUCTURE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m runner.compare",
        description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("first", metavar="A", help="the reference run")
    parser.add_argument("second", metavar="B", help="the candidate run")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="output directory (default: outputs/DATE/TIME-compare)",
    )
    parser.add_argument(
        "--margin",
        type=_margin,
        default=0.02,
        help="tolerated drop, in the unit of the metric (default: 0.02)",
    )
    parser.add_argument(
        "--uri",
        default=os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd()}/mlflow.db",
        help="MLflow tracking URI (default: MLFLOW_TRACKING_URI, or mlflow.db in the working "
        "directory)",
    )
    return parser


def _margin(text: str) -> float:
    margin = float(text)
    if not 0 < margin < float("inf"):
        raise ValueError(text)
    return margin


def _compare(given: argparse.Namespace, command: str) -> int:
    from runner.compare.comparison import compare
    from runner.compare.comparison_page import write
    from runner.compare.screen import show, show_page, show_point, show_sweep
    from runner.compare.sides import read_side
    from runner.compare.sweep import compare_sweep, is_sweep
    from runner.report import terminal
    from runner.tracking.courier import Courier

    out = terminal.console()
    now = datetime.datetime.now()
    output = given.output or Path(f"outputs/{now:%Y-%m-%d/%H-%M-%S-%f}-compare")
    names = [given.first, given.second]
    with Courier() as courier:
        places = [_directory(name, given.uri, courier) for name in names]
    sweeps = [is_sweep(place) for place in places]
    if all(sweeps):
        raise UserError("A and B are both sweeps; compare a sweep with one run")
    if sweeps[0]:
        names.reverse()
        places.reverse()
    first = read_side(names[0], places[0])
    if any(sweeps):
        _refuse_unwritable(output)
        found = compare_sweep(
            first, names[1], places[1], output, given.margin, command, lambda p: show_point(out, p)
        )
        show_sweep(out, found)
        status = found.exit_status
    else:
        comparison = compare(first, read_side(names[1], places[1]), given.margin)
        _refuse_unwritable(output)
        write(output, comparison, command)
        show(out, comparison)
        status = comparison.ruling.exit_status
    show_page(out, output)
    return status


def _directory(name: str, uri: str, courier: Courier) -> Path:
    """Directory of a run or sweep; artifacts in MLflow are downloaded to the user's cache."""
    from runner.reference import locating

    try:
        return locating.locate(name, uri, courier).directory
    except UserError as error:
        told = (problem.removeprefix(f"{locating.KEY}=") for problem in error.problems)
        raise UserError(*told) from error


def _refuse_unwritable(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {output}: not writable ({error.strerror})") from error


if __name__ == "__main__":
    sys.exit(main())
