"""Generates one batch with transformers' `generate` and records answers and log-probabilities."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    PreTrainedTokenizerBase,
    StoppingCriteria,
)

from runner.errors import UserError
from runner.lm.answer import Answer
from runner.lm.top import packed
from runner.runtimes.hf.drawing import WARPERS, Draw

# Settings in the weights' generation_config.json that vLLM ignores when lm-eval calls it: only the
# request decides how to sample. The values are vLLM's defaults (SamplingParams).
PLAIN = {
    "do_sample": False,
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": None,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "num_beams": 1,
    "max_length": None,
    "max_new_tokens": None,
}


def settle(config: GenerationConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Reset the weights' own generation settings, keep their end tokens and add the tokenizer's."""
    for name, value in PLAIN.items():
        setattr(config, name, value)
    own = config.eos_token_id
    ends = {*(own if isinstance(own, list) else [own]), tokenizer.eos_token_id}
    config.eos_token_id = sorted(end for end in ends if end is not None)


@dataclass(frozen=True)
class Settings:
    """Generation settings of a request.

    `room` is the maximum number of tokens and `stops` are the texts that end an answer. If
    `thoughts` is set, it marks the end of the reasoning, which is removed from the answer; `until`
    then ends the answer itself.
    """

    room: int
    stops: list[str]
    sampling: dict[str, Any]
    until: Any
    thoughts: str | None

    @property
    def drawn(self) -> bool:
        """Whether answers are sampled at random."""
        return bool(self.sampling.get("do_sample"))

    @property
    def for_generate(self) -> dict[str, Any]:
        """Arguments of transformers' `generate`, which only ever decodes greedily here."""
        others = {name: value for name, value in self.sampling.items() if name not in WARPERS}
        return {**others, "do_sample": False}

    def drawing(self, seeds: Sequence[int | None]) -> list[LogitsProcessor]:
        """What makes greedy decoding draw each row's tokens, if answers are sampled."""
        if not self.drawn:
            return []
        return [Draw(self.sampling, seeds)]


def settled(given: dict[str, Any], room: int, eos: str, thoughts: str | None) -> Settings:
    """A task's generation settings as lm-eval interprets them for vLLM.

    `room` is the maximum number of tokens if the task sets none.

    Raises:
        UserError: for a setting that transformers does not know.
    """
    kwargs = normalize_gen_kwargs(given, room)
    until = kwargs.pop("until", None)
    stops = handle_stop_sequences(until, eos=eos)
    if thoughts is not None:
        stops = [eos]  # the task's own stop texts may occur in the reasoning
    room = kwargs.pop("max_gen_toks")
    if not kwargs.get("do_sample") or kwargs.get("temperature") == 0:  # greedy in vLLM too
        kwargs.pop("temperature", None)
        kwargs["do_sample"] = False
    unknown = [name for name in kwargs if not hasattr(GenerationConfig(), name)]
    if unknown:
        raise UserError(
            *(f"task.gen_kwargs.{name}: transformers has no such setting" for name in unknown)
        )
    return Settings(room, stops, kwargs, until, thoughts)


