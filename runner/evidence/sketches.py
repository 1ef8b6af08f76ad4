"""Sketches of the outputs of a model's modules, as a traced run leaves them on disk.

A row is the output of one module for one token, or for one patch of an image. Its sketch is a
random projection to a few numbers (Johnson and Lindenstrauss, 1984), the same in every engine, so
the distance of two sketches estimates the distance of the outputs. With k numbers, the squared
distance has a relative standard error of sqrt(2 / k): 25 % of it with 32, or 12 % of the distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.errors import UserError

# What a row belongs to: an image, a token of the prompt, or a token of the answer.
PHASES = ("vision", "prefill", "decode")
VISION, PREFILL, DECODE = range(len(PHASES))
# In the positions of an image's rows, the number of the image within its question.
IMAGE = 1_000_000
# Ranks whose whole outputs differ by less than this, relative to their size, computed the same.
SAME = 0.01
TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Sketches:
    """The rows of all modules, one array element each.

    `names` are the modules in the order in which they first ended, `dtypes` their outputs' types
    and `widths` their numbers of columns on all ranks. `questions` are labels, and `prompts`
    digests of the tokens of their prompts. A row is that of `names[module]` for
    `questions[question]` at `position`. `sketch` is [rows, k], and `size` [rows, 3]: the squared
    norm, the largest absolute value, and the number of values that are NaN or infinite, which
    count as 0 elsewhere. `sharded` says of each module whether a rank has only some columns.
    """

    names: NDArray[Any]
    dtypes: NDArray[Any]
    widths: NDArray[Any]
    sharded: NDArray[Any]
    questions: NDArray[Any]
    prompts: NDArray[Any]
    module: NDArray[Any]
    question: NDArray[Any]
    phase: NDArray[Any]
    position: NDArray[Any]
    sketch: NDArray[Any]
    size: NDArray[Any]

    def write(self, file: Path) -> None:
        """Write all arrays to one compressed file."""
        np.savez_compressed(file, **{each.name: getattr(self, each.name) for each in fields(self)})

    @property
    def keys(self) -> NDArray[Any]:
        """[rows, 4]: module, question, phase and position."""
        return np.stack([self.module, self.question, self.phase, self.position], axis=1)


def read_sketches(directory: Path) -> Sketches:
    """The sketches of a traced run, those of all ranks merged.

    Raises:
        UserError: if there are none, or they can't be read.
    """
    return merged(_ranks(directory))


def read_outputs(directory: Path) -> Sketches:
    """The outputs of one module with all columns, as `sketch`, those of all ranks merged.

    Other than in a sketch, NaN and infinite values stay.

    Raises:
        UserError: if there are none, or they can't be read.
    """
    ranks = _ranks(directory)
    finite = merged([_chosen(rank, np.isfinite(rank.sketch)) for rank in ranks])
    with np.errstate(invalid="ignore"):  # infinite values of ranks may have no sum
        others = merged([_chosen(rank, ~np.isfinite(rank.sketch)) for rank in ranks])
    width = int(finite.widths[0])  # what each rank computes whole is in the first columns
    return replace(finite, sketch=(finite.sketch + others.sketch)[:, :width].astype(np.float32))


def _chosen(rank: Sketches, chosen: NDArray[Any]) -> Sketches:
    return replace(rank, sketch=np.where(chosen, rank.sketch, 0))


def _ranks(directory: Path) -> list[Sketches]:
    files = sorted(directory.glob("rank*.npz"), key=lambda file: int(file.stem[4:]))
    if not files:
        raise UserError(f"{directory}: has no traces of a run")
    try:
        return [_read(file) for file in files]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{directory}: cannot be read ({error}); remove it") from error


def merged(ranks: Sequence[Sketches]) -> Sketches:
    """One set of sketches for the whole model.

    A rank's part of the columns, or of a sum, is projected by itself: the sum of the sketches is
    the sketch of the whole. An output that all ranks have is that of the first.
    """
    if len(ranks) == 1:
        return ranks[0]
    names = list(dict.fromkeys(str(name) for rank in ranks for name in rank.names))
    questions = list(dict.fromkeys(str(label) for rank in ranks for label in rank.questions))
    parts = [_renumbered(rank, names, questions) for rank in ranks]
    facts = {
        str(name): (rank.dtypes[place], rank.widths[place], rank.sharded[place])
        for rank in reversed(ranks)
        for place, name in enumerate(rank.names)
    }
    digests = {
        str(label): prompt
        for rank in reversed(ranks)
        for label, prompt in zip(rank.questions, rank.prompts, strict=True)
    }
    sharded = np.array([facts[name][2] for name in names])
    keys, first, group = np.unique(
        np.concatenate(parts), axis=0, return_index=True, return_inverse=True
    )
    group = group.reshape(-1)
    sketch = np.concatenate([rank.sketch for rank in ranks]).astype(np.float64)
    size = np.concatenate([rank.size for rank in ranks]).astype(np.float64)
    total = np.zeros((len(keys), sketch.shape[1]))
    np.add.at(total, group, sketch)
    apart = np.zeros(len(keys))
    np.maximum.at(apart, group, np.linalg.norm(sketch - sketch[first][group], axis=1))
    alike = np.zeros(len(keys))
    for column in (0, 1):
        apart_here = np.abs(size[:, column] - size[first][group][:, column])
        np.maximum.at(alike, group, apart_here / np.maximum(size[first][group][:, column], TINY))
    # Each rank computes all columns of such a module, so it has no shards: norms and largest
    # values of shards are never all equal.
    copied = np.ones(len(names), dtype=bool)
    np.logical_and.at(copied, keys[:, 0], alike < SAME)
    same = np.where(sharded, copied & (_holders(ranks, names) > 1), False)
    widths = np.array([facts[name][1] for name in names])
    widths[same] //= _holders(ranks, names)[same]
    whole = ~sharded[keys[:, 0]] & (apart <= SAME * np.linalg.norm(sketch[first], axis=1))
    whole |= same[keys[:, 0]]
    sizes = np.zeros((len(keys), 3))
    np.add.at(sizes, group, size)
    largest = np.zeros(len(keys))
    np.maximum.at(largest, group, size[:, 1])
    sizes[:, 1] = largest
    return Sketches(
        names=np.array(names),
        dtypes=np.array([facts[name][0] for name in names]),
        widths=widths,
        sharded=np.zeros(len(names), dtype=bool),
        questions=np.array(questions),
        prompts=np.array([digests[label] for label in questions]),
        module=keys[:, 0],
        question=keys[:, 1],
        phase=keys[:, 2],
        position=keys[:, 3],
        sketch=np.where(whole[:, None], sketch[first], total),
        size=np.where(whole[:, None], size[first], sizes),
    )


def _read(file: Path) -> Sketches:
    with np.load(file, allow_pickle=False) as stored:
        return Sketches(**{each.name: stored[each.name] for each in fields(Sketches)})


def _holders(ranks: Sequence[Sketches], names: Sequence[str]) -> NDArray[Any]:
    """The number of ranks that have each module."""
    known = [set(rank.names.tolist()) for rank in ranks]
    return np.array([sum(name in each for each in known) for name in names])


def _renumbered(rank: Sketches, names: Sequence[str], questions: Sequence[str]) -> NDArray[Any]:
    """A rank's keys with the numbers of modules and questions that all ranks share."""
    keys = rank.keys
    for column, own, shared in ((0, rank.names, names), (1, rank.questions, questions)):
        places = {name: place for place, name in enumerate(shared)}
        numbers = np.array([places[str(name)] for name in own], dtype=np.int64)
        keys[:, column] = numbers[keys[:, column]]
    return keys
