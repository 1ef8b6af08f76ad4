"""Measures what faults do to the canary: ``python -m runner.canary.damage [--weights DIR]``.

For every fault it reports the accuracy by kind, the share of replies that change, and how far the
log-probability of the reference answer moves. The last one reveals faults that accuracy does not
show.
"""

import argparse
import copy
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from runner.canary import DATASET, WEIGHTS
from runner.canary.data import load
from runner.canary.faults import Fault, all_faults
from runner.canary.library import Qwen2_5_VLForConditionalGeneration
from runner.canary.questions import KINDS, Question
from runner.canary.score import Scored, reply, score


def open_weights(directory: Path = WEIGHTS) -> tuple[Any, Tokenizer]:
    """The checkpoint as a float32 model, and its tokenizer."""
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(directory, dtype=torch.bfloat16)
    return model.float().eval(), Tokenizer.from_file(str(directory / "tokenizer.json"))


def suffer(
    fault: Fault, healthy: Any, tokenizer: Tokenizer, questions: list[Question], said: list[str]
) -> tuple[Scored, float]:
    """Scores with ``fault`` applied, and the share of replies that differ from ``said``."""
    model = healthy
    if fault.change:
        model = copy.deepcopy(healthy)
        with torch.no_grad():
            fault.change(model)
    if fault.redraw:
        questions = [fault.redraw(question) for question in questions]
    scored = score(model, tokenizer, questions, rewrite=fault.rewrite)
    same = score(model, tokenizer, questions, said, rewrite=fault.rewrite).right
    return scored, 1 - same.float().mean().item()


def _row(name: str, scored: Scored, flips: float, shift: Tensor) -> str:
    accuracy = scored.accuracy()
    cells = [f"{accuracy['all']:.3f}", *(f"{accuracy[kind]:.2f}" for kind in KINDS)]
    spread = [shift.median().item(), shift.quantile(0.99).item(), shift.max().item()]
    cells += [f"{100 * flips:.1f} %", *(f"{value:.2g}" for value in spread)]
    return " | ".join([f"| {name}", *cells]) + " |"


def table(weights: Path = WEIGHTS, dataset: Path = DATASET) -> str:
    """The table of faults in Markdown."""
    model, tokenizer = open_weights(weights)
    questions = load(dataset)
    said = reply(model, tokenizer, questions)
    heads = ["fault", "all", *KINDS, "changed", "median", "p99", "max"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    baseline: Tensor | None = None
    for fault in all_faults():
        scored, flips = suffer(fault, model, tokenizer, questions, said)
        if baseline is None:
            baseline = scored.logprobs
        lines.append(_row(fault.name, scored, flips, (scored.logprobs - baseline).abs()))
        print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--dataset", type=Path, default=DATASET)
    parser.add_argument("--out", type=Path, help="write the Markdown table here")
    given = parser.parse_args()
    torch.set_num_threads(1)
    text = table(given.weights, given.dataset)
    if given.out:
        given.out.write_text(text)


if __name__ == "__main__":
    main()
