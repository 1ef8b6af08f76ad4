"""How far two traces are apart, by module, phase and question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.evidence.sketches import PHASES, Sketches

# Bits of a row's number for its question, phase and position.
QUESTION, PHASE, POSITION = 14, 2, 30
# A relative difference counts at most this much; an output of zeros has none.
LARGEST = 1e6
# Distance from 1 to the next larger number of a type.
EPSILON = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


@dataclass(frozen=True)
class Difference:
    """The outputs of one module in one phase, in two traces.

    `place` counts the modules in the order of execution, and `dtype` is the coarser of its two.
    `relative` has, by question, the root mean square over its rows of the distance of the two
    outputs relative to the size of the first. `cosine` is the mean over rows, `largest` the
    largest ratio of the two largest absolute values, above 1 whichever is larger, and `broken` the
    numbers of NaN and infinite values in each trace.
    """

    module: str
    phase: str
    place: int
    dtype: str
    relative: dict[str, float]
    rows: int
    cosine: float
    largest: float
    broken: tuple[int, int]

    @property
    def key(self) -> tuple[str, str]:
        return self.module, self.phase


@dataclass(frozen=True)
class Compared:
    """The rows that two traces have in common, one array element each.

    `ours` and `theirs` are their numbers in the first and in the second trace, and `relative` is
    the distance of the two outputs relative to the size of the first. `largest` and `broken` are
    [2, rows]: the largest absolute value, and the number of NaN and infinite values, in each trace.
    """

    ours: NDArray[Any]
    theirs: NDArray[Any]
    relative: NDArray[Any]
    cosine: NDArray[Any]
    largest: NDArray[Any]
    broken: NDArray[Any]


def compared(first: Sketches, second: Sketches) -> Compared:
    """The rows that both traces have, of modules with the same width in both."""
    ours, theirs = common(first, second)
    a, b = (
        trace.sketch[rows].astype(np.float64) for trace, rows in ((first, ours), (second, theirs))
    )
    sizes = np.stack([first.size[ours], second.size[theirs]]).astype(np.float64)
    size = np.linalg.norm(a, axis=1)
    other = np.linalg.norm(b, axis=1)
    tiny = float(np.finfo(np.float32).tiny)
    cosine = np.where(
        (size > 0) & (other > 0),
        (a * b).sum(axis=1) / np.maximum(size * other, tiny**2),
        np.where(size == other, 1.0, 0.0),
    )
    return Compared(
        ours,
        theirs,
        np.minimum(np.linalg.norm(a - b, axis=1) / np.maximum(size, tiny), LARGEST),
        cosine,
        np.maximum(sizes[:, :, 1], tiny),
        sizes[:, :, 2],
    )


def differences(first: Sketches, second: Sketches) -> list[Difference]:
    """Differences of the rows that both traces have, in the order of execution.

    The vision tower comes first, then prefill, then decode. Modules of different widths are left
    out. Empty if the traces have no row in common.
    """
    rows = compared(first, second)
    if not len(rows.ours):
        return []
    module, phase = (getattr(first, name)[rows.ours] for name in ("module", "phase"))
    dtypes = dict(zip(second.names.tolist(), second.dtypes.tolist(), strict=True))
    found = []
    order = np.lexsort((module, phase))
    groups, starts = np.unique(
        np.stack([phase[order], module[order]], axis=1), axis=0, return_index=True
    )
    for (number, place), chosen in zip(groups, np.split(order, starts[1:]), strict=True):
        name = str(first.names[place])
        dtype = _coarser(str(first.dtypes[place]), dtypes[name])
        found.append(summary(name, PHASES[number], int(place), dtype, first, rows, chosen))
    return found


def summary(
    module: str,
    phase: str,
    place: int,
    dtype: str,
    first: Sketches,
    rows: Compared,
    chosen: NDArray[Any],
) -> Difference:
    """The difference of some `chosen` of the compared rows; at least one."""
    asked = first.question[rows.ours[chosen]]
    mean = np.bincount(asked, rows.relative[chosen] ** 2) / np.maximum(np.bincount(asked), 1)
    tops = rows.largest[:, chosen]
    broken = rows.broken[:, chosen].sum(axis=1)
    return Difference(
        module,
        phase,
        place,
        dtype,
        {str(first.questions[each]): float(np.sqrt(mean[each])) for each in np.unique(asked)},
        len(chosen),
        float(rows.cosine[chosen].mean()),
        float((tops.max(axis=0) / tops.min(axis=0)).max()),
        (int(broken[0]), int(broken[1])),
    )


def other_prompts(first: Sketches, second: Sketches) -> list[str]:
    """The questions that have other prompts in the two traces, in tokens."""
    prompts = dict(zip(second.questions.tolist(), second.prompts.tolist(), strict=True))
    return [
        label
        for label, prompt in zip(first.questions.tolist(), first.prompts.tolist(), strict=True)
        if prompts.get(label, prompt) != prompt
    ]


def _coarser(*dtypes: str) -> str:
    return max(dtypes, key=lambda dtype: EPSILON.get(dtype, 0.0))


def common(first: Sketches, second: Sketches) -> tuple[NDArray[Any], NDArray[Any]]:
    """The numbers of the rows that both traces have, of modules with the same number of columns."""
    widths = dict(zip(first.names.tolist(), first.widths.tolist(), strict=True))
    places = {name: place for place, name in enumerate(first.names.tolist())}
    modules = np.array(
        [
            places[name] if widths.get(name) == width else -1
            for name, width in zip(second.names.tolist(), second.widths.tolist(), strict=True)
        ],
        dtype=np.int64,
    )
    labels = {label: place for place, label in enumerate(first.questions.tolist())}
    questions = np.array([labels.get(label, -1) for label in second.questions.tolist()], np.int64)
    keys = second.keys.astype(np.int64)
    if len(keys):
        keys[:, 0], keys[:, 1] = modules[keys[:, 0]], questions[keys[:, 1]]
    known = np.flatnonzero((keys[:, :2] >= 0).all(axis=1))
    _, ours, theirs = np.intersect1d(
        _numbers(first.keys.astype(np.int64)), _numbers(keys[known]), return_indices=True
    )
    return ours, known[theirs]


def _numbers(keys: NDArray[Any]) -> NDArray[Any]:
    module, question, phase, position = keys.T
    number: NDArray[Any] = module << QUESTION | question
    number = number << PHASE | phase
    return number << POSITION | position
