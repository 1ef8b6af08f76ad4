"""Writes whole outputs of some modules in both configurations, as arrays with an index."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from runner.errors import UserError, cause
from runner.evidence.sketches import PHASES, Sketches, read_outputs, read_sketches
from runner.rundir import RunDirectory, write_json
from runner.trace.departures import Found, Module
from runner.trace.differences import common
from runner.trace.result import TraceResult
from runner.trace.runs import TRACED, Runs, Side, replayed, settled
from runner.trace.tracing import FIRST, SECOND

# Bytes of all arrays.
LIMIT = 256_000_000
INDEX = "index.json"
# Type of the arrays: it holds every float16 and bfloat16.
DTYPE = np.dtype(np.float32)
# Directories of the runs, which are removed afterwards.
RUNS = (f"{FIRST}-dump", f"{SECOND}-dump")


@dataclass(frozen=True)
class Array:
    """One file: the output of a module for the tokens of a question in one phase, on one side.

    `positions` are the rows' positions in the question's tokens; in the vision tower, 1,000,000
    times the image's number plus the covered patch's number. `dtype` is the array's data type, and
    `computed` that of the module's output in the engine.
    """

    file: str
    side: str
    module: str
    question: str
    phase: str
    positions: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: str
    computed: str


@dataclass(frozen=True)
class Index:
    """Everything in a dump, and the questions that are left out because of the limit, in bytes."""

    first: str
    second: str
    limit: int
    size: int
    left_out: tuple[str, ...]
    arrays: tuple[Array, ...]


@dataclass(frozen=True)
class Chosen:
    """What to dump: the modules, and those of the questions that fit."""

    modules: tuple[str, ...]
    questions: tuple[str, ...]
    left_out: tuple[str, ...]
    size: int


def claim(directory: Path) -> None:
    """Create the directory of a dump.

    Raises:
        UserError: if it can't be written, or is not empty.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise UserError(f"--dump: {directory} is not empty; choose another directory")
    except OSError as error:
        raise UserError(f"--dump: {directory} can't be written ({error.strerror})") from error
    if not os.access(directory, os.W_OK):
        raise UserError(f"--dump: {directory} can't be written (Permission denied)")


def dump(
    directory: Path,
    reference: Path,
    sides: tuple[Side, Side],
    output: Path,
    number: int,
    result: TraceResult,
    patterns: Sequence[str],
    out: Console,
) -> Index:
    """Replay once more with each side, in eager mode, and write outputs of some modules.

    `reference`, `sides`, `output` and `number` are those of the trace that had the `result`.

    Raises:
        UserError: if there is nothing to dump, or it can't be recorded or written.
    """
    first, second = (
        read_sketches(RunDirectory(output / name).sketches) for name in (FIRST, SECOND)
    )
    chosen = choice(result, patterns, first, second)
    what = replace(TRACED, whole=chosen.modules, questions=chosen.questions)
    asked = replayed(reference, number)
    places = [output / name for name in RUNS]
    try:
        with Runs(out) as runs:
            for letter, side, place in zip("AB", sides, places, strict=True):
                title = f"{letter} once more: whole outputs of {len(chosen.modules)} modules"
                runs.trace(side, settled(side, asked, place).changes, title, what)
    except OSError as error:
        raise UserError(f"--dump: {output} can't be written ({cause(error)})") from error
    try:
        return write(directory, places, chosen, result)
    except OSError as error:
        raise UserError(f"--dump: {directory} can't be written ({cause(error)})") from error
    finally:
        for place in places:
            shutil.rmtree(place, ignore_errors=True)


def choice(
    result: TraceResult,
    patterns: Sequence[str],
    first: Sketches,
    second: Sketches,
    limit: int = LIMIT,
) -> Chosen:
    """What to dump of two traces: as many of their questions as fit into the limit.

    Raises:
        UserError: if there is no such module, or not even one question fits.
    """
    if result.prompts or result.found is None:
        raise UserError("--dump: nothing is written, because the prompts differ")
    rows, _ = common(first, second)
    numbers, counts = np.unique(
        np.stack([first.module[rows], first.question[rows]], axis=1), axis=0, return_counts=True
    )
    names = [str(first.names[place]) for place in np.unique(numbers[:, 0])]
    modules = _matching(names, patterns) if patterns else _around(result.found)
    sizes: dict[str, int] = {}
    for (module, question), count in zip(numbers.tolist(), counts.tolist(), strict=True):
        if first.names[module] in modules:
            label = str(first.questions[question])
            each = count * int(first.widths[module]) * DTYPE.itemsize
            sizes[label] = sizes.get(label, 0) + 2 * each
    return _fitting(modules, {label: sizes[label] for label in sorted(sizes)}, limit)


