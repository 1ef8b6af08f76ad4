"""Trains the mixture-of-experts canary on one CPU thread.

``python -m runner.canary.moe.train --out DIR``. The only stage is answering questions of all kinds.
The load-balancing loss of each layer keeps its experts in use.
"""

import argparse
import dataclasses
import math
import random
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runner.canary.batch import IGNORE
from runner.canary.library import load_balancing_loss_func
from runner.canary.moe.model import EXPERTS, build_model, save_checkpoint
from runner.canary.moe.questions import KINDS, ask
from runner.canary.moe.score import collate, force
from runner.canary.tokens import PAD, build_tokenizer

REPORT_EVERY = 100
CHECK_EVERY = 400
RATE = 3e-3
DECAY = 0.05


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Hyperparameters of a training run; the shipped checkpoint uses these defaults."""

    seed: int = 0
    steps: int = 2000
    batch: int = 64
    balance: float = 0.01  # weight of each layer's load-balancing loss
    # Weight of each kind, in the order of KINDS.
    mix: tuple[float, ...] = (0.7, 1.0, 1.0, 1.5, 0.8, 1.0)


class Trainer:
    """A model in training, with its random stream."""

    def __init__(self, recipe: Recipe, out: Path) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.out = recipe, out
        self.rng = random.Random(f"train {recipe.seed}")
        self.tokenizer = build_tokenizer()
        self.model: Any = build_model(self.tokenizer, recipe.seed).train()
        self.pad = self.tokenizer.token_to_id(PAD)

    def run(self) -> None:
        """Train, print progress, and write the checkpoint."""
        steps = self.recipe.steps
        parameters = list(self.model.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": DECAY},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98))
        began = time.process_time()
        for step in range(1, steps + 1):
            rate = RATE * min(1.0, step / 100) * (0.51 + 0.49 * math.cos(math.pi * step / steps))
            for group in optimiser.param_groups:
                group["lr"] = rate
            loss = self._loss()
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            if step % REPORT_EVERY == 0:
                print(
                    f"{step} cpu {time.process_time() - began:.0f} s loss {loss.item():.3f}",
                    flush=True,
                )
            if step % CHECK_EVERY == 0 or step == steps:
                self._check(step)

    def _loss(self) -> Tensor:
        """Cross-entropy of the answer tokens, and the balance of the experts."""
        kinds = self.rng.choices(list(KINDS), weights=self.recipe.mix, k=self.recipe.batch)
        ids, labels = collate(self.tokenizer, [ask(self.rng, kind) for kind in kinds])
        output = self.model.model(input_ids=ids, use_cache=False, output_router_logits=True)
        kept = labels != IGNORE
        loss = F.cross_entropy(self.model.lm_head(output.last_hidden_state[kept]), labels[kept])
        for layer in output.router_logits:
            uneven = load_balancing_loss_func((layer,), EXPERTS, 2, ids != self.pad)
            loss = loss + self.recipe.balance * uneven
        return loss

    def _check(self, step: int) -> None:
        """Save the model, and print its accuracy on questions from a separate random stream."""
        save_checkpoint(self.model, self.tokenizer, self.out)
        rng = random.Random("check")
        questions = [ask(rng, kind) for kind in KINDS for _ in range(100)]
        targets = [question.answer for question in questions]
        accuracy = force(self.model, self.tokenizer, questions, targets).scored().accuracy()
        print(
            "check", step, {kind: round(value, 3) for kind, value in accuracy.items()}, flush=True
        )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    for name in ("seed", "steps"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Recipe, name))
    given = vars(parser.parse_args())
    out = given.pop("out")
    torch.set_num_threads(1)
    Trainer(Recipe(**given), out).run()


if __name__ == "__main__":
    main()
