"""Auxiliary training losses that supervise intermediate steps.

Trained on the answer's letter alone, a model this small stays at chance level for a long time,
because vision, lookup and option matching must all work before a letter can be right. Each hint
supervises one of these steps where it should happen:

- *naming*: an image token must name what lies under it, through the word embeddings. The language
  model can then look up words in the image by similarity;
- *thinking*: at the question mark, after half of the layers, the state must name the answer;
- *cueing*: the same at the word that says which shape is meant, one layer earlier;
- *labelling*: after half of the layers, the token of each option must name its letter;
- *matching*: after the second-to-last layer, the options' tokens must show which one is right.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from runner.canary.batch import Batch, token_count
from runner.canary.model import HIDDEN, TEXT_LAYERS
from runner.canary.pixels import MERGE, Grid
from runner.canary.questions import LETTERS
from runner.canary.scenes import Mark, Scene
from runner.canary.vocabulary import GROUPS

CUE_LAYER, THINK_LAYER, MATCH_LAYER = 0, 1, TEXT_LAYERS - 2
# Kinds whose answer is one word of the word group of the same name; a number is several tokens.
WORDED = ("colour", "shape", "place", "count", "compare")


def token_under(mark: Mark, grid: Grid) -> int:
    """Index of the image token that contains the centre of ``mark``."""
    rows, columns = grid[0] // MERGE, grid[1] // MERGE
    return min(rows - 1, int(mark.y * rows)) * columns + min(columns - 1, int(mark.x * columns))


class Scores:
    """Running accuracy by name, for the log."""

    def __init__(self) -> None:
        self.counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])

    def add(self, name: str, right: Tensor) -> None:
        """Count the elements of a boolean vector."""
        self.counts[name][0] += int(right.sum())
        self.counts[name][1] += right.numel()

    def drain(self) -> str:
        """All accuracies as text; resets the counts."""
        text = " ".join(f"{k} {a / b:.2f}" for k, (a, b) in sorted(self.counts.items()))
        self.counts.clear()
        return text


class Hints:
    """The hint losses of one model, and the small head that only *matching* needs."""

    def __init__(self, model: Any, tokenizer: Tokenizer, seed: int) -> None:
        self.embedding: Tensor = model.model.language_model.embed_tokens.weight
        self.head = nn.Linear(HIDDEN, 1, bias=False)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.head.weight.normal_(std=HIDDEN**-0.5, generator=generator)
        self.scores = Scores()
        self.states: dict[int, Tensor] = {}
        self.words = {
            group: torch.tensor(
                [tokenizer.encode(w if w.isdigit() else f" {w}").ids[0] for w in words]
            )
            for group, words in GROUPS.items()
        }
        self.letters = torch.tensor([tokenizer.token_to_id(letter) for letter in LETTERS])
        self.mark_id = int(tokenizer.token_to_id("?"))
        self.tokenizer = tokenizer
        for layer in {CUE_LAYER, THINK_LAYER, MATCH_LAYER}:
            model.model.language_model.layers[layer].register_forward_hook(self._keeper(layer))

    def _keeper(self, layer: int) -> Any:
        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            self.states[layer] = output if torch.is_tensor(output) else output[0]

        return keep

    def _name(self, label: str, group: str, states: Tensor, words: list[str]) -> Tensor:
        """Cross-entropy of predicting ``words`` (n,) of one group from ``states`` (n, hidden)."""
        logits = F.rms_norm(states, states.shape[-1:]) @ self.embedding[self.words[group]].t()
        truth = torch.tensor([GROUPS[group].index(word) for word in words])
        self.scores.add(f"{label}.{group}", logits.argmax(-1) == truth)
        return F.cross_entropy(logits, truth)

    def naming(self, tokens: Tensor, grids: Sequence[Grid], scenes: Sequence[Scene]) -> Tensor:
        """Loss for naming the marks of all images from their tokens (n, hidden).

        A mark is named by the token at its position; a whole image by the mean of its tokens.
        """
        spots: dict[str, tuple[list[int], list[str]]] = defaultdict(lambda: ([], []))
        wholes: dict[str, tuple[list[int], list[str]]] = defaultdict(lambda: ([], []))
        start, means = 0, []
        for index, (scene, grid) in enumerate(zip(scenes, grids, strict=True)):
            for mark in scene.marks if len(scene.marks) <= 4 else ():
                for group, word in mark.names.items():
                    spots[group][0].append(start + token_under(mark, grid))
                    spots[group][1].append(word)
            for group, word in scene.names.items():
                wholes[group][0].append(index)
                wholes[group][1].append(word)
            stop = start + token_count(grid)
            means.append(tokens[start:stop].mean(0))
            start = stop
        loss = tokens.new_zeros(())
        for group, (at, words) in spots.items():
            loss = loss + 0.5 * self._name("spot", group, tokens[at], words)
        pooled = torch.stack(means)
        for group, (at, words) in wholes.items():
            weight = 1.0 if group == "count" else 0.25
            loss = loss + weight * self._name("whole", group, pooled[at], words)
        return loss

    def _think(self, batch: Batch, label: str, layer: int, at: dict[int, int]) -> Tensor:
        """Loss for naming the answer at position ``at[row]`` of each row, by word group."""
        states = self.states[layer]
        loss = states.new_zeros(())
        for kind in WORDED:
            rows = [row for row in at if batch.questions[row].kind == kind]
            if rows:
                words = [batch.questions[row].answer for row in rows]
                chosen = states[rows, [at[row] for row in rows]]
                loss = loss + self._name(label, kind, chosen, words) * len(rows) / len(at)
        return loss

    def thinking(self, batch: Batch) -> Tensor:
        """Loss for naming the answer at the question mark and at the cue word."""
        ids = batch.ids
        marks = {
            row: int((ids[row] == self.mark_id).nonzero()[0])
            for row, question in enumerate(batch.questions)
            if question.kind in WORDED
        }
        loss = self._think(batch, "think", THINK_LAYER, marks)
        cues = {
            row: int((ids[row] == self.tokenizer.encode(f" {question.cue}").ids[0]).nonzero()[0])
            for row, question in enumerate(batch.questions)
            if question.cue
        }
        if cues:
            loss = loss + 0.5 * self._think(batch, "cue", CUE_LAYER, cues)
        return loss

    def labelling(self, batch: Batch) -> Tensor:
        """Loss for naming the letter of each option from the state of the option's token."""
        states = self.states[THINK_LAYER]
        spots = [
            (row, at, letter)
            for row, options in enumerate(batch.options)
            for letter, at in enumerate(options)
        ]
        rows, at, truth = torch.tensor(spots).t()
        chosen = states[rows, at]
        logits = F.rms_norm(chosen, chosen.shape[-1:]) @ self.embedding[self.letters].t()
        self.scores.add("label", logits.argmax(-1) == truth)
        return F.cross_entropy(logits, truth)

    def matching(self, batch: Batch) -> Tensor:
        """Loss for selecting the right option from the states of the options' tokens."""
        states = self.states[MATCH_LAYER]
        rows = [row for row, options in enumerate(batch.options) if options]
        width = max(len(batch.options[row]) for row in rows)
        at = torch.zeros(len(rows), width, dtype=torch.long)
        for index, row in enumerate(rows):
            at[index, : len(batch.options[row])] = torch.tensor(batch.options[row])
        chosen = states[torch.tensor(rows)[:, None], at]
        logits = self.head(F.rms_norm(chosen, chosen.shape[-1:]))[..., 0]
        logits = logits.masked_fill(at == 0, -1e4)
        questions = [batch.questions[row] for row in rows]
        truth = torch.tensor([q.options.index(q.answer) for q in questions])
        self.scores.add("match", logits.argmax(-1) == truth)
        return F.cross_entropy(logits, truth)
