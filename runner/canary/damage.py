"""Measures what faults do to the canary: ``python -m runner.canary.damage``.

For every fault it reports the accuracy by kind, the share of replies that change, and how far the
log-probabilities move. The last one reveals faults that accuracy does not show.
"""

import argparse
import copy
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from runner.canary import DATASET, WEIGHTS
from runner.canary.damaged import write_damaged
from runner.canary.data import load
from runner.canary.fault import Fault
from runner.canary.faults import all_faults
from runner.canary.library import Qwen2_5_VLForConditionalGeneration
from runner.canary.loaded import Loaded
from runner.canary.questions import Question
from runner.canary.score import CHUNK, Forced, Scored, force, reply
from runner.canary.shifts import Shift, shift


def open_weights(directory: Path = WEIGHTS) -> tuple[Any, Tokenizer]:
    """The checkpoint as a float32 model, and its tokenizer."""
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(directory, dtype=torch.bfloat16)
    return model.float().eval(), Tokenizer.from_file(str(directory / "tokenizer.json"))


@dataclass(frozen=True)
class Damage:
    """What a fault does: scores of the right answers, share of changed replies, shift of tokens."""

    fault: Fault
    scored: Scored
    flips: float
    answers: Tensor
    shift: Shift


def compared(fault: Fault, found: tuple[Forced, Scored], healthy: tuple[Forced, Scored]) -> Damage:
    """Compare a stack with the healthy one: the forced replies, and the right answers scored."""
    (forced, scored), (reference, right) = found, healthy
    return Damage(
        fault,
        scored,
        1 - forced.scored().right.float().mean().item(),
        (scored.logprobs - right.logprobs).abs(),
        shift(reference.guesses, forced.guesses, reference.tokens),
    )


def suffer(
    fault: Fault, stack: Loaded, questions: Sequence[Question], answers: Sequence[str]
) -> Forced:
    """Force a stack, in which the fault's files are already damaged, to give these answers."""
    model = stack.model
    if fault.change:
        model = copy.deepcopy(model)
        fault.change(model)
    if fault.redraw:
        questions = [fault.redraw(question) for question in questions]
    batches = []
    for start in range(0, len(questions), CHUNK):
        part = slice(start, start + CHUNK)
        batch = stack.batch(questions[part], answers[part], fault.system)
        batches.append(fault.rewrite(batch) if fault.rewrite else batch)
    return force(model, batches)


class Bench:
    """A healthy canary, its questions and its replies, with which faults are compared."""

    def __init__(self, weights: Path = WEIGHTS, dataset: Path = DATASET) -> None:
        self.weights = weights
        self.healthy = Loaded.open(weights)
        self.questions = load(dataset)
        self.said = reply(*open_weights(weights), self.questions)
        self.targets = [question.target for question in self.questions]
        # Both answers are the same for most questions, which then need one forward pass.
        self.wrong = [i for i, text in enumerate(self.said) if text != self.targets[i]]
        self._references: dict[str, tuple[Forced, Scored]] = {}

    def measure(self, fault: Fault) -> Damage:
        """Inject a fault and compare with the healthy canary with the same system message."""
        if fault.edit:
            with tempfile.TemporaryDirectory() as directory:
                write_damaged(fault, Path(directory) / "damaged", self.weights)
                stack = Loaded.open(Path(directory) / "damaged")
        else:
            stack = self.healthy
        return compared(fault, self._forced(fault, stack), self._reference(fault.system))

    def _reference(self, system: str) -> tuple[Forced, Scored]:
        if system not in self._references:
            healthy = Fault("healthy", "", system=system)
            self._references[system] = self._forced(healthy, self.healthy)
        return self._references[system]

    def _forced(self, fault: Fault, stack: Loaded) -> tuple[Forced, Scored]:
        """The canary's own replies forced, and the scores of the right answers."""
        forced = suffer(fault, stack, self.questions, self.said)
        scored = forced.scored()
        others = [self.questions[i] for i in self.wrong]
        rest = suffer(fault, stack, others, [self.targets[i] for i in self.wrong]).scored()
        scored.right[self.wrong], scored.logprobs[self.wrong] = rest.right, rest.logprobs
        return forced, scored


def accuracies(damages: Sequence[Damage]) -> str:
    """The table of accuracies and answers in Markdown."""
    kinds = dict.fromkeys(damages[0].scored.kinds)
    rows = []
    for damage in damages:
        accuracy, answers = damage.scored.accuracy(), damage.answers
        cells = [f"{accuracy['all']:.3f}", *(f"{accuracy[kind]:.2f}" for kind in kinds)]
        spread = [answers.median(), answers.quantile(0.99), answers.max()]
        cells += [f"{100 * damage.flips:.1f} %", *(f"{value.item():.2g}" for value in spread)]
        rows.append([damage.fault.name, *cells])
    return _table(["fault", "all", *kinds, "changed", "median", "p99", "max"], rows)


def statistics(damages: Sequence[Damage], noise: Shift) -> str:
    """The table of the shifts of tokens in Markdown; ``noise`` divides the ratios."""
    rows = []
    for damage in damages:
        found, cells = damage.shift, [damage.fault.name]
        for name in ("mean", "rms", "p99", "kl"):
            value, healthy = getattr(found, name), getattr(noise, name)
            cells += [_short(value), _short(value / healthy)]
        rows.append([*cells, f"{found.signed:+.2g}"])
    heads = ["fault", "mean abs", "ratio", "RMS", "ratio", "p99", "ratio", "KL", "ratio", "signed"]
    return _table(heads, rows)


def realities(damages: Sequence[Damage]) -> str:
    """The table of what each fault is in Markdown."""
    rows = []
    for damage in damages:
        fault = damage.fault
        rows.append([fault.name, fault.reality, f"`{fault.key}`" if fault.edit else ""])
    return _table(["fault", "what goes wrong", "name for a damaged copy"], rows)


def _short(value: float) -> str:
    """Two significant digits, without an exponent unless it is below 0.0001."""
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def measured(weights: Path = WEIGHTS, dataset: Path = DATASET) -> Iterator[Damage]:
    """Measure every fault, on one thread. It takes about 4 seconds per fault."""
    torch.set_num_threads(1)
    bench = Bench(weights, dataset)
    yield from map(bench.measure, all_faults())


def tables(damages: Sequence[Damage]) -> str:
    """All three tables in Markdown, with headings. The second damage is bfloat16, the noise."""
    noise = damages[1].shift
    sections = {
        "Faults": realities(damages),
        "Accuracy and answers": accuracies(damages),
        "Token log-probabilities": statistics(damages, noise),
    }
    return "\n".join(f"### {title}\n\n{table}" for title, table in sections.items())


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--dataset", type=Path, default=DATASET)
    parser.add_argument("--out", type=Path, help="write the Markdown tables here")
    given = parser.parse_args()
    damages = []
    for damage in measured(given.weights, given.dataset):
        print(damage.fault.name, _short(damage.shift.mean), flush=True)
        damages.append(damage)
    text = tables(damages)
    print(text)
    if given.out:
        given.out.write_text(text)


if __name__ == "__main__":
    main()
