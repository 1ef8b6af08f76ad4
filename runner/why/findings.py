"""What a search found, in sentences, for every page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from runner.trace import findings as trace
from runner.why.ddmin import State
from runner.why.evidence import NEGLIGIBLE
from runner.why.found import Probe
from runner.why.result import Why, joined
from runner.why.search import DTYPE

SMALLEST = 1e-12
# What a probe shows, in one word.
WORDS = {State.GOOD: "agrees", State.BAD: "differs", State.UNRESOLVED: "undecided"}


def headline(why: Why) -> str:
    """The answer in one sentence."""
    causes = [named(why, each.switches) for each in why.causes]
    if len(causes) > 1:
        parts = [
            each if cause.minimal else f"{each} (or a part of it)"
            for each, cause in zip(causes, why.causes, strict=True)
        ]
        return f"{len(causes)} causes: {'; '.join(parts)}"
    if causes:
        together = len(why.causes[0].switches) > 1
        only = ", but only together" if why.causes[0].minimal else " (a smaller set may be enough)"
        return f"{causes[0]} {'make' if together else 'makes'} the difference" + (
            only if together else ""
        )
    if why.ladder and not any(each.good for each in why.ladder):
        return "None of the changes raises the scores significantly"
    whole = why.whole
    if whole is None or whole.state is State.UNRESOLVED:
        return "Inconclusive: the settings may or may not make a difference"
    if whole.state is State.BAD:
        return "The settings make a difference, but no smaller set of them could be found"
    if why.rounding is not None:
        return f"Nothing departs beyond noise, which includes the rounding of {DTYPE}"
    return "Nothing departs beyond noise: the settings make no difference that can be measured"


def findings(why: Why) -> list[str]:
    """The rest, one sentence each."""
    found = []
    found += [f"With {each.rung.change}: {each.said}." for each in why.ladder if each.good]
    whole = why.whole
    if whole is not None and whole.excess is not None and not whole.reason:
        found.append(
            f"With all settings of the bad run, logits differ by {times(whole)} the noise of "
            f"correct stacks (mean squares), {_beyond(whole)}. Noise: the good run with "
            f"{_noise(why)}."
        )
    if whole is not None and whole.reason:
        found.append(f"With all settings of the bad run: {whole.reason}.")
    for number, cause in enumerate(why.causes):
        side = cause.probe.side
        if side is not None:
            whole_run = (
                "without the causes before it" if number else "with all settings of the bad run"
            )
            found.append(
                f"With {named(why, cause.switches)} alone, {side.bad} of {side.distinct} questions "
                f"differ from the good run as they do {whole_run}. They were chosen from the "
                f"{cause.distinct} of {cause.questions} that differ most."
            )
        if not cause.minimal:
            found.append(
                f"Whether all of {named(why, cause.switches)} are needed could not be told: probes "
                "with some of them are unresolved."
            )
    found += _rest(why)
    for number, origin in enumerate(why.origins, 1):
        which = f" (cause {number})" if len(why.origins) > 1 else ""
        said = trace.conclusion(origin.trace) if origin.trace else f"Not traced: {origin.reason}."
        found.append(f"In the network{which}, {said[0].lower()}{said[1:]}")
    if whole is not None and whole.state is State.GOOD:
        found.append(_elsewhere(why))
    if why.asked:
        found.append(
            "These settings change the questions or how answers are read, so a replay can't test "
            f"them: {'; '.join(why.asked)}."
        )
    if why.environment:
        found.append(
            "The machines or their software differ, and no setting controls that; all probes ran "
            f"on {_machines(why)}: {'; '.join(why.environment)}."
        )
    if why.rounding is not None:
        found.append(
            f"The data type of the bad run alone differs by {why.rounding:.2g} nats (RMS). This "
            "counts as noise, so a fault of this data type that is no larger can't be seen."
        )
    if why.versions:
        found.append(f"engine.python also changes these versions: {', '.join(why.versions)}.")
    found += [f"{note[0].upper()}{note[1:]}." for note in why.notes]
    return found


def named(why: Why, switches: Sequence[int]) -> str:
    """The changes, for example `engine.dtype: float32 → bfloat16`."""
    return joined([" + ".join(why.switches[each]) for each in switches])


def _rest(why: Why) -> list[str]:
    """What is known of the bad run without the causes."""
    without = "it" if len(why.causes) == 1 else "these causes"
    others = len(why.switches) - len(why.guilty)
    if not why.causes or not others:
        return []
    if why.rest is State.GOOD:
        rest = "other setting does" if others == 1 else f"other {others} settings together do"
        return [f"Without {without}, the bad run's {rest} not differ beyond noise."]
    if why.rest is State.BAD:
        return [f"Without {without}, the bad run still differs: there are more causes."]
    return [
        f"Whether the bad run differs without {without} could not be measured, so there may be "
        "more causes."
    ]


def _noise(why: Why) -> str:
    return "; or ".join(why.noise)


def times(probe: Probe) -> str:
    """The difference in units of the noise."""
    assert probe.excess is not None
    return f"{probe.excess.ratio:.2g} ×"


def _beyond(probe: Probe) -> str:
    assert probe.excess is not None
    if probe.state is State.GOOD:
        return f"less than {probe.excess.factor:g} × (95 %)"
    how = "significantly" if probe.state is State.BAD else "not significantly"
    return f"{how} more than {probe.excess.factor:g} × ({chance(probe.excess.p)})"


def _elsewhere(why: Why) -> str:
    """Where to look if the engine computes the same."""
    asked = "other questions, or another way to read answers; " if why.asked else ""
    return (
        f"So these settings, on {_machines(why)}, do not explain other scores. What remains: "
        f"{asked}chance; software or a machine that has changed since the bad run; or a "
        "difference smaller than the noise."
    )


def _machines(why: Why) -> str:
    """Where the probes ran."""
    if not why.nodes:
        return "this machine"
    return f"{'node' if len(why.nodes) == 1 else 'nodes'} {joined(why.nodes)} of the cluster"


def size(probe: Probe) -> str:
    """The difference of a probe from the good run, as a root mean square in nats."""
    if probe.shift is None or math.isnan(probe.shift):
        return ""
    if math.isinf(probe.shift):
        return "∞"
    bound = "< " if 0 < probe.shift <= NEGLIGIBLE else ""
    return f"{bound}{math.sqrt(probe.shift):.2g}"


def between(probe: Probe) -> str:
    """The 95 % interval of `size`, and how many tokens flipped."""
    found = []
    if probe.interval is not None:
        low, high = map(math.sqrt, probe.interval)
        found.append(f"{low:.2g} to {high:.2g}")
    if probe.tokens:
        found.append(f"{probe.flips} of {probe.tokens:,} tokens flip")
    return "; ".join(found)


def chance(p: float) -> str:
    """A p value; exact tiny ones mean nothing."""
    return f"p = {p:.2g}" if p >= SMALLEST else f"p < {SMALLEST:g}"


def evidence_of(probe: Probe) -> str:
    """What decided about a probe."""
    if probe.side is not None:
        side = probe.side
        return f"{side.bad} of {side.distinct} questions as in the bad run ({chance(side.p)})"
    if probe.excess is not None and not probe.reason:
        return f"{times(probe)} the noise ({chance(probe.excess.p)})"
    return probe.reason
