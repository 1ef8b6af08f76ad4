"""Scores the model's answers with the fast forward pass: correctness and log-probability."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from runner.canary.batch import IGNORE, Batch, collate
from runner.canary.fast import read, see
from runner.canary.questions import Question
from runner.canary.tokens import END

CHUNK = 50
LONGEST = 6  # maximum tokens of a reply; every reference answer has fewer


@dataclass(frozen=True)
class Scored:
    """Results of n questions.

    right: (n,) whether greedy decoding would give exactly the reference answer
    logprobs: (n,) log-probability of the reference answer with its end token
    """

    kinds: tuple[str, ...]
    right: Tensor
    logprobs: Tensor

    def accuracy(self) -> dict[str, float]:
        """Share of right answers by kind, and over all questions as ``all``."""
        by_kind = {
            kind: self.right[[k == kind for k in self.kinds]].float().mean().item()
            for kind in dict.fromkeys(self.kinds)
        }
        return {**by_kind, "all": self.right.float().mean().item()}


def forward(model: Any, batch: Batch) -> Tensor:
    """Log-probabilities at all positions that precede an answer token, shape (kept, vocabulary)."""
    tokens = see(model, batch.patches, batch.grids)
    states = read(model, batch.ids, tokens, batch.positions)
    logits: Tensor = model.lm_head(states[batch.labels != IGNORE])
    return logits.float().log_softmax(-1)


@dataclass(frozen=True)
class Forced:
    """What a model predicts where it is forced to give certain answers to n questions.

    guesses: (tokens, vocabulary), log-probabilities at each answer token, end tokens included
    tokens: (tokens,), the answer tokens
    rows: (tokens,), the question of each
    kinds: (n,), the kind of each question
    """

    guesses: Tensor
    tokens: Tensor
    rows: Tensor
    kinds: tuple[str, ...]

    def scored(self) -> Scored:
        """The results of the answers.

        One forward pass is enough even for answers of several tokens: greedy decoding gives exactly
        the answer if each of its tokens is the likeliest after the ones before it.
        """
        missed = (self.guesses.argmax(-1) != self.tokens).float()
        chosen = self.guesses.gather(1, self.tokens[:, None])[:, 0]
        empty = torch.zeros(len(self.kinds))
        right = empty.index_add(0, self.rows, missed) == 0
        return Scored(self.kinds, right, empty.index_add(0, self.rows, chosen))


def force(model: Any, batches: Iterable[Batch]) -> Forced:
    """Force a model to give the answers of the batches."""
    kinds: list[str] = []
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for batch in batches:
        kept = batch.labels != IGNORE
        with torch.no_grad():
            guesses = forward(model, batch)
        parts.append((guesses, batch.labels[kept], len(kinds) + kept.nonzero()[:, 0]))
        kinds += [question.kind for question in batch.questions]
    guesses, tokens, rows = (torch.cat(values) for values in zip(*parts, strict=True))
    return Forced(guesses, tokens, rows, tuple(kinds))


def score(model: Any, tokenizer: Tokenizer, questions: Sequence[Question]) -> Scored:
    """Score the reference answers."""
    starts = range(0, len(questions), CHUNK)
    batches = (collate(tokenizer, questions[start : start + CHUNK]) for start in starts)
    return force(model, batches).scored()


@torch.no_grad()
def reply(model: Any, tokenizer: Tokenizer, questions: Sequence[Question]) -> list[str]:
    """Greedy replies, decoded token by token without a KV cache."""
    end = tokenizer.token_to_id(END)
    replies: list[str] = []
    for start in range(0, len(questions), CHUNK):
        part = questions[start : start + CHUNK]
        texts, open_rows = [""] * len(part), set(range(len(part)))
        for _ in range(LONGEST):
            batch = collate(tokenizer, part, texts)
            guesses = forward(model, batch).argmax(-1)
            counts = (batch.labels != IGNORE).sum(1)
            last = guesses[counts.cumsum(0) - 1].tolist()
            open_rows = {row for row in open_rows if last[row] != end}
            for row in open_rows:
                texts[row] += tokenizer.decode([last[row]], skip_special_tokens=False)
            if not open_rows:
                break
        replies += texts
    return replies
