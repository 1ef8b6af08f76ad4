"""python -m runner.history: values of the same evaluation over time, and the first bad night."""

from __future__ import annotations

import argparse
import datetime
import shlex
import sys
from pathlib import Path

from runner import language, secrecy
from runner.commands import add_language, add_uri, create, perform
from runner.status import INACCURATE, NO_VERDICT, USAGE_ERROR

HELP = """\
Shows how the values of the same evaluation changed from run to run, in MLflow or in a directory
of runs, and finds the first bad night: the first run after a significant drop. It lists the
versions that changed with it, and prints the commands that compare it with the last good night.
Throughput, engine start, degenerate answers and shifts of log-probabilities are shown too.

Each run is called a night. Runs belong to one series if model, tasks, chip and all settings are
the same; versions, weights and prompts may differ.

Writes history.html (a self-contained page), history.md and history.json.

Examples
  python -m runner.history                                  # all runs in mlflow.db
  python -m runner.history 'qwen*/gsm8k' --since 2026-11-01
  python -m runner.history --metric acc --metric throughput
  python -m runner.history --runs outputs multirun          # run directories instead of MLflow
  python -m runner.history --uri http://mlflow:5000

Exit status: 0 no drop of accuracy, or no accuracy among the metrics asked for
             3 a drop of accuracy that has not recovered
             4 a drop is possible but not certain, the latest nights have no result, or every series
               has too few nights
             1 usage error · 2 the history failed · 130 interrupted
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        given = _parser().parse_args(words)
    except SystemExit as error:
        return USAGE_ERROR if error.code else 0
    language.use(given.lang)
    command = shlex.join(["python", "-m", "runner.history", *words])
    return perform(lambda: _history(given, command), "history")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m runner.history",
        description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "series",
        nargs="*",
        metavar="MODEL/TASK",
        help="show only these; * and ? match any text (default: all)",
    )
    parser.add_argument(
        "--metric",
        action="append",
        default=[],
        metavar="NAME",
        help="show only this metric: its name or TASK/METRIC, with * and ?, or one of throughput, "
        "start, degenerate and shift; can be given several times",
    )
    parser.add_argument(
        "--since",
        type=_date,
        metavar="DATE",
        help="only runs that started on or after this date (UTC), for example 2026-11-01",
    )
    parser.add_argument(
        "--runs",
        nargs="+",
        type=Path,
        default=[],
        metavar="DIR",
        help="read the run directories below these instead of MLflow",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="output directory (default: outputs/DATE/TIME-history)",
    )
    add_uri(parser)
    add_language(parser)
    return parser


def _date(text: str) -> datetime.datetime:
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: not a date such as 2026-11-01") from error
    return found if found.tzinfo is not None else found.replace(tzinfo=datetime.timezone.utc)


def _history(given: argparse.Namespace, command: str) -> int:
    from runner.history.page import write
    from runner.history.reading import read
    from runner.history.result import State
    from runner.history.screen import show, show_page
    from runner.report import terminal

    out = terminal.console()
    now = datetime.datetime.now()
    output = given.output or Path(f"outputs/{now:%Y-%m-%d/%H-%M-%S-%f}-history")
    since = given.since.timestamp() if given.since is not None else 0.0
    history = read(given.runs, given.uri, since, given.series, given.metric)
    create(output)
    write(output, history, secrecy.blotted(command))
    show(out, history)
    show_page(out, output)
    if history.accuracy(State.WORSE, State.DECLINING):
        return INACCURATE
    if not history.accuracy(*State):  # but other measurements
        return 0
    told = history.accuracy(State.NO_DROP, State.RECOVERED)
    return NO_VERDICT if history.accuracy(State.CHECK) or not told else 0


if __name__ == "__main__":
    sys.exit(main())
