"""Where two answers to a question diverge, and why."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from runner.config.verdict import NumericsConfig
from runner.evidence import shifts
from runner.evidence.draws import answers_of
from runner.evidence.pairing import Reason
from runner.evidence.samples import Sample, answer, stopped
from runner.evidence.unparsable import unparsable
from runner.language import N_, gettext

# As the rule `numerics` has it. Logits of 16 to 32, as large models have them, lie 0.125 apart in
# bfloat16: two such steps turn a lead of 0.25 into a tie, whatever else is right.
NEAR_TIE = NumericsConfig().near_tie


class Kind(str, Enum):
    """Why two answers to one question differ; the first that applies.

    Pages show the value after `gettext`.
    """

    PROMPT = N_("prompt rendered differently")
    IMAGES = N_("image preprocessed differently")
    DOCUMENT = N_("another document")
    TRUNCATED = N_("prompt truncated by length")
    DEGENERATE = N_("degenerate answer")
    LIMIT = N_("stopped by the limit")
    UNPARSABLE = N_("answer unparsable")
    RESCORED = N_("same answer scored differently")
    DRAWN = N_("different draws")
    NEAR_TIE = N_("near-tie")
    DIFFERENT = N_("different answer")


MEANING = {
    Kind.PROMPT: N_(
        "The chat template, system message or few-shot examples produced a different text (or "
        "different tokens) for the same document."
    ),
    Kind.IMAGES: N_(
        "The image was decoded or resized differently: its pixels or its number of tokens differ."
    ),
    Kind.DOCUMENT: N_(
        "The data set has different content at this index, for example another target."
    ),
    Kind.TRUNCATED: N_("One run left-truncated the prompt to fit its max_model_len."),
    Kind.DEGENERATE: N_(
        "One answer repeats itself, is garbled or empty, or has a log-probability that is NaN or "
        "infinite."
    ),
    Kind.LIMIT: N_("One answer stopped at the token limit, the other ended on its own."),
    Kind.UNPARSABLE: N_("One answer could not be parsed: it was scored as wrong, or guessed."),
    Kind.RESCORED: N_("The answers are identical but were scored differently."),
    Kind.DRAWN: N_(
        "The answers are sampled at random, so their texts differ by chance. A single answer says "
        "nothing about the runs."
    ),
    Kind.NEAR_TIE: N_(
        "Where the answers diverge, both runs had two almost equally likely tokens: rounding alone "
        "can flip such an answer. This is noise."
    ),
    Kind.DIFFERENT: N_(
        "Where the answers diverge, at least one run had a clear preference: rounding does not "
        "explain the difference. Investigate it."
    ),
}


@dataclass(frozen=True)
class Change:
    """How two answers differ.

    `token` is the index of the first token that differs, None where it is not known (several
    requests a sample) or where no token does. `margins` are the leads of the chosen over the next
    best at that place, in nats; for scored choices those of the best choice. `apart` is the
    largest shift of a log-probability in the answer: what noise would have to bridge. For scored
    choices it is the shift of a sum, as the lead is that between two sums.
    """

    kind: Kind
    token: int | None
    margins: tuple[float | None, float | None]
    apart: float | None

    @property
    def places(self) -> list[str]:
        """Return where the answers diverge and by which leads, as far as known."""
        said = []
        if self.token is not None:
            said.append(gettext("answers diverge at token {token}", token=self.token))
        first, second = self.margins
        if first is None or second is None:
            return said
        if self.token is not None:
            lead = gettext(
                "lead there: A {first:.2f}, B {second:.2f} nats", first=first, second=second
            )
        else:
            lead = gettext(
                "lead of the best choice: A {first:.2f}, B {second:.2f} nats",
                first=first,
                second=second,
            )
        return [*said, lead]


def explain(
    first: Sample, second: Sample, reason: Reason | None = None, sampled: bool = False
) -> Change | None:
    """Return the difference between the answers to a question; None if they are equal.

    `reason` is given if the two are not a pair. Answers that are `sampled` at random, one or
    several, differ by chance: where they diverge says nothing about the two runs.
    """
    if reason is None and _answers(first) == _answers(second) and first.scores == second.scores:
        return None
    if sampled:
        kind = _asked(first, second, reason)
        same = _answers(first) == _answers(second)
        return Change(kind or (Kind.RESCORED if same else Kind.DRAWN), None, (None, None), None)
    token = _parting(first, second)
    margins = (_margin(first, token), _margin(second, token))
    distance = _apart(first, second)
    return Change(_kind(first, second, reason, distance), token, margins, distance)


def _answers(question: Sample) -> list[tuple[str, ...] | int]:
    return [answer(each.responses, each.choice_logprobs) for each in answers_of(question)]


def _asked(first: Sample, second: Sample, reason: Reason | None) -> Kind | None:
    """The difference between what the two were asked; None if they were asked the same."""
    if reason is Reason.PROMPT:
        return Kind.PROMPT
    if reason is Reason.IMAGES:
        return Kind.IMAGES
    if reason is Reason.DOCUMENT:
        return Kind.DOCUMENT
    if first.truncated != second.truncated:
        return Kind.TRUNCATED
    if not shifts.comparable(first, second):
        # The same text and the same pixels, and yet another number of tokens.
        return Kind.IMAGES if first.image_hashes else Kind.PROMPT
    return None


def _kind(
    first: Sample,
    second: Sample,
    reason: Reason | None,
    distance: float | None,
) -> Kind:
    if (asked := _asked(first, second, reason)) is not None:
        return asked
    if bool(first.degenerate) != bool(second.degenerate):
        return Kind.DEGENERATE
    if stopped(first) != stopped(second):
        return Kind.LIMIT
    if unparsable(first) != unparsable(second):
        return Kind.UNPARSABLE
    if first.choice_logprobs:
        # A choice by another measure (length-normalised, say) has no lead here: what can be told is
        # that no choice has moved by as much.
        turned = shifts.parts(first, second)
        near = (turned and shifts.tied(first, second, NEAR_TIE)) or (
            distance is not None and distance < NEAR_TIE
        )
    elif first.responses == second.responses:
        return Kind.RESCORED
    else:
        near = _parting(first, second) is not None and shifts.tied(first, second, NEAR_TIE)
    return Kind.NEAR_TIE if near else Kind.DIFFERENT


def _parting(first: Sample, second: Sample) -> int | None:
    if first.choice_logprobs or not len(first.finish_reasons) == len(second.finish_reasons) == 1:
        return None
    return shifts.parting(first.token_ids, second.token_ids)


def _margin(sample: Sample, token: int | None) -> float | None:
    return shifts.lead_of_choices(sample) if sample.choice_logprobs else shifts.lead(sample, token)


def _apart(first: Sample, second: Sample) -> float | None:
    scored = first.choice_logprobs or second.choice_logprobs
    found = shifts.of_sums(first, second) if scored else shifts.of_tokens(first, second)
    return float(found.max()) if found.size and math.isfinite(found.max()) else None
