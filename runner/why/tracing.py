"""Traces each cause against the good run: in which module of the network the difference begins."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from runner import secrecy
from runner.config.recorded import Recorded, again
from runner.errors import UserError
from runner.trace import page
from runner.trace.runs import Replayed, Side, replayed, settled
from runner.trace.tracing import DTYPE, QUESTIONS, trace
from runner.why.found import Cause
from runner.why.result import Origin
from runner.why.switches import Switch

# Hooks run in eager mode and in this project's own engine.
UNTRACEABLE = (
    "a trace runs both in eager mode, without a server, data parallelism or speculative decoding, "
    "and then their settings are the same"
)


def traced(
    good: Recorded,
    reference: Path,
    switches: Sequence[Switch],
    causes: Sequence[Cause],
    place: Path,
    command: str,
    out: Console,
) -> tuple[Origin, ...]:
    """Trace each cause beneath `place`; why one can't be traced is part of the result.

    If the data type is a cause, its effect is no noise.
    """
    found = []
    for number, cause in enumerate(causes, 1):
        changes = {key: value for n in cause.switches for key, value in switches[n].bad.items()}
        directory = place / f"trace-{number}"
        out.print(f"tracing cause {number} through the network …")
        sides = Side("the good run", good), Side(f"with cause {number}", good, changes)
        try:
            if _are_equal(sides, replayed(reference, QUESTIONS, cause.traced), directory):
                found.append(Origin(str(directory), None, UNTRACEABLE))
                continue
            result = trace(
                reference,
                *sides,
                directory,
                QUESTIONS,
                out,
                cause.traced,
                noise_dtype=DTYPE not in changes,
            )
            page.write(directory, result, command)
            found.append(Origin(str(directory), result))
        except UserError as error:
            found.append(Origin(str(directory), None, "; ".join(error.problems)))
        except Exception as error:  # ours, or a full disk: the causes are known all the same
            traceback.print_exc()
            found.append(Origin(str(directory), None, _said(error)))
    return tuple(found)


def _are_equal(sides: tuple[Side, Side], what: Replayed, directory: Path) -> bool:
    """Whether a trace would run both sides with the same settings; eager mode compiles nothing."""
    one, other = (again(side.recorded, settled(side, what, directory).changes)[0] for side in sides)
    for each in (one, other):
        each.engine.extra.pop("compilation_config", None)
    return one == other


def _said(error: Exception) -> str:
    return secrecy.blotted(f"{type(error).__name__}: {error}")
