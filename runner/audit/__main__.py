"""python -m runner.audit: what accuracy gates can tell, before any run."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runner.errors import UserError
from runner.language import ENGLISH, speaking
from runner.messages import complain, warn
from runner.status import USAGE_ERROR

HELP = """\
Computes how often a gate passes a stack that lost accuracy, and how often it fails an unchanged
one. A gate is a baseline with the rule that judges it. Starts no engine and downloads nothing.

Each argument is a model of conf/model, a model file of yours, or a file of vllm-ascend's accuracy
tests: a model file or a nightly file. An argument with = is a setting of the run, such as
verdict=not_worse.

Examples
  python -m runner.audit qwen3_8b
  python -m runner.audit qwen3_8b verdict=not_worse verdict.margin=0.02
  python -m runner.audit tests/e2e/models/configs/*.yaml --samples 4
  python -m runner.audit tests/e2e/nightly/single_node/models/configs/*.yaml

docs/gates.md says what is assumed, and audits the gates of vllm-ascend.

Exit status: 0 audited, whatever the result
             1 usage error, or a file was rejected; the others are audited
"""
SAMPLES = 8


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    try:
        given = _parser().parse_args(arguments)
    except SystemExit as error:
        return USAGE_ERROR if error.code else 0
    try:
        with speaking(ENGLISH):
            return _audit(given)
    except UserError as error:
        complain(error)
        return USAGE_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m runner.audit",
        description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "given",
        nargs="+",
        metavar="MODEL_OR_FILE",
        help="name of a model, path of a model file, or KEY=VALUE",
    )
    parser.add_argument(
        "--samples",
        type=_samples,
        default=SAMPLES,
        metavar="N",
        help=f"also audit each gate with N answers for each question (default: {SAMPLES})",
    )
    parser.add_argument(
        "--figure",
        type=Path,
        metavar="FILE",
        help="draw the share of runs that pass, by true accuracy, to a new .svg or .png file",
    )
    parser.add_argument("--json", action="store_true", help="print only one JSON list")
    return parser


def _samples(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _audit(given: argparse.Namespace) -> int:
    from runner.adopt import LeftToAnother
    from runner.audit.entry import audit
    from runner.audit.figure import draw
    from runner.audit.model_files import gates
    from runner.audit.screen import show
    from runner.report import terminal

    names = [each for each in given.given if "=" not in each]
    overrides = [each for each in given.given if "=" in each]
    if not names:
        raise UserError(f"{' '.join(overrides)}: name a model or a model file as well")
    audits, problems = [], []
    for name in names:
        try:
            audits += [audit(entry, given.samples) for entry in gates(name, overrides)]
        except LeftToAnother as error:
            warn(f"{name}: not audited: {error}")
        except UserError as error:
            problems += [each if name in each else f"{name}: {each}" for each in error.problems]
    if problems and not audits:
        raise UserError(*problems)
    if given.figure is not None:
        draw(audits, given.figure)
    if given.json:
        print(json.dumps([_plain(asdict(each)) for each in audits], indent=2, allow_nan=False))
    else:
        show(terminal.console(), audits)
    if problems:
        complain(UserError(*problems))
    return USAGE_ERROR if problems else 0


def _plain(audit: dict[str, Any]) -> dict[str, Any]:
    """One flat object for each gate; losses as text, for JSON has no other keys."""
    found = [
        {**each, "passes": {f"{loss:g}": part for loss, part in each["passes"].items()}}
        for each in audit["found"]
    ]
    return {**audit["entry"], "found": found}


if __name__ == "__main__":
    sys.exit(main())
