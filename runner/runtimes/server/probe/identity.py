"""Judges whether a server tokenises and renders prompts like the model that it should serve."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from runner.runtimes.server.server import ServerFacts
from runner.status import Status


class Agreement(str, Enum):
    """How the tokens of a prompt compare; COUNTED if only their number is known."""

    SAME = "same"
    COUNTED = "same length"
    DIFFERENT = "different"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Prompt:
    """A prompt's tokens here and on the server. `difference` describes the first difference."""

    name: str
    agreement: Agreement
    difference: str = ""


@dataclass(frozen=True)
class Vocabulary:
    """The number of token ids whose text was compared, and the first that differ."""

    compared: int
    different: tuple[str, ...] = ()


@dataclass(frozen=True)
class Identity:
    """What a server says of itself, and how its prompts compare with those of `model`.

    UNJUDGED if no model was given to compare with.
    """

    status: Status
    reason: str
    served_name: str
    root: str | None
    version: str | None
    max_model_len: int | None
    model: str | None
    model_limit: int | None
    answered_as: tuple[str, ...]
    prompts: tuple[Prompt, ...]
    vocabulary: Vocabulary | None
    unchecked: tuple[str, ...]


def compare(
    name: str,
    here: Sequence[Sequence[int]],
    there: Sequence[int] | int | None,
    text: Callable[[Sequence[int]], str],
    *,
    rejected: bool = False,
) -> Prompt:
    """Compare the ways in which a prompt may be tokenised here with the server's way.

    `here` is empty if the local chat template rejects the prompt; `rejected` says that the server
    rejects it. `there` is a number if the server tells only how many tokens it has.
    """
    if rejected or not here:
        both = rejected and not here
        who = "the server" if rejected else "the local template"
        return Prompt(
            name,
            Agreement.SAME if both else Agreement.DIFFERENT,
            "" if both else f"only {who} rejects it",
        )
    if there is None:
        return Prompt(name, Agreement.UNKNOWN)
    own = here[0]
    if isinstance(there, int):
        if there in map(len, here):
            return Prompt(name, Agreement.COUNTED)
        said = f"{there} tokens on the server, {len(own)} locally"
        return Prompt(name, Agreement.DIFFERENT, said)
    if list(there) in map(list, here):
        return Prompt(name, Agreement.SAME)
    pairs = zip(own, there, strict=False)
    first = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(own), len(there)))
    return Prompt(
        name,
        Agreement.DIFFERENT,
        f"from token {first + 1} on: server {_excerpt(there[first:], text)}, "
        f"local {_excerpt(own[first:], text)}",
    )


def judge(
    facts: ServerFacts,
    prompts: Sequence[Prompt],
    vocabulary: Vocabulary | None,
    served: Mapping[tuple[str | None, str | None], int],
    *,
    model: str | None,
    model_limit: int | None,
    unchecked: Sequence[str],
) -> Identity:
    """The finding; `served` counts the models and fingerprints in all answers."""
    status, reason = _judged(facts, prompts, vocabulary, model)
    names = sorted({name for name, _ in served if name})
    if len(names) > 1:
        status, reason = Status.FAILED, f"answers come from different models: {', '.join(names)}"
    return Identity(
        status=status,
        reason=reason,
        served_name=facts.model.id,
        root=facts.model.root,
        version=facts.version,
        max_model_len=facts.model.max_model_len,
        model=model,
        model_limit=model_limit,
        answered_as=tuple(
            sorted({f"{name} ({mark})" if mark else f"{name}" for name, mark in served})
        ),
        prompts=tuple(prompts),
        vocabulary=vocabulary,
        unchecked=(*unchecked, *_unknown(prompts)),
    )


def _judged(
    facts: ServerFacts,
    prompts: Sequence[Prompt],
    vocabulary: Vocabulary | None,
    model: str | None,
) -> tuple[Status, str]:
    if model is None:
        named = facts.model.root or "DIR_OR_ID"
        return Status.UNJUDGED, f"not compared with a model; add --model {named}"
    different = [each for each in prompts if each.agreement is Agreement.DIFFERENT]
    if different:
        names = ", ".join(each.name for each in different)
        return Status.FAILED, f"prompts get other tokens than with {model}: {names}"
    if vocabulary is not None and vocabulary.different:
        return Status.FAILED, f"token ids stand for other text than in {model}"
    known = [each for each in prompts if each.agreement is not Agreement.UNKNOWN]
    if not known:
        return Status.INCONCLUSIVE, "the server tells neither tokens nor their number"
    if all(each.agreement is Agreement.COUNTED for each in known):
        return Status.PASSED, f"prompts have as many tokens as with {model}"
    return Status.PASSED, f"prompts get the same tokens as with {model}"


def _unknown(prompts: Sequence[Prompt]) -> list[str]:
    def named(agreement: Agreement) -> str:
        return ", ".join(each.name for each in prompts if each.agreement is agreement)

    found = []
    if names := named(Agreement.COUNTED):
        found.append(f"token ids of {names}: the server tells only their number")
    if names := named(Agreement.UNKNOWN):
        found.append(f"tokens of {names}: the server does not tell them")
    return found


def _excerpt(ids: Sequence[int], text: Callable[[Sequence[int]], str], length: int = 4) -> str:
    return f"{list(ids[:length])} {text(ids[:length])!r}" if ids else "ends"