class Batch(StoppingCriteria):
    """Records the scores and tokens of every step, and decides which rows are finished."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        ends: Sequence[int],
        stops: Sequence[str],
        prompts: Sequence[Sequence[int]],
        rooms: Sequence[int],
        on_step: Callable[[int], None],
        candidates: int = 0,
    ) -> None:
        """Set up one row per prompt.

        `prompts` are token ids and `rooms` is the maximum number of new tokens of each row. An
        answer ends with one of the tokens `ends` or after one of the texts `stops`. `on_step` is
        called after each step, with the number of tokens it added. Of each step, the `candidates`
        likeliest tokens are recorded as well.
        """
        self.scores = _Scores()
        self._tokenizer = tokenizer
        self._ends = frozenset(ends)
        self._stops = tuple(stop for stop in stops if stop)
        # Every non-special token decodes to at least one byte, so this many tokens contain
        # the longest stop text even if a character is split at their start.
        self._window = max((len(stop.encode()) for stop in self._stops), default=0) + 4
        self._prompts = prompts
        self._rooms = rooms
        self._on_step = on_step
        self._began = time.monotonic()
        self._seconds = [0.0 for _ in rooms]
        self._rows: list[list[int]] = [[] for _ in rooms]
        self._ended: list[str | None] = [None] * len(rooms)
        self._numbers: list[torch.Tensor] = []
        self._candidates = candidates
        self._top: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        chosen = input_ids[:, -1]
        self._numbers.append(_numbers(self.scores.latest, chosen))
        if self._candidates:
            logprobs = torch.log_softmax(self.scores.latest.float(), dim=-1)
            best = logprobs.topk(min(self._candidates, logprobs.shape[-1]), dim=-1)
            self._top.append((best.indices.cpu(), best.values.cpu()))
        running = sum(end is None for end in self._ended)
        for row, token in enumerate(chosen.tolist()):
            if self._ended[row] is None:
                self._rows[row].append(token)
                self._ended[row] = self._end(row)
                self._seconds[row] = time.monotonic() - self._began
        self._on_step(running)
        done = [end is not None for end in self._ended]
        return torch.tensor(done, device=input_ids.device)

    def answers(self) -> list[Answer]:
        """The answer of each row, once `generate` has returned."""
        numbers = torch.stack(self._numbers, dim=1).tolist()  # [rows, steps, 2]
        return [
            Answer(
                prompt_tokens=len(prompt),
                token_ids=tuple(tokens),
                logprobs=tuple(logprob for logprob, _ in row[: len(tokens)]),
                margins=tuple(margin for _, margin in row[: len(tokens)]),
                finish_reason=end or "length",
                text=self._text(prompt, tokens),
                seconds=seconds,
                top=self._likeliest(place, len(tokens)),
            )
            for place, (prompt, tokens, row, end, seconds) in enumerate(
                zip(self._prompts, self._rows, numbers, self._ended, self._seconds, strict=True)
            )
        ]

    def _likeliest(self, row: int, steps: int) -> str:
        """The likeliest tokens of each step of a row (`runner.lm.top`)."""
        if not self._top:
            return ""
        ids, logprobs = (
            torch.stack([step[part][row] for step in self._top[:steps]]).numpy() for part in (0, 1)
        )
        return packed(ids, logprobs)

    def _end(self, row: int) -> str | None:
        tokens = self._rows[row]
        if tokens[-1] in self._ends:
            return "stop"
        if self._stops:
            tail = self._decoded(tokens[-self._window :])
            if any(stop in tail for stop in self._stops):
                return "stop"
        return "length" if len(tokens) >= self._rooms[row] else None

    def _text(self, prompt: Sequence[int], tokens: list[int]) -> str:
        """An answer's text without its stop text or end token; other special tokens are kept."""
        if tokens and tokens[-1] in self._ends:
            tokens = tokens[:-1]
        # Decode together with the prompt's last token: on its own, a first token loses its
        # leading space.
        before = list(prompt[-1:])
        text = self._decoded(before + tokens).removeprefix(self._decoded(before))
        for stop in self._stops:
            text = text.partition(stop)[0]
        return text

    def _decoded(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(
            tokens,
            skip_special_tokens=False,
            spaces_between_special_tokens=False,
            clean_up_tokenization_spaces=False,
        )
        return text


class _Scores(LogitsProcessor):
    """Keeps the scores of a step before temperature and other processors change them."""

    def __init__(self) -> None:
        self.latest = torch.empty(0)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.latest = scores
        return scores


def _numbers(scores: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """[rows, 2]: log-probability of the chosen token, and its lead over the best other token.

    `scores` is [rows, vocabulary], `chosen` is [rows].
    """
    logprobs = torch.log_softmax(scores.float(), dim=-1)
    own = logprobs.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
    best = logprobs.topk(2, dim=-1)
    other = torch.where(best.indices[:, 0] == chosen, best.values[:, 1], best.values[:, 0])
    return torch.stack((own, own - other), dim=-1).cpu()
