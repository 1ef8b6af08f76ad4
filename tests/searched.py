"""A stand-in for the engines of a search: logits with noise, and damage under some settings."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from runner.evidence.samples import Sample
from runner.why.ddmin import Changes
from runner.why.found import Level
from runner.why.probes import Replay
from runner.why.search import MORE
from runner.why.switches import Change, Cost, Switch

TASKS = ("one", "other")
TOKENS, VOCABULARY, LISTED = 3, 24, 12
# Standard deviation of the noise of logits, in nats, as bfloat16 has it.
NOISE = 0.01
TAIL = 0.25


@dataclass(frozen=True)
class Damage:
    """What a cause does: only if all its switches are set, to a share of the questions.

    `size` is in units of the noise.
    """

    switches: frozenset[int]
    size: float
    share: float = 1.0


@dataclass
class Engines:
    """Replays of `questions` made-up questions on engines with some of `n` switches set.

    `rounding` are the switches that change the arithmetic, so the noise; the others don't change a
    bit. `broken` says for which sets of switches the engine does not start.
    """

    n: int
    damages: Sequence[Damage] = ()
    seed: int = 0
    questions: int = 80
    rounding: frozenset[int] = frozenset()
    broken: Callable[[set[int]], bool] | None = None
    starts: int = 0
    ran: list[tuple[str, Changes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.seed)
        shape = (self.questions, TOKENS, VOCABULARY)
        self._logits = random.normal(size=shape) * 3
        # Some questions are noisier than others on every stack.
        self._scales = np.exp(0.5 * random.normal(size=self.questions))
        self._scales *= NOISE / np.sqrt(np.mean(self._scales**2))
        self._damages = [self._drawn(each, random) for each in self.damages]
        self._running: Any = None

    def _drawn(self, damage: Damage, random: np.random.Generator) -> NDArray[np.float64]:
        """Changes of logits: no two questions have the same, and some have none."""
        hit = random.permutation(self.questions) < damage.share * self.questions
        sizes = damage.size * NOISE * np.exp(0.3 * random.normal(size=self.questions)) * hit
        drawn: NDArray[np.float64] = random.normal(size=self._logits.shape) * sizes[:, None, None]
        return drawn

    @property
    def switches(self) -> list[Switch]:
        """Switches that each take another engine."""
        return [
            Switch((Change(f"engine.extra.s{number}", False, True),), Cost.RESTART)
            for number in range(self.n)
        ]

    def run(
        self, name: str, changes: Mapping[str, Any], questions: Mapping[str, list[int]]
    ) -> Replay:
        """Run a probe, as `runner.why.probes.Prober` does."""
        engine = {key: value for key, value in changes.items() if key != "engine.window"}
        numbers = tuple(int(key.rpartition(".s")[2]) for key in engine)
        self.ran.append((name, numbers))
        if self.broken is not None and self.broken(set(numbers)):
            self._running = None
            return Replay(Path(name), f"run {name}", None, "engine.extra: rejected")
        self.starts += engine != self._running
        self._running = engine
        logits = self._logits.copy()
        if "engine.window" in changes or self.rounding & set(numbers):
            logits += self._noise(repr(sorted(changes)))
        for damage, drawn in zip(self.damages, self._damages, strict=True):
            if damage.switches <= set(numbers):
                logits += drawn
        asked = [
            number
            for number in range(self.questions)
            if not questions or number // len(TASKS) in questions.get(_task(number), ())
        ]
        return Replay(Path(name), f"run {name}", self._samples(logits, asked))

    def _noise(self, stack: str) -> NDArray[np.float64]:
        """The noise of a stack, with heavy tails: a question in some has several times as much."""
        random = np.random.default_rng([self.seed, zlib.crc32(stack.encode())])
        scales = self._scales * np.exp(TAIL * random.standard_t(4, size=self.questions).clip(-4, 4))
        drawn: NDArray[np.float64] = random.normal(size=self._logits.shape) * scales[:, None, None]
        return drawn

    def _samples(self, logits: NDArray[np.float64], asked: list[int]) -> list[Sample]:
        chosen = self._logits[asked].argmax(axis=2)
        logprobs = log_softmax(logits[asked], axis=2)
        own = np.take_along_axis(logprobs, chosen[:, :, None], axis=2)[:, :, 0]
        order = np.argsort(-logprobs, axis=2)[:, :, :LISTED]
        listed = np.take_along_axis(logprobs, order, axis=2)
        return [
            Sample(
                _task(number),
                number // len(TASKS),
                doc_hash=str(number),
                prompt_hash=str(number),
                token_ids=chosen[place],
                logprobs=own[place],
                margins=[1.0] * TOKENS,
                top_ids=order[place].ravel(),
                top_logprobs=listed[place].ravel(),
            )
            for place, number in enumerate(asked)
        ]


class SideBySide:
    """The same replays, but all that may be needed run at once, and end in any order."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._random = random.Random(engines.seed)
        self._ran: dict[str, Replay] = {}
        self.unneeded: set[str] = set()

    def ahead(self, levels: Sequence[Level]) -> None:
        asks = [ask for level in levels for ask in level.asks]
        self._random.shuffle(asks)
        self.unneeded |= self._ran.keys()
        self._ran = {
            ask.name: self._engines.run(ask.name, ask.changes, ask.questions) for ask in asks
        }

    def run(
        self, name: str, changes: Mapping[str, Any], questions: Mapping[str, list[int]]
    ) -> Replay:
        """Return the replay that ran ahead; only a second look at a probe does not."""
        if name.endswith(MORE):
            return self._engines.run(name, changes, questions)
        return self._ran.pop(name)


def _task(number: int) -> str:
    return TASKS[number % len(TASKS)]
