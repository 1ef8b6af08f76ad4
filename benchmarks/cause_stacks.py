"""Measures the canary with each known fault, along the healthy canary's answers.

Questions of text only are added, a third as many: the canary's own questions without their images.
Each fault of the language model is measured a second time as a fault of the decode step: the first
token of an answer comes from a healthy stack, the others from the faulty one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.cause_faults import DECODE, MODEL, known_faults
from benchmarks.detection_stacks import replays
from benchmarks.healthy_stacks import HEALTHY
from runner.canary import DATASET, WEIGHTS
from runner.canary.batch import Batch
from runner.canary.damage import open_weights
from runner.canary.damaged import write_damaged
from runner.canary.data import load
from runner.canary.fault import Change, Fault
from runner.canary.loaded import Loaded
from runner.canary.questions import Question
from runner.canary.score import CHUNK, Forced, force, reply
from runner.evidence.samples import Sample
from runner.evidence.signature import Trace, traces

NOISE = "bf16 arithmetic"


@dataclass(frozen=True)
class Stack:
    """The traces of all questions, in order; its class and family (benchmarks/cause_faults.py)."""

    name: str
    label: str
    family: str
    traces: Sequence[Trace]


def measured() -> Iterator[Stack]:
    """The noise, a healthy stack and all faults, with about 15 s of processor time each."""
    bench = Bench()
    reference = bench.samples(bench.forced(Fault("", "")))

    def stack(name: str, label: str, family: str, forced: Forced) -> Stack:
        found = traces(reference, bench.samples(forced))
        return Stack(name, label, family, [found["", i] for i in range(len(bench.questions))])

    yield stack(NOISE, "", NOISE, bench.forced(Fault("", "", change=_bfloat16(None))))
    healthy = bench.forced(_candidate(Fault("", "")))
    yield stack(HEALTHY, "", HEALTHY, healthy)
    for known in known_faults():
        forced = bench.forced(_candidate(known.fault))
        yield stack(known.fault.name, known.label, known.family, forced)
        if known.label == MODEL:
            late = _late(healthy, forced)
            yield stack(f"decode: {known.fault.name}", DECODE, known.family, late)


def _late(healthy: Forced, faulty: Forced) -> Forced:
    rows = healthy.rows
    first = torch.cat((torch.tensor([True]), rows[1:] != rows[:-1]))
    return replace(faulty, guesses=torch.where(first[:, None], healthy.guesses, faulty.guesses))


def questions() -> list[Question]:
    """The canary's questions; every third is followed by itself without its images."""
    found = []
    for place, question in enumerate(load(DATASET)):
        found.append(question)
        if place % 3 == 0:
            found.append(replace(question, scenes=()))
    return found


def _bfloat16(kernel: str | None) -> Change:
    def change(model: Any) -> None:
        for parameter in model.parameters():
            parameter.data = parameter.data.bfloat16()
        if kernel:
            model.set_attn_implementation(kernel)

    return change


def _candidate(fault: Fault) -> Fault:
    """The fault on a stack that also rounds otherwise than the reference and the noise run."""
    rounding = _bfloat16("eager")

    def change(model: Any) -> None:
        if fault.change:
            fault.change(model)
        rounding(model)

    return replace(fault, change=change)


class Bench:
    """Forces every stack to give the healthy canary's answers."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.healthy = Loaded.open(WEIGHTS)
        self.questions = questions()
        self.said = reply(*open_weights(), self.questions)
        self._batches = self._made(self.healthy, self.questions, "")

    def forced(self, fault: Fault) -> Forced:
        with tempfile.TemporaryDirectory() as directory:
            path = WEIGHTS
            if fault.edit:
                path = Path(directory) / "damaged"
                write_damaged(fault, path)
            stack = Loaded.open(path)
            asked = [fault.redraw(each) for each in self.questions] if fault.redraw else None
            batches = self._batches
            if asked or fault.system or _inputs(path) != _inputs(WEIGHTS):
                batches = self._made(stack, asked or self.questions, fault.system)
        if fault.change:
            fault.change(stack.model)
        return force(stack.model, map(fault.rewrite, batches) if fault.rewrite else batches)

    def samples(self, forced: Forced) -> list[Sample]:
        """The replay of each question. Its images count, their content doesn't."""
        return [
            replace(each, doc_hash=str(each.doc_id), image_hashes=("",) * len(question.scenes))
            for each, question in zip(replays(forced), self.questions, strict=True)
        ]

    def _made(self, stack: Loaded, questions: Sequence[Question], system: str) -> list[Batch]:
        parts = [slice(start, start + CHUNK) for start in range(0, len(questions), CHUNK)]
        return [stack.batch(questions[part], self.said[part], system) for part in parts]


def _inputs(directory: Path) -> list[str]:
    """What decides what a processor makes of a question."""
    names = ("chat_template.jinja", "preprocessor_config.json")
    return [(directory / name).read_text() for name in names]
