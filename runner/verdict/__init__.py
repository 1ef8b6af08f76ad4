"""Judges an outcome against baselines or a reference run. Pure; one rule per module.

Fails closed: a metric that cannot be judged is never PASSED. docs/verdict.md specifies the rules.
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
