"""Outcome, and a baseline or a reference run → Verdict. Pure; a rule a module.

Fails closed: what cannot be judged is never PASSED. docs/verdict.md says what each rule promises.
"""

from __future__ import annotations

from runner.verdict.isclose import ROUNDED_DIGITS
from runner.verdict.judging import judge
from runner.verdict.result import EXIT_STATUS, FINAL, MetricVerdict, ReferenceUsed, Status, Verdict
from runner.verdict.rule import Against
from runner.verdict.settle import confidence_interval

__all__ = [
    "EXIT_STATUS",
    "FINAL",
    "ROUNDED_DIGITS",
    "Against",
    "MetricVerdict",
    "ReferenceUsed",
    "Status",
    "Verdict",
    "confidence_interval",
    "judge",
]
