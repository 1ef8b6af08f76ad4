"""Turns questions into the tensors of a forward pass."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from runner.canary.pixels import MERGE, Grid, patchify
from runner.canary.prompt import render
from runner.canary.questions import Question
from runner.canary.scenes import Scene
from runner.canary.tokens import END, PAD

IGNORE = -100
# The tokens of a prompt and its answer, the length of the prompt, and the M-RoPE positions.
Row = tuple[list[int], int, Tensor]


@dataclass(frozen=True)
class Batch:
    """The tensors of a batch of questions, including prompts and reference answers.

    ids: (batch, length), prompt + answer + end token, padded on the right
    labels: (batch, length), the next token at each position whose next token is part of the answer;
        elsewhere ``IGNORE``
    positions: (3, batch, length), time, row and column for M-RoPE
    patches: (patches, 3 * 14 * 14), all images in order
    grids: one (rows, columns) per image, in patches
    questions: the questions
    options: for each question, the index of the token of each option (empty if open)
    """

    ids: Tensor
    labels: Tensor
    positions: Tensor
    patches: Tensor
    grids: list[Grid]
    questions: list[Question]
    options: list[list[int]] = field(default_factory=list)

    @property
    def scenes(self) -> list[Scene]:
        """The scenes of all images, in the order of ``grids``."""
        return [scene for question in self.questions for scene in question.scenes]


def token_count(grid: Grid) -> int:
    """Number of language-model tokens of an image with ``grid`` patches."""
    return grid[0] * grid[1] // MERGE**2


def rope_positions(ids: Sequence[int], image_token: int, grids: Sequence[Grid]) -> Tensor:
    """M-RoPE positions of one sequence, shape (3, length), as in Qwen2.5-VL.

    For text, all three axes advance together. Within an image the time axis stays constant while
    rows and columns advance; the text after it continues from the largest position.
    """
    positions = torch.empty(3, len(ids), dtype=torch.long)
    at = start = 0
    pending = iter(grids)
    while at < len(ids):
        if ids[at] == image_token:
            grid = next(pending)
            rows, columns = grid[0] // MERGE, grid[1] // MERGE
            stop = at + rows * columns
            positions[0, at:stop] = start
            positions[1, at:stop] = start + torch.arange(rows).repeat_interleave(columns)
            positions[2, at:stop] = start + torch.arange(columns).repeat(rows)
            at, start = stop, start + max(rows, columns)
        else:
            positions[:, at] = start
            at, start = at + 1, start + 1
    return positions


def pad_right(rows: Sequence[Row], pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """``ids``, ``labels`` and ``positions`` of a batch of sequences (see ``Batch``)."""
    length = max(len(ids) for ids, _, _ in rows)
    ids_out = torch.full((len(rows), length), pad)
    labels = torch.full((len(rows), length), IGNORE)
    positions = torch.zeros(3, len(rows), length, dtype=torch.long)
    for row, (ids, start, where) in enumerate(rows):
        sequence = torch.tensor(ids)
        ids_out[row, : len(ids)] = sequence
        labels[row, start - 1 : len(ids) - 1] = sequence[start:]
        positions[:, row, : len(ids)] = where
    return ids_out, labels, positions


def collate(
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    answers: Sequence[str] | None = None,
    system: Sequence[str] | None = None,
) -> Batch:
    """Build a batch. ``answers`` replaces the right replies, ``system`` adds system messages."""
    image_token = tokenizer.token_to_id("<|image_pad|>")
    end, pad = tokenizer.token_to_id(END), tokenizer.token_to_id(PAD)
    bracket = tokenizer.token_to_id(")")
    patches, grids = [], []
    rows: list[Row] = []
    options = []
    for index, question in enumerate(questions):
        cut = [patchify(scene.image) for scene in question.scenes]
        patches += [part for part, _ in cut]
        own = [grid for _, grid in cut]
        grids += own
        counts = [token_count(grid) for grid in own]
        prompt = render(question.text, question.options, counts, system[index] if system else "")
        prompt_ids = tokenizer.encode(prompt).ids
        answer = question.target if answers is None else answers[index]
        ids = [*prompt_ids, *tokenizer.encode(answer).ids, end]
        rows.append((ids, len(prompt_ids), rope_positions(ids, image_token, own)))
        marked = [at + 1 for at, token in enumerate(prompt_ids) if token == bracket]
        options.append(marked if question.options else [])
    ids_out, labels, positions = pad_right(rows, pad)
    stacked = torch.from_numpy(np.concatenate(patches))
    return Batch(ids_out, labels, positions, stacked, grids, list(questions), options)
