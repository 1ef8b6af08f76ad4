"""Runs with very many samples, written without an engine in seconds."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from runner.lm.images import SCHEMA as IMAGES
from runner.lm.images import image_hash, thumbnail
from runner.lm.sample_table import SCHEMA
from runner.outcome import Outcome, TaskOutcome
from runner.rundir import RunDirectory, read_json, write_json
from tests.compared import row, write_run

PROJECT = Path(__file__).parents[1]
CHUNK = 1000


def write_many(
    directory: Path,
    n: int,
    tokens: int,
    images: int = 0,
    changed: float = 0.0,
    special: dict[int, str] | None = None,
) -> Path:
    """Write a run of `n` samples whose answers have about `tokens` tokens, half of them right.

    Texts are pieces of this project's documentation. The first `images` samples have an image
    each. A share of `changed` answers differs from those of other runs of this size. `special` has
    answers by place.
    """
    run = RunDirectory(write_run(directory, [row(0), row(1, "B")]))
    words = _words()
    tables = [
        _table(start, min(CHUNK, n - start), tokens, images, changed, words, special or {})
        for start in range(0, n, CHUNK)
    ]
    pq.write_table(pa.concat_tables(tables), run.samples, compression="zstd")
    if images:
        pq.write_table(_album(images), run.images, compression="none")
    outcome: Outcome = read_json(run.outcome, Outcome)
    (task,) = outcome.tasks
    write_json(run.outcome, replace(outcome, tasks=(_counted(task, n),)))
    return directory


def _counted(task: TaskOutcome, n: int) -> TaskOutcome:
    metrics = tuple(
        replace(each, value=0.5, n=n if each.task == task.task else n // 2) for each in task.metrics
    )
    return replace(task, metrics=metrics, expected=n, evaluated=n)


@cache
def _words() -> list[str]:
    files = sorted((PROJECT / "docs").glob("*.md"))
    return " ".join(file.read_text(encoding="utf-8") for file in files).split(" ")


def _text(rng: random.Random, words: list[str], count: int) -> str:
    pieces: list[str] = []
    while len(pieces) < count:
        start, length = rng.randrange(len(words) - 30), rng.randrange(3, 12)
        pieces += words[start : start + length]
    return " ".join(pieces[:count])


def _table(
    start: int,
    n: int,
    tokens: int,
    images: int,
    changed: float,
    words: list[str],
    special: dict[int, str],
) -> pa.Table:
    rows = []
    lengths = []
    other = random.Random(f"changed {start}")
    for place in range(start, start + n):
        rng = random.Random(place)
        wrong = rng.random() < 0.5
        length = max(4, round(tokens * rng.lognormvariate(-0.2, 0.6)))
        question = f"Question {place}: {_text(rng, words, 120)}\nAnswer:"
        said = _text(rng, words, round(0.7 * length))
        differs = other.random() < changed
        if differs:
            wrong = other.random() < 0.5
            said = f"{said[: len(said) // 2]} {_text(other, words, round(0.3 * length))}"
        letter = "B" if wrong else "A"
        made = row(place, letter, prompt=question)
        said = special.get(place, f"{said}\nThe answer is {letter}.")
        rows.append(
            replace(
                made,
                responses=[said],
                image_hashes=[image_hash(_picture(place))] if place < images else [],
                finish_reasons=["length" if rng.random() < 0.02 else "stop"],
                filtered="[invalid]" if rng.random() < 0.01 else letter,
                degenerate=["repeating"] if rng.random() < 0.005 else [],
                seconds=[length / 50],
                answer_tokens=[length],
            )
        )
        lengths.append((place, length, differs))
    light = pa.Table.from_pylist([_plain(each) for each in rows], schema=SCHEMA)
    for name, values in _tokens(lengths).items():
        light = light.set_column(light.schema.get_field_index(name), SCHEMA.field(name), values)
    return light


def _plain(sample: Any) -> dict[str, Any]:
    nothing: dict[str, Any] = {"token_ids": [], "logprobs": [], "margins": []}
    return {**vars(sample), **nothing, "scores": list(sample.scores.items())}


def _tokens(lengths: list[tuple[int, int, bool]]) -> dict[str, pa.Array]:
    """The values of all tokens as Arrow arrays: Python objects would take gigabytes."""
    offsets = pa.array(np.cumsum([0, *(length for _, length, _ in lengths)]), pa.int32())
    ids, logprobs, margins = [], [], []
    for place, length, differs in lengths:
        rng = np.random.default_rng(place)
        own = rng.integers(0, 150_000, length).astype(np.int32)
        if differs:
            own[length // 2 :] += 1
        ids.append(own)
        logprobs.append((-rng.exponential(0.2, length)).astype(np.float32))
        margins.append(rng.exponential(3.0, length).astype(np.float32))
    columns = {"token_ids": ids, "logprobs": logprobs, "margins": margins}
    return {
        name: pa.ListArray.from_arrays(offsets, pa.array(np.concatenate(values)))
        for name, values in columns.items()
    }


def _picture(place: int) -> Image.Image:
    """An image whose pixels no other place has."""
    colours = np.random.default_rng(place).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(colours)


def _album(images: int) -> pa.Table:
    rows = []
    for place in range(images):
        shown = _picture(place).resize((384, 288), Image.Resampling.BICUBIC)
        rows.append(
            {
                "hash": image_hash(_picture(place)),
                "width": 384,
                "height": 288,
                "thumbnail": thumbnail(shown),
            }
        )
    return pa.Table.from_pylist(rows, schema=IMAGES)
