"""The canary on healthy and faulty stacks: what each would write into samples.parquet.

A stack's answers and its replay of the reference's answers both come from one forward pass along
the reference's answers (teacher forcing): up to the first token that a fault changes, the generated
answer is the same, and no rule needs the tokens after it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from benchmarks.healthy_stacks import healthy_stacks
from runner.canary.damage import Bench, suffer
from runner.canary.damaged import write_damaged
from runner.canary.fault import Fault
from runner.canary.faults import all_faults
from runner.canary.loaded import Loaded
from runner.canary.score import Forced
from runner.canary.shifts import TOP
from runner.evidence.samples import Sample

METRIC = "exact_match"
CUT = "question cut to its last 100 characters"
# Each changes the prompt's text, which is part of a sample's identity.
PROMPTS = (
    CUT,
    "no generation prompt",
    "extra token at the start",
    "system message dropped",
)
FAULTS = (
    "int8 weights (per row)",
    "int6 weights (per row)",
    "fp8 weights (e4m3, per channel)",
    "int4 weights (per row)",
    "q/k/v bias dropped",
    "M-RoPE rows and columns swapped",
    "rope_theta times 1.1",
    "rope_theta times 2",
    "attention head 0 of layer 1 zeroed",
    "images swapped in two-image questions",
    "text layer 2 skipped",
    "RMSNorm epsilon 1e-5 to 1e-2",
    "BGR instead of RGB",
    "partial sum of rank 1 of 2 missing",
    CUT,
)


@dataclass(frozen=True)
class Stack:
    """The samples of each question: the stack's own answers, and its replay of the reference's."""

    name: str
    answers: list[Sample]
    replayed: list[Sample]


def measured(names: tuple[str, ...] = FAULTS) -> Iterator[Stack]:
    """Measure the reference, the noise runs, the healthy stack and faults."""
    faults = {fault.name: fault for fault in all_faults()}
    yield from map(measuring(), (*healthy_stacks(), *(faults[name] for name in names)))


def measuring() -> Callable[[Fault], Stack]:
    """The function that measures the stack with a fault, on one thread."""
    torch.set_num_threads(1)
    return partial(_measured, Bench())


def _measured(bench: Bench, fault: Fault) -> Stack:
    """Force the reference's answers, and the right ones where they differ."""
    questions = [*bench.questions, *(bench.questions[i] for i in bench.wrong)]
    texts = [*bench.said, *(bench.targets[i] for i in bench.wrong)]
    with tempfile.TemporaryDirectory() as directory:
        stack = bench.healthy
        if fault.edit:
            write_damaged(fault, Path(directory) / "damaged", bench.weights)
            stack = Loaded.open(Path(directory) / "damaged")
        forced = suffer(fault, stack, questions, texts)
    right = forced.scored().right.tolist()
    for place, index in enumerate(bench.wrong):
        right[index] = right[len(bench.questions) + place]
    return stack_of(fault.name, forced, [each.kind for each in bench.questions], right)


def stack_of(name: str, forced: Forced, kinds: Sequence[str], right: Sequence[bool]) -> Stack:
    """The samples of the first questions that a stack was forced to answer, one for each kind."""
    replayed = [
        replace(
            each,
            task=f"canary_{kind}",
            doc_hash=str(each.doc_id),
            prompt_hash=name if name in PROMPTS else "",
            scores={METRIC: float(right[each.doc_id])},
        )
        for kind, each in zip(kinds, replays(forced), strict=False)
    ]
    return Stack(name, [_generated(each) for each in replayed], replayed)


def replays(forced: Forced) -> list[Sample]:
    """A sample for each forced answer: its tokens, their leads and the likeliest tokens."""
    chosen = forced.guesses.gather(1, forced.tokens[:, None])
    others = forced.guesses.scatter(1, forced.tokens[:, None], -torch.inf).amax(1, keepdim=True)
    top = forced.guesses.topk(TOP)
    found = []
    for row in range(len(forced.kinds)):
        own = forced.rows == row
        found.append(
            Sample(
                "",
                row,
                token_ids=forced.tokens[own].tolist(),
                logprobs=chosen[own, 0].tolist(),
                margins=(chosen - others)[own, 0].tolist(),
                top_ids=top.indices[own].flatten().tolist(),
                top_logprobs=top.values[own].flatten().tolist(),
            )
        )
    return found


def _generated(sample: Sample) -> Sample:
    """The answer that greedy decoding gives, up to the first token that isn't the reference's."""
    parted = next((place for place, lead in enumerate(sample.margins) if lead < 0), None)
    bare = replace(sample, top_ids=(), top_logprobs=())
    if parted is None:
        return bare
    best, second = sample.top_logprobs[parted * TOP : parted * TOP + 2]
    return replace(
        bare,
        token_ids=[*sample.token_ids[:parted], sample.top_ids[parted * TOP]],
        logprobs=[*sample.logprobs[:parted], best],
        margins=[*sample.margins[:parted], best - second],
    )
