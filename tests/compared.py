"""Runs to be compared, without an engine: written with the project's own writers."""

from __future__ import annotations

import dataclasses
import hashlib
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from runner.environment import Environment
from runner.lm.images import Album
from runner.lm.sample_table import SampleRow, sample_table, write_samples
from runner.outcome import MetricResult, Outcome, Repeated, State, TaskOutcome
from runner.plan import Evaluation, Plan
from runner.rundir import RunDirectory, write_atomic, write_json
from runner.stats.repeated import components

TASK, LEAVES = "mini", ("mini_colour", "mini_shape")
# Token numbers of one-letter answers, and the end.
TOKENS = {"A": 11, "B": 12, "C": 13}
END = 2


def row(place: int, response: str = "A", **other: Any) -> SampleRow:
    """Question `place` (its right answer is A, dealt to the two leaves in turn), answered."""
    prompt = str(other.pop("prompt", f"Question {place}?\nAnswer:"))
    tokens = [TOKENS.get(response, 99), END]
    plain = SampleRow(
        task=LEAVES[place % 2],
        doc_id=place // 2,
        filter="none",
        doc_hash=_digest(f"document {place}"),
        prompt_hash=_digest(prompt),
        image_hashes=[],
        image_sizes=[],
        prompt=prompt,
        target="A",
        responses=[response],
        filtered=response,
        scores={"acc": float(response == "A")},
        truncated=False,
        prompt_tokens=[20],
        token_ids=tokens,
        logprobs=[-0.125] * len(tokens),
        margins=[4.0] * len(tokens),
        finish_reasons=["stop"],
    )
    return dataclasses.replace(plain, **other)


def rows(wrong: int, n: int = 100, start: int = 0) -> list[SampleRow]:
    """`n` questions, of which the first `wrong` are answered B."""
    return [row(start + place, "B" if place < wrong else "A") for place in range(n)]


def drawn(
    right: Sequence[int], samples: int, seed: int = 1234, tokens: int = 40, **other: Any
) -> list[SampleRow]:
    """Questions with `samples` sampled answers each, of which the first `right[n]` are right.

    Equal seeds give equal texts. Answers have `tokens` tokens, and one more for each repeat.
    """
    return [
        row(
            place,
            "A" if number < count else "B",
            **{
                "responses": [f"{'A' if number < count else 'B'}, says {seed + number}"],
                "repeat": number,
                "seeds": [1000 * place + seed + number],
                "answer_tokens": [tokens + number],
                "token_ids": [seed + number, *TOKENS.values()],
                "logprobs": [-1.0] * 4,
                "margins": [0.0] * 4,
                **other,
            },
        )
        for place, count in enumerate(right)
        for number in range(samples)
    ]


def write_run(
    directory: Path,
    samples: Sequence[SampleRow],
    images: Sequence[Image.Image] = (),
    state: State = State.COMPLETED,
    expected: int | None = None,
    config: str = "parallelism:\n  tp: 1\n",
    environment: Environment | None = None,
    higher_is_better: bool = True,
    **plan: Any,
) -> Path:
    """All of a run's files that a comparison reads."""
    files = RunDirectory(directory)
    files.claim()
    write_atomic(files.config, config)
    repeats = 1 + max((each.repeat for each in samples), default=0)
    evaluation = Evaluation(TASK, None, True, True, None, "auto", {}, samples=repeats)
    plain = Plan(
        model="tiny",
        backend="vllm",
        platform="cpu",
        hardware=None,
        baseline_source=None,
        engine_args={"pretrained": "/weights/tiny", "tensor_parallel_size": 1, "dtype": "float32"},
        environment={},
        evaluations=(evaluation,),
        system_instruction=None,
        seed=1234,
        data_source="hf",
        data_dir=None,
        include_path=None,
        engine_fingerprint="0123456789abcdef",
        evaluation_fingerprint="fedcba9876543210",
    )
    write_json(files.plan, dataclasses.replace(plain, **plan))
    metrics = tuple(
        _metric(name, metric, own, higher_is_better)
        for name in (TASK, *LEAVES)
        if (own := [each for each in samples if name in (TASK, each.task)])
        for metric in own[0].scores
    )
    count = len({each.sample for each in samples})
    task = TaskOutcome(
        TASK,
        metrics,
        count if expected is None else expected,
        count,
        drawn=len({each.sample for each in samples if each.seeds}),
        samples=repeats,
    )
    reason = "" if state is State.COMPLETED else "it broke"
    outcome = Outcome(state, reason, (task,) if samples else ())
    write_json(files.outcome, outcome)
    write_samples(files.samples, [sample_table(list(samples))])
    if environment is not None:
        write_json(files.environment, environment)
    album = Album()
    for image in images:
        album.add(image)
    album.write(files.images)
    return directory


def _metric(
    name: str, metric: str, samples: Sequence[SampleRow], higher_is_better: bool
) -> MetricResult:
    asked: dict[tuple[str, int], list[float]] = {}
    for each in samples:
        asked.setdefault(each.sample, []).append(each.scores[metric])
    repeats = max(map(len, asked.values()))
    scores = [statistics.fmean(own) for own in asked.values()]
    stderr = statistics.stdev(scores) / len(scores) ** 0.5 if len(scores) > 1 else None
    return MetricResult(
        task=name,
        metric=metric,
        filter="none",
        value=statistics.fmean(scores),
        stderr=stderr,
        n=len(scores),
        higher_is_better=higher_is_better,
        binary=repeats == 1 and all(score in (0, 1) for score in scores),
        repeated=Repeated(repeats, *components(list(asked.values()))) if repeats > 1 else None,
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
