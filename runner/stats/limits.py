"""The smallest and the largest possible value, without which rare losses cannot be bounded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Smallest and largest possible score, or difference, in the metric's unit.

    If they are not `known`, they are only the smallest and the largest value that were seen.
    """

    low: float
    high: float
    known: bool = True

    @property
    def span(self) -> float:
        return self.high - self.low

    def differences(self) -> Limits:
        """Return the limits of the difference of two such scores."""
        return Limits(-self.span, self.span, self.known)

    def times(self, factor: float) -> Limits:
        """Return the limits of such a value times a positive factor."""
        return Limits(factor * self.low, factor * self.high, self.known)

    def drops(self, baseline: float, sign: int) -> Limits:
        """Return the limits of a score's drop from a baseline.

        A smaller score is worse if `sign` is 1, a larger one if it is -1.
        """
        ends = sign * (baseline - self.low), sign * (baseline - self.high)
        return Limits(min(ends), max(ends), self.known)
