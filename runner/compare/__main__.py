"""python -m runner.compare A B: compares candidate B with reference A."""

from __future__ import annotations

import argparse
import datetime
import shlex
import sys
from pathlib import Path

from runner import language
from runner.commands import add_language, add_uri, create, perform
from runner.errors import UserError
from runner.status import USAGE_ERROR

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
    language.use(given.lang)
    command = shlex.join(["python", "-m", "runner.compare", *words])
    return perform(lambda: _compare(given, command), "comparison")


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
    add_uri(parser)
    add_language(parser)
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
    from runner.reference.locating import directory_of
    from runner.report import terminal
    from runner.tracking.courier import Courier

    out = terminal.console()
    now = datetime.datetime.now()
    output = given.output or Path(f"outputs/{now:%Y-%m-%d/%H-%M-%S-%f}-compare")
    names = [given.first, given.second]
    with Courier() as courier:
        places = [directory_of(name, given.uri, courier) for name in names]
    sweeps = [is_sweep(place) for place in places]
    if all(sweeps):
        raise UserError("A and B are both sweeps; compare a sweep with one run")
    if sweeps[0]:
        names.reverse()
        places.reverse()
    first = read_side(names[0], places[0])
    if any(sweeps):
        create(output)
        found = compare_sweep(
            first, names[1], places[1], output, given.margin, command, lambda p: show_point(out, p)
        )
        show_sweep(out, found)
        status = found.exit_status
    else:
        comparison = compare(first, read_side(names[1], places[1]), given.margin)
        create(output)
        write(output, comparison, command)
        show(out, comparison)
        status = comparison.ruling.exit_status
    show_page(out, output)
    return status


if __name__ == "__main__":
    sys.exit(main())
