"""Messages on standard error."""

from __future__ import annotations

import sys

from runner import secrecy
from runner.errors import UserError
from runner.visible import visible


def complain(error: UserError) -> None:
    """Print an error with one line per problem."""
    for number, problem in enumerate(error.problems):
        tell(f"{'error:' if number == 0 else '      '} {problem}")


def warn(text: str) -> None:
    """Print a line that begins with `warning:`."""
    tell(f"warning: {text}")


def tell(line: str) -> None:
    """Print a line with secrets masked and invisible characters escaped."""
    print(secrecy.blotted(visible(line)), file=sys.stderr)
