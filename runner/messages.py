"""What a command says on standard error."""

from __future__ import annotations

import sys

from runner import secrecy
from runner.errors import UserError
from runner.visible import visible


def complain(error: UserError) -> None:
    """One message, a line a problem."""
    for number, problem in enumerate(error.problems):
        tell(f"{'error:' if number == 0 else '      '} {problem}")


def warn(text: str) -> None:
    """A line that begins with `warning:`."""
    tell(f"warning: {text}")


def tell(line: str) -> None:
    """A line; secrets in it are blotted out, and what would be unseen is spelled out."""
    print(secrecy.blotted(visible(line)), file=sys.stderr)