def write(
    directory: Path,
    places: Sequence[Path],
    chosen: Chosen,
    result: TraceResult,
    limit: int = LIMIT,
) -> Index:
    """Write the rows that both runs have recorded; the index last, and if that fails, nothing."""
    found: dict[str, list[tuple[Array, NDArray[Any]]]] = {}
    for number in range(len(chosen.modules)):
        sides = [read_outputs(RunDirectory(place).sketches / str(number)) for place in places]
        for array, values in _arrays(*sides):
            found.setdefault(array.question, []).append((array, values))
    # The replays can have computed other tokens than the traces: their prefix cache may differ.
    sizes = {
        label: sum(values.nbytes for _, values in found[label])
        for label in chosen.questions
        if label in found
    }
    kept = _fitting(chosen.modules, sizes, limit)
    arrays = []
    try:
        for place, label in enumerate(kept.questions):
            for array, values in found[label]:
                file = f"{array.side}/{array.module}.q{place}.{array.phase}.npy"
                (directory / array.side).mkdir(exist_ok=True)
                content = io.BytesIO()  # NumPy's own error for a full disk doesn't say so
                np.save(content, values, allow_pickle=False)
                (directory / file).write_bytes(content.getvalue())
                arrays.append(replace(array, file=file))
        index = Index(
            result.first.name,
            result.second.name,
            limit,
            kept.size,
            (*kept.left_out, *chosen.left_out),
            tuple(arrays),
        )
        write_json(directory / INDEX, index)
    except OSError:
        for side in (FIRST, SECOND):
            shutil.rmtree(directory / side, ignore_errors=True)
        raise
    return index


def discard(directory: Path) -> None:
    """Remove the directory of a dump again, if nothing has been written."""
    with suppress(OSError):
        directory.rmdir()


def _around(found: Found) -> tuple[str, ...]:
    """The modules that depart first and by the largest jump; before each, the last that agrees."""
    chosen: list[str] = []
    for each in (found.first, found.jump):
        if each is not None:
            chosen += [*_agreeing(found.modules, each), each.module]
    if not chosen:
        raise UserError(
            "--dump: nothing is written, because no module departs in eager mode; name modules "
            "with --dump-modules"
        )
    return tuple(dict.fromkeys(chosen))


def _agreeing(modules: Sequence[Module], module: Module) -> list[str]:
    before = modules[: modules.index(module)]
    agreeing = [
        each.module
        for each in before
        if each.phase == module.phase and not (each.departs or each.alone)
    ]
    return agreeing[-1:]


def _matching(names: Sequence[str], patterns: Sequence[str]) -> tuple[str, ...]:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UserError(
                f"--dump-modules: {pattern} matches none of the modules that both runs have; see "
                "their names in trace.json"
            )
    return tuple(name for name in names if any(fnmatchcase(name, each) for each in patterns))


def _fitting(modules: tuple[str, ...], sizes: Mapping[str, int], limit: int) -> Chosen:
    """The first questions, by label, whose outputs fit into the limit together."""
    size, kept = 0, 0
    for each in sizes.values():
        if size + each > limit:
            break
        size, kept = size + each, kept + 1
    questions = tuple(sizes)
    if not kept:
        least = next(iter(sizes.values()), 0)
        raise UserError(
            f"--dump: the outputs of one question are {megabytes(least)}, and at most "
            f"{megabytes(limit)} are written; name fewer modules with --dump-modules"
        )
    return Chosen(modules, questions[:kept], questions[kept:], size)


def _arrays(first: Sketches, second: Sketches) -> Iterator[tuple[Array, NDArray[Any]]]:
    """The rows of one module that both sides have, by question and phase, of both sides."""
    ours, theirs = common(first, second)
    groups = np.stack([first.question[ours], first.phase[ours]], axis=1)
    for question, phase in np.unique(groups, axis=0).tolist():
        chosen = (groups == (question, phase)).all(axis=1)
        for side, outputs, places in (
            (FIRST, first, ours[chosen]),
            (SECOND, second, theirs[chosen]),
        ):
            values = outputs.sketch[places].astype(DTYPE)
            positions = tuple(outputs.position[places].tolist())
            yield (
                Array(
                    file="",
                    side=side,
                    module=str(outputs.names[0]),
                    question=str(first.questions[question]),
                    phase=PHASES[phase],
                    positions=positions,
                    shape=values.shape,
                    dtype=str(DTYPE),
                    computed=str(outputs.dtypes[0]),
                ),
                values,
            )


def megabytes(size: int) -> str:
    """Return a number of bytes as text."""
    return f"{size / 1e6:.3g} MB"
