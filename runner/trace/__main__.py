"""python -m runner.trace A B: finds the first module whose output differs in B."""

from __future__ import annotations

import argparse
import datetime
import shlex
import sys
from pathlib import Path

from runner.commands import add_uri, perform
from runner.status import USAGE_ERROR

HELP = """\
Finds the first module of the network whose output differs between two runs beyond noise. A is the
reference, B the candidate. Each is a run directory, an MLflow run id, or an alias set by
python -m runner.promote (baseline@MODEL/TASK).

Starts both engines on this machine, in eager mode, and makes them generate the answers of A. The
outputs of all modules are compared for the same tokens. A also runs in other batches: the noise.
If nothing departs, runs that use graph mode are repeated in it: the embeddings (where visible), the
final hidden states and the logits are compared with those in eager mode.

Writes trace.html (a self-contained page), trace.md and trace.json. With --dump DIR, both sides run
once more, and the outputs of some modules are written to DIR: one .npy file for each module,
question, phase and side, and index.json. That takes up to two more engine starts.

Examples
  python -m runner.trace outputs/2026-11-25/10-00-00 outputs/2026-11-25/11-00-00
  python -m runner.trace baseline@qwen3_8b/gsm8k outputs/2026-11-25/11-00-00 --questions 24
  python -m runner.trace A B --dump whole --dump-modules 'layers.2.mlp.*' lm_head

Exit status: 0 nothing departs · 3 a module or graph mode departs, or prompts differ
             4 nothing was comparable
             1 usage error · 2 the trace failed · 130 interrupted
"""
# A trace of fewer has too little evidence for its test.
FEWEST = 4


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        parser = _parser()
        given = parser.parse_args(words)
        if given.dump_modules and given.dump is None:
            parser.error("--dump-modules needs --dump DIR")
    except SystemExit as error:
        return USAGE_ERROR if error.code else 0
    command = shlex.join(["python", "-m", "runner.trace", *words])
    return perform(lambda: _trace(given, command), "trace")


def _parser() -> argparse.ArgumentParser:
    from runner.trace.dump import LIMIT, megabytes
    from runner.trace.tracing import QUESTIONS

    parser = argparse.ArgumentParser(
        "python -m runner.trace",
        description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("first", metavar="A", help="the reference run, whose answers are replayed")
    parser.add_argument("second", metavar="B", help="the candidate run")
    parser.add_argument(
        "--questions",
        type=_questions,
        default=QUESTIONS,
        metavar="N",
        help=f"number of answers to replay, spread over all tasks (default: {QUESTIONS})",
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        metavar="DIR",
        help="output directory; traces that are already in it are reused "
        "(default: outputs/DATE/TIME-trace)",
    )
    parser.add_argument(
        "--dump",
        type=Path,
        metavar="DIR",
        help="new directory for whole outputs of modules in eager mode, as many questions as fit "
        f"into {megabytes(LIMIT)} (default: none are written)",
    )
    parser.add_argument(
        "--dump-modules",
        nargs="+",
        default=[],
        metavar="PATTERN",
        help="modules to dump, as trace.json names them; * matches anything (default: the module "
        "that departs first, that of the largest jump, and the last before each that agrees)",
    )
    add_uri(parser)
    return parser


def _questions(text: str) -> int:
    number = int(text)
    if number < FEWEST:
        raise argparse.ArgumentTypeError(f"at least {FEWEST}")
    return number


def _trace(given: argparse.Namespace, command: str) -> int:
    from runner.config import recorded
    from runner.errors import UserError
    from runner.messages import warn
    from runner.reference.locating import locate
    from runner.report import terminal
    from runner.trace import dump
    from runner.trace.page import write
    from runner.trace.runs import Side
    from runner.trace.screen import show, show_dump, show_page
    from runner.trace.tracing import trace
    from runner.tracking.courier import Courier

    out = terminal.console()
    now = datetime.datetime.now()
    output = (given.output_dir or Path(f"outputs/{now:%Y-%m-%d/%H-%M-%S-%f}-trace")).resolve()
    places = []
    with Courier() as courier:
        for letter, name in (("A", given.first), ("B", given.second)):
            places.append(locate(name, given.uri, courier, letter).directory)
    first, second = (
        Side(name, recorded.read(place))
        for name, place in zip((given.first, given.second), places, strict=True)
    )
    if given.dump is not None:
        dump.claim(given.dump)
    result = trace(places[0], first, second, output, given.questions, out, graphs=True)
    write(output, result, command)
    show(out, result)
    show_page(out, output)
    if given.dump is not None:
        sides = (first, second)
        try:
            index = dump.dump(
                given.dump,
                places[0],
                sides,
                output,
                given.questions,
                result,
                given.dump_modules,
                out,
            )
            show_dump(out, given.dump, index)
        except UserError as error:  # the result of the trace stands
            dump.discard(given.dump)
            for problem in error.problems:
                warn(problem)
    return result.exit_status


if __name__ == "__main__":
    sys.exit(main())
