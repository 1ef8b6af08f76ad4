"""One batch through transformers' `generate`: where each answer ends, and how sure it was."""

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

# What the weights' generation_config.json may set and vLLM does not heed when lm-eval asks it: a
# request alone says how it is sampled. The values are vLLM's defaults (SamplingParams).
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
    """Leave of the weights' own settings what ends an answer; the tokenizer's end is one too."""
    for name, value in PLAIN.items():
        setattr(config, name, value)
    own = config.eos_token_id
    ends = {*(own if isinstance(own, list) else [own]), tokenizer.eos_token_id}
    config.eos_token_id = sorted(end for end in ends if end is not None)


@dataclass(frozen=True)
class Settings:
    """How requests want to be answered: tokens at most, what ends an answer, how it is drawn.

    `thoughts` ends the thoughts before an answer, if they are to be taken out; what then ends the
    answer itself is `until`.
    """

    room: int
    stops: list[str]
    sampling: dict[str, Any]
    until: Any
    thoughts: str | None

    @property
    def drawn(self) -> bool:
        """Whether chance decides on the answers."""
        return bool(self.sampling.get("do_sample"))


def settled(given: dict[str, Any], room: int, eos: str, thoughts: str | None) -> Settings:
    """lm-eval's reading of a task's settings, as for vLLM; `room` is for want of a setting.

    Raises:
        UserError: for a setting that transformers does not know.
    """
    kwargs = normalize_gen_kwargs(given, room)
    until = kwargs.pop("until", None)
    stops = handle_stop_sequences(until, eos=eos)
    if thoughts is not None:
        stops = [eos]  # the task's own may stand in the thoughts
    room = kwargs.pop("max_gen_toks")
    if not kwargs.get("do_sample") or kwargs.get("temperature") == 0:  # which vLLM takes for greedy
        kwargs.pop("temperature", None)
        kwargs["do_sample"] = False
    unknown = [name for name in kwargs if not hasattr(GenerationConfig(), name)]
    if unknown:
        raise UserError(
            *(f"task.gen_kwargs.{name}: transformers has no such setting" for name in unknown)
        )
    return Settings(room, stops, kwargs, until, thoughts)


class Batch(StoppingCriteria):
    """Sees the scores and the tokens of every step, and says which rows are done."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        ends: Sequence[int],
        stops: Sequence[str],
        prompts: Sequence[Sequence[int]],
        rooms: Sequence[int],
        on_step: Callable[[], None],
    ) -> None:
        """A row a prompt: its tokens, and how many more it has room for.

        An answer ends with one of the tokens `ends` or behind one of the texts `stops`; `on_step`
        is called after each step.
        """
        self.scores = _Scores()
        self._tokenizer = tokenizer
        self._ends = frozenset(ends)
        self._stops = tuple(stop for stop in stops if stop)
        # Every token but a special one spells a byte or more: so many hold the longest stop whole,
        # and a character that is cut at their beginning.
        self._window = max((len(stop.encode()) for stop in self._stops), default=0) + 4
        self._prompts = prompts
        self._rooms = rooms
        self._on_step = on_step
        self._began = time.monotonic()
        self._seconds = [0.0 for _ in rooms]
        self._rows: list[list[int]] = [[] for _ in rooms]
        self._ended: list[str | None] = [None] * len(rooms)
        self._numbers: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        chosen = input_ids[:, -1]
        self._numbers.append(_numbers(self.scores.latest, chosen))
        for row, token in enumerate(chosen.tolist()):
            if self._ended[row] is None:
                self._rows[row].append(token)
                self._ended[row] = self._end(row)
                self._seconds[row] = time.monotonic() - self._began
        self._on_step()
        done = [end is not None for end in self._ended]
        return torch.tensor(done, device=input_ids.device)

    def answers(self) -> list[Answer]:
        """What each row was answered, once `generate` has returned."""
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
            )
            for prompt, tokens, row, end, seconds in zip(
                self._prompts, self._rows, numbers, self._ended, self._seconds, strict=True
            )
        ]

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
        """Without what ended it; special tokens in it are spelled out."""
        if tokens and tokens[-1] in self._ends:
            tokens = tokens[:-1]
        # Behind the prompt's last token: alone, a first token loses the space that it begins with.
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
    """Keeps a step's scores, and hands them on as they came: temperature comes after it."""

    def __init__(self) -> None:
        self.latest = torch.empty(0)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.latest = scores
        return scores


def _numbers(scores: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """[rows, 2]: the chosen token's log-probability, and its lead over the best of the others.

    `scores` is [rows, vocabulary], `chosen` is [rows].
    """
    logprobs = torch.log_softmax(scores.float(), dim=-1)
    own = logprobs.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
    best = logprobs.topk(2, dim=-1)
    other = torch.where(best.indices[:, 0] == chosen, best.values[:, 1], best.values[:, 0])
    return torch.stack((own, own - other), dim=-1).cpu()
