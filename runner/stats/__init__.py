"""Statistics behind verdicts and comparisons: pure functions of numbers, each with its source.

A *drop* is how much worse the second run is than the first: positive if it is worse, whatever the
metric's direction. Tests for a drop are one-sided.
"""

from __future__ import annotations

# Significance level of every test that can fail a run, and of every bound that can pass one.
ALPHA = 0.05
# Power for which a detectable drop is computed: such a drop is found in 4 of 5 runs.
POWER = 0.8
