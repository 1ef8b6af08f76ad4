"""`isclose`: the test of vllm-ascend, which compares one number with another."""

from __future__ import annotations

import math
from statistics import NormalDist

from runner.language import N_, gettext
from runner.outcome import MetricResult
from runner.stats import ALPHA, POWER, means, shares
from runner.status import Status
from runner.verdict.rule import Case, Finding

# The original test rounds the measured value to four digits before comparing.
ROUNDED_DIGITS = 4
# numpy's default for the absolute tolerance, which it adds.
ATOL = 1e-8
# No task has more samples.
MANY = 1e9


def describe(rtol: float) -> str:
    return f"np.isclose(baseline, round(value, {ROUNDED_DIGITS}), rtol={rtol:g})"


def tolerated(
    baseline: float, rtol: float, tolerance: float | None = None
) -> tuple[float | None, float | None]:
    """Return the lowest and the highest passing value; None for an open end.

    An absolute `tolerance`, which a baseline may state, takes the place of `rtol`.
    """
    if tolerance is not None:
        return baseline - tolerance, baseline + tolerance
    near, far = baseline / (1 + rtol), baseline / (1 - rtol) if rtol < 1 else None
    return (near, far) if baseline >= 0 else (far, near)


def judge(case: Case) -> Finding:
    """Judge with np.isclose, which scales rtol by its second argument, the measured value.

    If the baseline states an absolute tolerance, that is used instead of rtol.
    If the baseline was measured on other samples, only a significant difference fails.
    """
    import numpy as np

    value, baseline, rtol = case.result.value, case.baseline, case.settings.rtol
    assert baseline is not None
    if not math.isfinite(value):
        return Finding(Status.FAILED, gettext("the value is {value}", value=value))
    tolerance = case.stated.tolerance if case.stated is not None else None
    measured = round(value, ROUNDED_DIGITS)
    within = f"{rtol * 100:g} %" if tolerance is None else f"{tolerance:g}"
    # ATOL as well: 0.85 - 0.8 is a little more than 0.05.
    rtol, atol = (rtol, ATOL) if tolerance is None else (0.0, tolerance + ATOL)
    detectable, samples = _reach(case)
    if bool(np.isclose(baseline, measured, rtol=rtol, atol=atol)):
        status, reason = Status.PASSED, N_("within {tolerance} of {baseline:g}")
    else:
        status = Status.FAILED
        if measured < baseline:
            reason = N_("more than {tolerance} below {baseline:g}")
        else:
            reason = N_("more than {tolerance} above {baseline:g}")
    said = gettext(reason, tolerance=within, baseline=baseline)
    if status is Status.FAILED and case.other_samples and not _significant(case.result, baseline):
        status = Status.INCONCLUSIVE
        said = gettext("{difference}, but not statistically significant", difference=said)
    return Finding(status, said, detectable=detectable, samples_to_pass=samples)


def _significant(result: MetricResult, baseline: float) -> bool:
    """Whether the samples differ from the baseline, two-sided: exact for scores of 0 and 1, else
    Student's t. Without a standard error nothing is known."""
    value, n, error = result.value, result.n, result.stderr
    if result.binary:
        right = round(value * n)
        tails = shares.at_most(right, n, baseline), shares.at_most(n - right, n, 1 - baseline)
        return min(tails) <= ALPHA / 2
    if error is None or not error > 0 or n < 2:
        return False
    return means.above_zero(abs(value - baseline), error, n - 1) <= ALPHA / 2


def _reach(case: Case) -> tuple[float | None, int | None]:
    """The drop that fails in 4 of 5 runs; samples with which no drop passes in 19 of 20.

    The tolerance towards smaller values is b - b / (1 + rtol). The rule itself knows no error: the
    two follow from the value's own.
    """
    baseline, error, n = case.baseline, case.result.stderr, case.result.n
    if not baseline or error is None or not math.isfinite(error) or error <= 0 or n <= 0:
        return None, None
    normal = NormalDist()
    stated = case.stated.tolerance if case.stated is not None else None
    usual = abs(baseline - baseline / (1 + case.settings.rtol))
    tolerance = usual if stated is None else stated
    detectable = tolerance + normal.inv_cdf(POWER) * error
    samples = n * (normal.inv_cdf(0.975) * error / max(tolerance, 1e-9)) ** 2
    return detectable, math.ceil(samples) if samples < MANY else None
