"""A baseline: the value that a metric should have, and what is known of its measurement."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator


@dataclass(frozen=True)
class Baseline:
    """A baseline's value, in the unit of its metric, and how precisely it is known.

    It was measured on `n` questions with `samples` answers each (None: unknown, so the value is
    taken as exact). `stderr` is its published standard error. `tolerance` is the absolute
    difference that its gate accepts, in both directions; None: that of the verdict's rule.
    """

    value: float
    n: int | None = None
    samples: int = 1
    stderr: float | None = None
    tolerance: float | None = None

    @property
    def error(self) -> float:
        """Standard error of the value; 0 if nothing is known of it.

        Without a published one it is that of `n * samples` independent answers of 0 or 1: for a
        fixed set of questions, the largest that answers of that mean can have.
        """
        if self.stderr is not None:
            return self.stderr
        if self.n is None or not 0 <= self.value <= 1:
            return 0.0
        return math.sqrt(self.value * (1 - self.value) / (self.n * self.samples))


def parsed(content: Any, key: str) -> tuple[Baseline | None, list[str]]:
    """Return a baseline from its configuration: a number, or a mapping with a value.

    The list has a line for each thing that is wrong with it.
    """
    if not isinstance(content, dict):
        found = _number(content, key)
        return (None, found) if found else (Baseline(float(content)), [])
    known = Baseline.__dataclass_fields__
    problems = [
        f"{key}.{name}: unknown; use {', '.join(known)}" for name in content if name not in known
    ]
    if content.get("value") is None:
        problems.append(f"{key}: a value is required, for example {{value: 0.9, n: 30}}")
    given: dict[str, Any] = {name: content[name] for name in known if content.get(name) is not None}
    for name, value in given.items():
        counts = name in ("n", "samples")
        if counts and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            problems.append(f"{key}.{name}={value}: must be a whole number of at least 1")
        elif not counts:
            problems += _number(value, f"{key}.{name}", positive=name != "value")
    if given.get("samples", 1) != 1 and "n" not in given:
        problems.append(f"{key}.samples: needs {key}.n, the number of questions")
    value, tolerance = given.get("value"), given.get("tolerance")
    if not problems and value and tolerance is not None and tolerance >= abs(value):
        problems.append(
            f"{key}.tolerance={tolerance}: must be below the value of {value}; otherwise a score "
            "of 0 passes"
        )
    if problems:
        return None, problems
    return Baseline(**given), []


def _number(value: Any, key: str, positive: bool = False) -> list[str]:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return [f"{key}={value}: must be a finite number"]
    return [f"{key}={value}: must be a number above 0"] if positive and value <= 0 else []


def _stored(content: Any) -> Any:
    """Plans of earlier versions have numbers."""
    return {"value": content} if isinstance(content, int | float) else content


# Baselines by metric and filter.
Baselines = dict[str, dict[str, Annotated[Baseline, BeforeValidator(_stored)]]]
