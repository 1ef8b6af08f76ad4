"""Log-probability differences between two answers to the same prompt, token by token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from runner.evidence.samples import Sample, answer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def comparable(first: Sample, second: Sample) -> bool:
    """Whether both prompts and choices have the same numbers of tokens, as far as recorded.

    If not, the tokenizer or the image preprocessing differs, and log-probabilities say nothing
    about the arithmetic.
    """
    one, other = first.prompt_tokens, second.prompt_tokens
    if one and other and one != other:
        return False
    choices, theirs = first.choice_tokens, second.choice_tokens
    # A choice that only one run scored is no difference of the tokenizer.
    return len(choices) != len(theirs) or choices == theirs


def of_answers(first: Sample, second: Sample) -> NDArray[np.float64]:
    """Absolute log-probability differences in nats: of choices (per token) or of each token."""
    choices = first.choice_logprobs or second.choice_logprobs
    return of_choices(first, second) if choices else of_tokens(first, second)


def of_tokens(first: Sample, second: Sample) -> NDArray[np.float64]:
    """Absolute log-probability differences in nats, one per token, until the answers diverge.

    Where they diverge, the two chosen tokens have no log-probability in common. But each run's
    token led by that run's margin, so the gap between the two tokens changed by the sum of both
    margins, and at least one of the two moved by half of it. That half counts as the difference
    there.
    """
    import numpy as np

    place = parting(first.token_ids, second.token_ids)
    common = _apart(first.logprobs[:place], second.logprobs[:place])
    leads = (lead(first, place), lead(second, place))
    if place is None or leads[0] is None or leads[1] is None:
        return common
    return np.append(common, (leads[0] + leads[1]) / 2)


def of_choices(first: Sample, second: Sample) -> NDArray[np.float64]:
    """Absolute log-likelihood differences in nats per token, one per scored choice or text.

    A log-likelihood is a sum, so its difference is divided by the number of tokens. If no run
    recorded that number (`summed`), the differences are those of the sums.
    """
    import numpy as np

    moved = of_sums(first, second)
    if summed(first, second):
        return moved
    return moved / np.asarray(choice_tokens(first, second), dtype=np.float64)


def of_sums(first: Sample, second: Sample) -> NDArray[np.float64]:
    """Absolute log-likelihood differences in nats, one per scored choice or text."""
    return _apart(first.choice_logprobs, second.choice_logprobs)


def choice_tokens(first: Sample, second: Sample) -> Sequence[int]:
    """Number of tokens of each choice, as either run recorded it; empty if none did."""
    return first.choice_tokens or second.choice_tokens


def summed(first: Sample, second: Sample) -> bool:
    """Whether there are choices, and the number of tokens of some is unknown."""
    choices = max(len(first.choice_logprobs), len(second.choice_logprobs))
    return bool(choices) and len(choice_tokens(first, second)) != choices


def parting(first: Sequence[int], second: Sequence[int]) -> int | None:
    """Index at which two lists diverge, including the end of the shorter; None if equal."""
    import numpy as np

    length = min(len(first), len(second))
    parted = np.flatnonzero(np.asarray(first[:length]) != np.asarray(second[:length]))
    if parted.size:
        return int(parted[0])
    return length if len(first) != len(second) else None


def lead(sample: Sample, place: int | None) -> float | None:
    """Lead of the chosen token over the next best one at this index; None if it is not known.

    A sampled token that was not the likeliest has a lead of 0.
    """
    if place is None or place >= len(sample.margins):
        return None
    margin = float(sample.margins[place])
    return max(margin, 0.0) if math.isfinite(margin) else None


def lead_of_choices(sample: Sample) -> float | None:
    """Lead of the likeliest choice over the next; None without two choices or a finite lead."""
    if len(sample.choice_logprobs) < 2:
        return None
    best, second = sorted(sample.choice_logprobs, reverse=True)[:2]
    return best - second if math.isfinite(best - second) else None


def parts(first: Sample, second: Sample) -> bool:
    """Whether the answers differ: in the likeliest choice, or in any token."""
    if first.choice_logprobs or second.choice_logprobs:
        ours, theirs = (answer((), each.choice_logprobs) for each in (first, second))
        return ours != theirs
    return parting(first.token_ids, second.token_ids) is not None


def tied(first: Sample, second: Sample, near_tie: float) -> bool:
    """Whether both leads are below `near_tie` where the answers diverge.

    Rounding errors cannot overcome a larger lead.
    """
    if first.choice_logprobs or second.choice_logprobs:
        leads = [lead_of_choices(each) for each in (first, second)]
    else:
        place = parting(first.token_ids, second.token_ids)
        leads = [lead(each, place) for each in (first, second)]
    known = [each for each in leads if each is not None]
    return bool(known) and max(known) < near_tie


def unknown_where_parted(first: Sample, second: Sample) -> bool:
    """Whether the answers' tokens diverge at a place where a lead is unknown (`of_tokens`)."""
    if first.choice_logprobs or second.choice_logprobs:
        return False
    place = parting(first.token_ids, second.token_ids)
    return place is not None and None in (lead(first, place), lead(second, place))


def _apart(first: Sequence[float], second: Sequence[float]) -> NDArray[np.float64]:
    """Element-wise absolute differences.

    Two equal infinities don't differ; an element that only one side has differs infinitely.
    """
    import numpy as np

    length = min(len(first), len(second))
    one, other = (np.asarray(each[:length], dtype=np.float64) for each in (first, second))
    with np.errstate(invalid="ignore"):
        moved = np.where(one == other, 0.0, np.abs(one - other))
    return np.append(moved, [math.inf] * abs(len(first) - len(second)))
