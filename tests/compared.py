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
from runner.outcome import MetricResult, Outcome, State, TaskOutcome
from runner.plan import Evaluation, Plan
from runner.rundir import RunDirectory, write_atomic, write_json

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
    evaluation = Evaluation(TASK, None, True, True, None, "auto", {})
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
    task = TaskOutcome(TASK, metrics, count if expected is None else expected, count)
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
    scores = [each.scores[metric] for each in samples]
    stderr = statistics.stdev(scores) / len(scores) ** 0.5 if len(scores) > 1 else None
    binary = all(score in (0, 1) for score in scores)
    value = statistics.fmean(scores)
    return MetricResult(name, metric, "none", value, stderr, len(scores), higher_is_better, binary)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
