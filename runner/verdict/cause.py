"""The likely class of fault behind a FAILED `replay`, named only where that was right often enough.

A few rules read the signature of the differences (runner/evidence/signature.py). Their limits, and
how often each was right about faults that the limits were not fitted to, are in cause.json.
`python -m benchmarks.cause --write` measures both on the canary.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from runner.evidence.samples import Sample
from runner.evidence.signature import Ratio, Signature, signature, traces
from runner.language import N_, gettext
from runner.percent import percent

# Share of held-out cases in which a class has to be right to be named.
PRECISION = 0.9
# Smallest number of questions in a group.
ENOUGH = 10

IMAGES, ORDER, DECODE, SCALE, MODEL = "images", "order", "decode", "scale", "model"
CLASSES = {
    IMAGES: N_("the images (preprocessing, order, vision encoder or image positions)"),
    ORDER: N_("several images in one prompt (their order, or one in place of another)"),
    DECODE: N_("the decode step (KV cache, decode kernels, graphs or positions)"),
    SCALE: N_("the scale of the logits (final norm, lm_head or a logit scale)"),
    MODEL: N_("the language model or its prompt, not only images (weights, arithmetic, positions)"),
}
# The difference of two groups, the louder one first.
APART = {
    ORDER: N_(
        "questions with several images differ by {loud:,.2g} times the noise, with one image by "
        "{quiet:,.2g} times"
    ),
    IMAGES: N_(
        "questions with images differ by {loud:,.2g} times the noise, text questions by "
        "{quiet:,.2g} times"
    ),
    DECODE: N_(
        "later tokens differ by {loud:,.2g} times the noise, first tokens by {quiet:,.2g} times"
    ),
    MODEL: N_(
        "questions with images differ by {loud:,.2g} times the noise, text questions by "
        "{quiet:,.2g} times"
    ),
}


@dataclass(frozen=True)
class Limits:
    """A group is `quiet` up to this multiple of the noise, in the mean and in a typical question.

    It is spared if the other group differs by at least `contrast` times as much. `scaled` is the
    smallest share of the change that one factor on the logits explains.
    """

    quiet: float
    contrast: float
    scaled: float


@dataclass(frozen=True)
class HeldOut:
    """How often a class was right about held-out faults: a share of cases, and of how many faults.

    A case is a draw of questions. Each fault has the same weight.
    """

    precision: float
    faults: int


def class_of(found: Signature, limits: Limits) -> str | None:
    """The class that the signature shows; None if it shows none."""

    def spared(group: Ratio | None, other: Ratio | None) -> bool:
        return (
            group is not None
            and other is not None
            and min(group.questions, other.questions) >= ENOUGH
            and group.larger <= limits.quiet
            and other.mean >= limits.contrast * group.mean
        )

    if found.scaled >= limits.scaled:
        return SCALE
    if spared(found.image, found.images) and (
        found.text is None or found.text.larger <= limits.quiet
    ):
        return ORDER
    if spared(found.text, found.illustrated):
        return IMAGES
    if spared(found.first, found.later):
        return DECODE
    loud = limits.quiet * limits.contrast
    parts = (found.text, found.illustrated, found.first)
    if all(each is not None and each.questions >= ENOUGH and each.mean >= loud for each in parts):
        return MODEL
    return None


def likely_cause(
    base: Sequence[Sample], own: Sequence[Sample], noise: Sequence[Sample], decoded: bool
) -> str:
    """The likely cause with its evidence, for a run whose differences from `base` exceed the noise.

    Empty if the signature shows no class, or one that was not right often enough about held-out
    faults. `decoded` says that the answers were generated token by token; if not, the decode step
    can't be the cause.
    """
    ours, theirs = traces(base, own), traces(base, noise)
    both = [key for key in ours if key in theirs]
    if not both:
        return ""
    found = signature([ours[key] for key in both], [theirs[key] for key in both])
    limits, held_out = measured()
    name = class_of(found, limits)
    if name is None or held_out[name].precision < PRECISION or (name == DECODE and not decoded):
        return ""
    right = held_out[name]
    if name == DECODE:  # whose faults were put together from two stacks (docs/canary.md)
        said = N_(
            "likely cause: {cause}: {evidence}; on the canary, this was right in {share} of "
            "held-out cases ({faults} constructed faults); on other models, unknown"
        )
    else:
        said = N_(
            "likely cause: {cause}: {evidence}; on the canary, this was right in {share} of "
            "held-out cases ({faults} faults); on other models, unknown"
        )
    return gettext(
        said,
        cause=gettext(CLASSES[name]),
        evidence=_evidence(name, found),
        share=percent(right.precision, 0),
        faults=right.faults,
    )


@cache
def measured() -> tuple[Limits, Mapping[str, HeldOut]]:
    """The limits, and how often each class was right."""
    stored = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    held_out = {name: HeldOut(**each) for name, each in stored["held_out"].items()}
    return Limits(**stored["limits"]), held_out


def _evidence(name: str, found: Signature) -> str:
    if name == SCALE:
        return gettext(
            "one factor on all logits explains {share} of the change",
            share=percent(found.scaled, 0),
        )
    groups = {
        ORDER: (found.images, found.image),
        IMAGES: (found.illustrated, found.text),
        DECODE: (found.later, found.first),
        MODEL: (found.illustrated, found.text),
    }
    loud, quiet = groups[name]
    assert loud is not None and quiet is not None
    return gettext(APART[name], loud=loud.mean, quiet=quiet.mean)
