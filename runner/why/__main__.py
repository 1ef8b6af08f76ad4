"""python -m runner.why GOOD BAD: which setting makes the bad run differ, and in which module."""

from __future__ import annotations

import argparse
import datetime
import shlex
import signal
import sys
from pathlib import Path

from runner.commands import add_uri, perform
from runner.status import NO_VERDICT, USAGE_ERROR

HELP = """\
Finds a minimal set of settings that makes run BAD differ from run GOOD. Each is a run directory,
an MLflow run id, or an alias set by python -m runner.promote (baseline@MODEL/TASK).

Without a good run, give BAD alone: the usual suspects are tried on it one after the other (--plan
lists them) until its scores rise. Or name a configuration that you believe is good (--good).

The good run's answers are replayed with some of the bad run's settings at a time. This machine must
be able to run both configurations.
Each replay is an ordinary run beneath the output directory. A search that was interrupted continues
where it stopped, with the same --output.

hydra/launcher=ray runs probes side by side on a Ray cluster, where devices allow; all settings of
sweeps apply (hydra.launcher.address=auto, resources, retries). The result is the same.

Writes why.html (a self-contained page), why.md and why.json.

Examples
  python -m runner.why outputs/eager outputs/graph --plan
  python -m runner.why outputs/2026-11-25/10-00-00 outputs/2026-11-25/11-00-00
  python -m runner.why outputs/npu --good engine=transformers
  python -m runner.why outputs/npu
  python -m runner.why outputs/eager outputs/graph hydra/launcher=ray
  python -m runner.why baseline@qwen2_5_vl_7b/mmmu_val outputs/2026-11-25/11-00-00

Exit status: 0 a cause was found, or --plan · 4 none was found, with the reason · 1 usage error
             2 the search failed · 130 interrupted
"""


# How a sweep's command line chooses and sets the launcher.
LAUNCHER = ("hydra/launcher=", "hydra.launcher.")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        parser = _parser()
        launcher = [each for each in words if each.startswith(LAUNCHER)]
        rest = [each for each in words if each not in launcher]
        given = parser.parse_args(rest, argparse.Namespace(launcher=launcher))
        if problem := _problem(given):
            parser.error(problem)
    except SystemExit as error:
        return USAGE_ERROR if error.code else 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    command = shlex.join(["python", "-m", "runner.why", *words])

    def action() -> int:
        from runner.why.investigation import investigate

        return 0 if investigate(given, command) else NO_VERDICT

    again = "interrupted; the same command with the same --output continues"
    return perform(action, "result", again)


def _problem(given: argparse.Namespace) -> str:
    """Of options that do not go together."""
    if len(given.runs) > 2:
        return f"{len(given.runs)} runs are given; give GOOD and BAD, or BAD alone"
    if len(given.runs) == 2 and (given.good or given.ladder):
        return "--good and --ladder are for BAD alone; with GOOD and BAD, remove them"
    return "--good and --ladder: give one of them" if given.good and given.ladder else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m runner.why",
        description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    now = datetime.datetime.now()
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="GOOD and BAD, or BAD alone: the run that is worse"
    )
    parser.add_argument(
        "--good",
        nargs="+",
        metavar="KEY=VALUE",
        default=[],
        help="with BAD alone: run its configuration with these overrides as the good run",
    )
    parser.add_argument(
        "--ladder",
        metavar="NAME",
        help="with BAD alone: which changes to try, conf/ladder/NAME.yaml or a YAML file of yours "
        "(default: the platform)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        default=Path(f"outputs/{now:%Y-%m-%d/%H-%M-%S-%f}-why"),
        help="output directory (default: outputs/DATE/TIME-why)",
    )
    parser.add_argument(
        "--plan",
        action="store_true",
        help="show what differs and what the search costs, and stop",
    )
    add_uri(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
