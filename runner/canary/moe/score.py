"""Prompts, replies and scores of the mixture-of-experts canary, computed with transformers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from runner.canary.batch import IGNORE
from runner.canary.library import Qwen3MoeForCausalLM
from runner.canary.moe import WEIGHTS
from runner.canary.moe.questions import Question
from runner.canary.score import CHUNK, Forced
from runner.canary.tokens import END, PAD

LONGEST = 10  # maximum tokens of a reply; every reference answer has fewer


def open_weights(directory: Path = WEIGHTS) -> tuple[Any, Tokenizer]:
    """The checkpoint as a float32 model, and its tokenizer."""
    model = Qwen3MoeForCausalLM.from_pretrained(directory, dtype=torch.float32)
    return model.eval(), Tokenizer.from_file(str(directory / "tokenizer.json"))


def render(question: Question) -> str:
    """The prompt that the chat template makes of a question."""
    return f"<|im_start|>user\n{question.text}<|im_end|>\n<|im_start|>assistant\n"


def collate(
    tokenizer: Tokenizer, questions: Sequence[Question], answers: Sequence[str] | None = None
) -> tuple[Tensor, Tensor]:
    """Tokens and labels of prompts with their answers, both (batch, length).

    Both are as in ``runner.canary.batch.Batch``. ``answers`` replaces the right answers.
    """
    end, pad = tokenizer.token_to_id(END), tokenizer.token_to_id(PAD)
    replies = [question.answer for question in questions] if answers is None else answers
    prompts = [part.ids for part in tokenizer.encode_batch([render(q) for q in questions])]
    tails = [[*part.ids, end] for part in tokenizer.encode_batch(list(replies))]
    length = max(len(a) + len(b) for a, b in zip(prompts, tails, strict=True))
    ids = torch.full((len(questions), length), pad)
    labels = torch.full((len(questions), length), IGNORE)
    for row, (prompt, tail) in enumerate(zip(prompts, tails, strict=True)):
        stop = len(prompt) + len(tail)
        ids[row, :stop] = torch.tensor([*prompt, *tail])
        labels[row, len(prompt) - 1 : stop - 1] = torch.tensor(tail)
    return ids, labels


@torch.no_grad()
def force(
    model: Any, tokenizer: Tokenizer, questions: Sequence[Question], answers: Sequence[str]
) -> Forced:
    """Force a model to give ``answers`` to ``questions``."""
    parts = []
    for start in range(0, len(questions), CHUNK):
        part = slice(start, start + CHUNK)
        ids, labels = collate(tokenizer, questions[part], answers[part])
        kept = labels != IGNORE
        states = model.model(input_ids=ids, use_cache=False).last_hidden_state[kept]
        guesses = model.lm_head(states).float().log_softmax(-1)
        parts.append((guesses, labels[kept], start + kept.nonzero()[:, 0]))
    guesses, tokens, rows = (torch.cat(values) for values in zip(*parts, strict=True))
    return Forced(guesses, tokens, rows, tuple(question.kind for question in questions))


@torch.no_grad()
def reply(model: Any, tokenizer: Tokenizer, questions: Sequence[Question]) -> list[str]:
    """Greedy replies."""
    end = tokenizer.token_to_id(END)
    replies = []
    for question in questions:
        prompt = torch.tensor([tokenizer.encode(render(question)).ids])
        made = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=LONGEST
        )
        tokens = [token for token in made[0, prompt.shape[1] :].tolist() if token != end]
        replies.append(tokenizer.decode(tokens, skip_special_tokens=False))
    return replies
