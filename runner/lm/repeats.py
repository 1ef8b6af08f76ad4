"""Repeats of a request: each is sampled with a seed of its own, and its answers are kept in order.

lm-eval sends a request that is to be repeated as the same object several times in a row.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lm_eval.api.instance import Instance

from runner.lm.script import LABEL, PREFILL, REPLAY

if TYPE_CHECKING:
    from runner.lm.answer import Answer

SEED = "seed"
# Seeds are below this: the largest that every engine and generator accepts.
SEEDS = 2**31


def seed_of(base: int, task: str, doc_id: int, request: int) -> int:
    """The seed of a question's first answer.

    It depends on `task.seed` and the question alone, so a rerun or a reference draws the same.
    """
    text = f"{base} {task} {doc_id} {request}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % SEEDS


@dataclass(frozen=True)
class Repeat:
    """One of the answers that a request asks for; `number` counts them from 0."""

    original: Instance
    number: int

    @property
    def request(self) -> Instance:
        """The request to send, with the seed or the script of this repeat if it has one."""
        seed = first_seed(self.original)
        own: dict[str, Any] = {
            name: scripts[self.number]
            for name in (REPLAY, PREFILL, LABEL)
            if (scripts := _setting(self.original, name)) is not None
        }
        if seed is not None and self.number:
            own[SEED] = (seed + self.number) % SEEDS
        if not own:
            return self.original
        context, settings, *others = self.original.args
        return replace(self.original, arguments=(context, settings | own, *others))

    def note(self, answers: Sequence[tuple[Answer, bool]]) -> None:
        """Save the engine's answers, each with whether its prompt was truncated, with the request.

        A repeat has several answers if lm-eval makes several questions of it.
        """
        vars(self.original).setdefault("noted", {})[self.number] = tuple(answers)


def repeats(requests: Sequence[Instance]) -> list[Repeat]:
    """The repeats in the order in which lm-eval sends them and expects their responses."""
    seen: Counter[int] = Counter()
    found = []
    for request in requests:
        found.append(Repeat(request, seen[id(request)]))
        seen[id(request)] += 1
    return found


def first_seed(request: Instance) -> int | None:
    """The seed of a request's first answer; None if the request has none."""
    seed: int | None = _setting(request, SEED)
    return seed


def script_of(request: Instance) -> list[int] | None:
    """The tokens to generate instead of an answer of the model's own; None if there are none."""
    tokens: list[int] | None = _setting(request, REPLAY)
    return tokens


def label_of(request: Instance) -> str | None:
    """The name of the question that a trace records; None if there is no trace."""
    label: str | None = _setting(request, LABEL)
    return label


def seeds(request: Instance, numbers: range) -> list[int]:
    """The seeds of some repeats of a request; empty if the request has none."""
    first = first_seed(request)
    return [] if first is None else [(first + number) % SEEDS for number in numbers]


def _setting(request: Instance, name: str) -> Any:
    """A generation setting of a request; None if the request has none of this name."""
    settings: Any = request.args[1] if len(request.args) > 1 else None
    return settings.get(name) if isinstance(settings, dict) else None


def noted(request: Instance) -> list[tuple[Answer, bool]]:
    """The noted answers of all repeats, in order."""
    known = vars(request).get("noted", {})
    return [each for number in sorted(known) for each in known[number]]
