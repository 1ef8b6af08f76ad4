"""A gate to audit, and what the audit finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from runner.stats.gates import Gate, within
from runner.verdict import boundary, gates, isclose

# What a stack lost, as a share of all answers.
LOSSES = (0.0, 0.02, 0.05, 0.1)


def aisbench(baseline: float, tolerance: float, questions: int, samples: int = 1) -> Gate:
    """Return the gate of vllm-ascend's nightly tests: baseline ± tolerance, in points.

    AISBench writes the accuracy in percent with two decimal places.
    """
    low, high = 100 * baseline, 100 * tolerance
    low, high = round(low, 6), round(high, 6)  # back to the decimal numbers in the file
    return within(questions, samples, low - high, low + high, 2, unit=100.0)


RULES: Mapping[str, Callable[[float, float, int, int], Gate]] = {
    "absolute": gates.absolute,
    "aisbench": aisbench,
    "isclose": gates.isclose,
    "not_worse": gates.not_worse,
}


@dataclass(frozen=True)
class Entry:
    """A gate of a file: the rule that judges a metric, its baseline and tolerance.

    `baseline` is a share of right answers. `tolerance` is the rule's: rtol of isclose, the margin
    of not_worse, else a share. Each of `questions` (None: unknown) is asked `samples` times.
    `measured` is the number of answers behind the baseline, None if it is unknown: then that of one
    run of the gate's questions with one sample each is assumed.

    `unaudited` is the reason why the gate can't be audited; empty if it can.
    """

    file: str
    metric: str
    rule: str
    baseline: float
    tolerance: float
    questions: int | None
    samples: int = 1
    measured: float | None = None
    unaudited: str = ""

    @property
    def tolerated(self) -> boundary.Range:
        """The lowest and the highest tolerated value, as shares; None for one beyond 0 or 1."""
        low, high = self._tolerated()
        return (
            low if low is not None and low > 0 else None,
            high if high is not None and high < 1 else None,
        )

    def _tolerated(self) -> boundary.Range:
        if self.rule == "isclose":
            return isclose.tolerated(self.baseline, self.tolerance)
        if self.rule == "not_worse":
            return boundary.of_margin(self.baseline, self.tolerance, higher_is_better=True)
        return self.baseline - self.tolerance, self.baseline + self.tolerance

    def gate(self, samples: int) -> Gate:
        """Return the gate if each question is asked `samples` times."""
        assert self.questions is not None
        return RULES[self.rule](self.baseline, self.tolerance, self.questions, samples)

    @property
    def name(self) -> str:
        """Return the file and the metric."""
        return ", ".join(filter(None, (self.file, self.metric)))

    @property
    def limits(self) -> str:
        """Return baseline and tolerance: `0.765, rtol 0.05` or `90 ± 10`."""
        if self.rule == "aisbench":
            return f"{100 * self.baseline:.6g} ± {100 * self.tolerance:.6g}"
        if self.rule == "absolute":
            return f"{self.baseline:g} ± {self.tolerance:g}"
        name = "rtol" if self.rule == "isclose" else f"{self.rule}, margin"
        return f"{self.baseline:g}, {name} {self.tolerance:g}"


@dataclass(frozen=True)
class Characteristic:
    """Shares of runs in which a gate passes or fails, with `samples` answers for each question.

    `passes` is by what the stack lost (None: it can't lose that much). `fails` is of an unchanged
    stack if the baseline is its exact accuracy, and `fails_measured` if the baseline is the result
    of a run.
    """

    samples: int
    passes: dict[float, float | None]
    fails: float
    fails_measured: float


@dataclass(frozen=True)
class Audit:
    """What a gate can tell: with its own number of samples, and with another."""

    entry: Entry
    found: tuple[Characteristic, ...]

    @property
    def weak(self) -> bool:
        """Whether the gate often passes a stack that lost 5 points or fails an unchanged one."""
        own = self.entry.gate(self.entry.samples) if self.found else None
        return own is not None and gates.weak(own, self.entry.baseline)

    @property
    def said(self) -> str:
        """Return the audit in one sentence."""
        if not self.found:
            return f"Not audited: {self.entry.unaudited}."
        own, *others = self.found
        baseline = self.entry.baseline
        said = gates.said(self.entry.gate(own.samples), baseline)
        for other in others:
            passes, fails = other.passes[gates.LOSS], gates.share(other.fails)
            both = fails if passes is None else f"{gates.share(passes)} and {fails}"
            said += f"; with samples={other.samples}, {both}"
        return f"{said[0].upper()}{said[1:]}."


def audit(entry: Entry, samples: int) -> Audit:
    """Compute how often a gate passes and fails, also if each question is asked `samples` times."""
    if entry.unaudited or entry.questions is None:
        return Audit(entry, ())
    # The betting test of `not_worse` for several samples has no exact distribution.
    others = () if entry.rule == "not_worse" else (samples,)
    numbers = dict.fromkeys((entry.samples, *others))
    return Audit(entry, tuple(_characteristic(entry, number) for number in numbers))


def _characteristic(entry: Entry, samples: int) -> Characteristic:
    gate, baseline = entry.gate(samples), entry.baseline
    measured = gate.questions if entry.measured is None else entry.measured
    return Characteristic(
        samples=samples,
        passes={loss: None if loss > baseline else gate.passes(baseline - loss) for loss in LOSSES},
        fails=gate.fails(baseline),
        fails_measured=gate.fails_measured(baseline, measured),
    )
