"""python -m runner.probe URL: checks a running server without a data set, in seconds."""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from runner import secrecy
from runner.errors import UserError
from runner.messages import complain
from runner.status import INFRASTRUCTURE, INTERRUPTED, USAGE_ERROR

if TYPE_CHECKING:
    from runner.runtimes.server.probe.local import LocalModel

HELP = """\
Checks a running OpenAI-compatible server without a data set:
  identity       prompts get the same tokens as with the model that it should serve (--model)
  repeatability  the same request gets the same answer alone and in a full batch, with a cold and
                 a warm prefix cache
  cross-talk     concurrent requests get their own answers, not each other's

Sends a few hundred short requests. docs/probe.md says what each check can find.

Examples
  python -m runner.probe http://localhost:8000/v1 --model Qwen/Qwen3-8B
  python -m runner.probe https://models.example/v1 --served-name qwen3 --api-key-env MODELS_KEY

Exit status: 0 healthy · 3 a check failed, accuracy is at risk · 4 a check could not be made
             1 usage error, or cannot connect · 2 the server failed · 130 interrupted
"""
# Keys of the configuration in messages that runs print as well, and what they are called here.
OPTIONS = {
    "engine.endpoint.url=": "",
    "engine.endpoint.model=": "--served-name ",
    "engine.endpoint.api_key_env": "--api-key-env",
    "engine.endpoint.ca_file=": "--ca-file ",
    "engine.endpoint.ca_file": "--ca-file",
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    try:
        given = _parser().parse_args(arguments)
    except SystemExit as error:
        return USAGE_ERROR if error.code else 0
    key = os.environ.get(given.api_key_env or "", "")
    try:
        return _probe(given, key)
    except UserError as error:
        complain(UserError(*(_without(_renamed(each), key) for each in error.problems)))
        return USAGE_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        from runner.runtimes.server.endpoint import ServerError

        if not isinstance(error, ServerError):
            traceback.print_exc()
            return INFRASTRUCTURE
        complain(UserError(_without(_renamed(str(error)), key)))
        return INFRASTRUCTURE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m runner.probe",
        description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("url", metavar="URL", help="the API, for example http://localhost:8000/v1")
    parser.add_argument(
        "--model",
        metavar="DIR_OR_ID",
        help="directory or hub id of the model that the server should serve; only its tokenizer, "
        "chat template and configuration are read",
    )
    parser.add_argument(
        "--served-name",
        default="",
        metavar="NAME",
        help="name of the served model (default: the only one in /v1/models)",
    )
    parser.add_argument(
        "--concurrency",
        type=_concurrency,
        default=64,
        metavar="N",
        help="requests at the same time (default: 64); set it to the server's --max-num-seqs",
    )
    parser.add_argument(
        "--requests",
        type=_positive,
        metavar="N",
        help="concurrent requests that look for cross-talk (default: 4 times --concurrency); more "
        "of them find rarer faults",
    )
    parser.add_argument(
        "--api-key-env",
        metavar="NAME",
        help="environment variable that holds the API key",
    )
    parser.add_argument(
        "--ca-file", metavar="FILE", help="certificate authorities to trust instead of the usual"
    )
    parser.add_argument(
        "--header",
        type=_header,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a further HTTP header; can be given several times",
    )
    parser.add_argument("--json", action="store_true", help="print only one JSON object")
    return parser


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError("must have the form NAME=VALUE")
    return name, value


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _concurrency(text: str) -> int:
    number = _positive(text)
    if number < 2:
        raise argparse.ArgumentTypeError("must be at least 2: one request cannot get mixed up")
    return number


def _probe(given: argparse.Namespace, key: str) -> int:
    from runner.probe.screen import show
    from runner.report import terminal
    from runner.runtimes.server.endpoint import Endpoint
    from runner.runtimes.server.probe.examining import examine

    if given.api_key_env and not key:
        raise UserError(f"--api-key-env {given.api_key_env}: this variable is not set")
    endpoint = Endpoint(
        given.url,
        given.served_name,
        key,
        given.api_key_env or "",
        headers=dict(given.header),
        ca_file=given.ca_file,
    )
    with _progress() as tell:
        found = examine(
            endpoint,
            model=_local_model(given.model) if given.model else None,
            concurrency=given.concurrency,
            requests=given.requests,
            tell=tell,
        )
    shown = masked(found, key)
    if given.json:
        print(json.dumps({**asdict(shown), "exit_status": found.exit_status}, indent=2))
    else:
        show(terminal.console(), shown)
    return found.exit_status


def _local_model(name: str) -> LocalModel:
    # transformers warns of a missing torch, which tokenizers do not need.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from runner.runtimes.server.probe.local import load

    try:
        return load(name)
    except UserError as error:
        raise UserError(f"--model {error}") from error


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Shows the name of the current check, on a terminal only."""
    from rich.console import Console

    errors = Console(stderr=True)
    if not errors.is_terminal:
        yield lambda check: None
        return
    with errors.status("connecting") as status:
        yield status.update


def masked(found: Any, key: str) -> Any:
    """The findings with secrets masked: a server may repeat a key, or hold one in its names."""
    shown = found
    if isinstance(found, str) and not isinstance(found, Enum):
        shown = _without(found, key)
    elif isinstance(found, tuple):
        shown = tuple(masked(each, key) for each in found)
    elif isinstance(found, Mapping):
        shown = {masked(name, key): masked(value, key) for name, value in found.items()}
    elif is_dataclass(found) and not isinstance(found, type):
        values = {each.name: masked(getattr(found, each.name), key) for each in fields(found)}
        shown = type(found)(**values)
    return shown


def _without(text: str, key: str) -> str:
    """The text without secrets; the key's variable may have a name that does not tell."""
    return secrecy.blotted(text.replace(key, "*" * len(key)) if key else text)


def _renamed(problem: str) -> str:
    for key, option in OPTIONS.items():
        problem = problem.replace(key, option)
    return problem


if __name__ == "__main__":
    sys.exit(main())
