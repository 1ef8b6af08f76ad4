"""Scores the model's answers with the fast forward pass: correctness and log-probability."""

from collections.abc import Callable, Sequence
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


@torch.no_grad()
def score(
    model: Any,
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    answers: Sequence[str] | None = None,
    rewrite: Callable[[Batch], Batch] | None = None,
) -> Scored:
    """Score the reference answers, or ``answers`` instead; ``rewrite`` may corrupt the inputs.

    One forward pass is enough even for answers of several tokens: greedy decoding gives exactly the
    reference if each of its tokens is the likeliest after the ones before it.
    """
    right, logprobs = [], []
    for start in range(0, len(questions), CHUNK):
        part = questions[start : start + CHUNK]
        wanted = None if answers is None else answers[start : start + CHUNK]
        batch = collate(tokenizer, part, wanted)
        guesses = forward(model, rewrite(batch) if rewrite else batch)
        kept = batch.labels != IGNORE
        truth = batch.labels[kept]
        rows = kept.nonzero()[:, 0]
        missed = torch.zeros(len(part)).index_add(0, rows, (guesses.argmax(-1) != truth).float())
        right.append(missed == 0)
        chosen = guesses.gather(1, truth[:, None])[:, 0]
        logprobs.append(torch.zeros(len(part)).index_add(0, rows, chosen))
    return Scored(tuple(q.kind for q in questions), torch.cat(right), torch.cat(logprobs))


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
