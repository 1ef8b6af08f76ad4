"""python -m runner.adopt: convert an accuracy test of vllm-ascend to a model file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from runner.adopt import adopt
from runner.config import loading, places
from runner.errors import UserError
from runner.messages import complain, tell, warn
from runner.status import USAGE_ERROR

HELP = """\
Converts an accuracy test of vllm-ascend to a model file of this runner, checks it and prints it.
--output writes it to a new file instead.

Model files of the lm-eval test (tests/e2e/models/configs/*.yaml):

  python -m runner.adopt Qwen3-8B.yaml --output DIR/model/my_qwen3.yaml
  python -m runner --config-dir DIR model=my_qwen3

Nightly and weekly tests (tests/e2e/nightly, tests/e2e/weekly), which start a server. If a file has
several accuracy cases, choose one with --case. Servers on several nodes are not started: run them
yourself and use engine=endpoint.

  python -m runner.adopt Qwen3-32B-Int8.yaml --output DIR/model/my_qwen3_32b.yaml
  python -m runner --config-dir DIR engine=served model=my_qwen3_32b

What is not applied is listed on standard error.

Exit status: 0 converted · 1 not converted
"""


def main(arguments: list[str] | None = None) -> int:
    """Print or write the model file; return the exit status."""
    parser = argparse.ArgumentParser(
        "python -m runner.adopt",
        description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE.yaml")
    parser.add_argument("--case", metavar="NAME", help="accuracy case of a nightly file")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write to this file instead of standard output"
    )
    try:
        given = parser.parse_args(arguments)
    except SystemExit as error:
        return USAGE_ERROR if error.code else 0
    try:
        adopted = adopt(given.file, given.case)
        loading.load(adopted.compose(["tracking=off"]))
        for line in adopted.dropped:
            tell(f"{given.file.name}: {line}")
        _write(adopted.text, given.output)
        if given.output is not None and given.output.stem in places.choices("model"):
            warn(
                f"model={given.output.stem} is also a built-in model; with --config-dir "
                f"{given.output.parent.parent} your file is used, without it the built-in one"
            )
    except UserError as error:
        complain(error)
        return USAGE_ERROR
    return 0


def _write(text: str, file: Path | None) -> None:
    if file is None:
        print(text, end="")
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise UserError(f"--output={file}: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
