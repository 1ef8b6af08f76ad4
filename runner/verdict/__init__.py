"""Outcome, and a baseline or a reference run → Verdict. Pure; a rule a module.

Fails closed: what cannot be judged is never PASSED. docs/verdict.md says what each rule promises.
"""

from __future__ import annotations

from runner.verdict.isclose import ROUNDED_DIGITS
from runner.verdict.judging import judge
from runner.verdict.result import MetricVerdict, ReferenceUsed, Verdict
from runner.verdict.rule import Against
from runner.verdict.settle import confidence_interval

__all__ = [
    "ROUNDED_DIGITS",
    "Against",
    "MetricVerdict",
    "ReferenceUsed",
    "Verdict",
    "confidence_interval",
    "judge",
]
