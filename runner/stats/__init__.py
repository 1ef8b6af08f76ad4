"""Formulas behind verdicts and comparisons: pure functions of numbers, each with its source.

A *drop* is how much worse the second is than the first: positive where it is worse, whatever the
metric's direction. Tests for a drop are one-sided.
"""

from __future__ import annotations

# Of every test that can fail a run, and of every bound that can pass one.
ALPHA = 0.05
# What "would have been seen" means: in 4 of 5 such runs.
POWER = 0.8
