"""Trains the canary from scratch on one CPU thread: ``python -m runner.canary.train --out DIR``.

There are three stages. *Glimpse*: the vision encoder learns shapes and digits from tiny squares,
which cost a quarter of a real image. *See*: it learns to name the content of whole scenes. Both use
the word embeddings as targets. *Read*: the whole model learns to answer, with the hints of
``hints.py``.
"""

import argparse
import dataclasses
import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from runner.canary.batch import Batch, collate
from runner.canary.fast import read, see
from runner.canary.hints import Hints
from runner.canary.model import build_model, save_checkpoint
from runner.canary.optimise import Optimiser
from runner.canary.pixels import patchify
from runner.canary.prompt import SYSTEM
from runner.canary.questions import KINDS, Question, ask
from runner.canary.scenes import glimpse
from runner.canary.score import score
from runner.canary.tokens import build_tokenizer

REPORT_EVERY = 50
CHECK_EVERY = 200


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Hyperparameters of a training run; the shipped checkpoint uses these defaults."""

    seed: int = 0
    glimpse_steps: int = 700
    glimpse_batch: int = 128
    see_steps: int = 500
    read_steps: int = 1000
    batch: int = 64
    sight_share: float = 0.25  # the vision encoder's share of the learning rate in the read stage
    open_share: float = 0.1  # share of questions asked without options
    system_share: float = 0.05  # share of questions with a system message
    # Weight of each kind (in the order of KINDS) in the see and read stages. Reading starts
    # with the kinds that are easy to see: on them the matching of options is learned quickly.
    see_mix: tuple[float, ...] = (0.4, 0.8, 1.3, 1.4, 1.0, 1.4)
    first_mix: tuple[float, ...] = (3.0, 2.0, 1.2, 0.8, 0.8, 1.2)
    first_share: float = 0.25
    read_mix: tuple[float, ...] = (0.6, 1.0, 1.4, 1.5, 1.8, 1.5)


class Trainer:
    """A model in training, with its random stream, its hints and its log."""

    def __init__(self, recipe: Recipe, out: Path) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.out = recipe, out
        self.rng = random.Random(f"train {recipe.seed}")
        self.tokenizer = build_tokenizer()
        self.model: Any = build_model(self.tokenizer, recipe.seed)
        self.model.train()
        self.hints = Hints(self.model, self.tokenizer, recipe.seed)
        self.began = time.process_time()

    def run(self) -> None:
        """Run all stages and write the checkpoint."""
        recipe, visual = self.recipe, self.model.model.visual
        optimiser = Optimiser(seeing=visual, others=[self.hints.embedding])
        self._stage("glimpse", recipe.glimpse_steps, optimiser, self._glimpse)
        optimiser = Optimiser(seeing=visual, others=[self.hints.embedding])
        self._stage("see", recipe.see_steps, optimiser, self._see)
        language = [*self.model.model.language_model.parameters(), *self.hints.head.parameters()]
        optimiser = Optimiser(seeing=visual, others=language, share=recipe.sight_share)
        self._stage("read", recipe.read_steps, optimiser, self._read)

    def _stage(
        self, name: str, steps: int, optimiser: Optimiser, loss_at: Callable[[float], Tensor]
    ) -> None:
        """Warm up over 50 steps, then decay along a cosine; print progress and check the accuracy.

        The rate decays to 2 % in the read stage and to 30 % in the others.
        """
        for step in range(1, steps + 1):
            done = step / steps
            loss = loss_at(done)
            floor = 0.02 if name == "read" else 0.3
            cosine = floor + (1 - floor) * (0.5 + 0.5 * math.cos(math.pi * done))
            optimiser.step(loss, min(1.0, step / 50) * cosine)
            if step % REPORT_EVERY == 0:
                spent = time.process_time() - self.began
                scores = self.hints.scores.drain()
                print(f"{name} {step} cpu {spent:.0f} s loss {loss.item():.3f} {scores}")
            if name == "read" and (step % CHECK_EVERY == 0 or step == steps):
                self._check(step)

    def _check(self, step: int) -> None:
        """Save the model, and print its accuracy on questions from a separate random stream."""
        save_checkpoint(self.model, self.tokenizer, self.out)
        rng = random.Random("check")
        questions = [ask(rng, kind) for kind in KINDS for _ in range(100)]
        self.model.eval()
        accuracy = score(self.model, self.tokenizer, questions).accuracy()
        self.model.train()
        print("check", step, {kind: round(value, 3) for kind, value in accuracy.items()})

    def _questions(self, mix: tuple[float, ...]) -> list[Question]:
        kinds = self.rng.choices(list(KINDS), weights=mix, k=self.recipe.batch)
        return [ask(self.rng, kind) for kind in kinds]

    def _glimpse(self, _done: float) -> Tensor:
        scenes = tuple(glimpse(self.rng) for _ in range(self.recipe.glimpse_batch))
        cut = [patchify(scene.image, resize=False) for scene in scenes]
        patches = torch.from_numpy(np.concatenate([part for part, _ in cut]))
        grids = [grid for _, grid in cut]
        return self.hints.naming(see(self.model, patches, grids), grids, scenes)

    def _see(self, _done: float) -> Tensor:
        batch = collate(self.tokenizer, self._questions(self.recipe.see_mix))
        tokens = see(self.model, batch.patches, batch.grids)
        return self.hints.naming(tokens, batch.grids, batch.scenes)

    def _read(self, done: float) -> Tensor:
        recipe, rng, hints = self.recipe, self.rng, self.hints
        mix = recipe.first_mix if done < recipe.first_share else recipe.read_mix
        questions = [
            dataclasses.replace(question, options=())
            if rng.random() < recipe.open_share
            else question
            for question in self._questions(mix)
        ]
        system = [SYSTEM if rng.random() < recipe.system_share else "" for _ in questions]
        batch = collate(self.tokenizer, questions, system=system)
        tokens = see(self.model, batch.patches, batch.grids)
        states = read(self.model, batch.ids, tokens, batch.positions)
        late = 0.5 if done > 0.6 else 1.0
        loss = self._answers(batch, states)
        loss = loss + 0.5 * hints.naming(tokens, batch.grids, batch.scenes)
        loss = loss + late * (hints.thinking(batch) + hints.matching(batch))
        return loss + 0.3 * late * hints.labelling(batch)

    def _answers(self, batch: Batch, states: Tensor) -> Tensor:
        """Cross-entropy over the answer tokens; the end token has a small weight."""
        kept = batch.labels >= 0
        logits = self.model.lm_head(states[kept])
        truth = batch.labels[kept]
        ends = truth == self.model.config.text_config.eos_token_id
        right = logits.argmax(-1) == truth
        kinds = [batch.questions[row].kind for row in kept.nonzero()[:, 0].tolist()]
        for kind in KINDS:
            mine = torch.tensor([k == kind for k in kinds]) & ~ends
            if mine.any():
                self.hints.scores.add(f"answer.{kind}", right[mine])
        weights = torch.where(ends, 0.1, 1.0)
        losses = F.cross_entropy(logits, truth, reduction="none")
        return (losses * weights).sum() / weights.sum()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    for name in ("seed", "glimpse_steps", "see_steps", "read_steps"):
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=int, default=getattr(Recipe, name))
    given = vars(parser.parse_args())
    out = given.pop("out")
    torch.set_num_threads(1)
    Trainer(Recipe(**given), out).run()


if __name__ == "__main__":
    main()
