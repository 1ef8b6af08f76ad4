"""The experts that the routers of a traced run chose, as it leaves them on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.errors import UserError

# Question, phase and position of a token.
Token = tuple[str, int, int]


@dataclass(frozen=True)
class Choices:
    """The choices of one router: [tokens, experts per token], by number, and their tokens.

    `number` is that of all experts of the block.
    """

    number: int
    tokens: list[Token]
    chosen: NDArray[Any]


def write_choices(file: Path, blocks: dict[str, Choices]) -> None:
    """Write the choices of all routers of a rank, by block, to one compressed file."""
    arrays: dict[str, NDArray[Any]] = {"names": np.array(list(blocks), dtype=str)}
    for place, each in enumerate(blocks.values()):
        labels, phases, positions = zip(*each.tokens, strict=True)
        questions, numbers = np.unique(np.array(labels, dtype=str), return_inverse=True)
        arrays |= {
            f"{place}.number": np.array(each.number),
            f"{place}.questions": questions,
            f"{place}.tokens": np.stack([numbers, phases, positions], axis=1).astype(np.int64),
            f"{place}.chosen": each.chosen.astype(np.int32),
        }
    np.savez_compressed(file, **arrays)


def read_choices(directory: Path) -> dict[str, Choices]:
    """The choices of a traced run by block; empty without experts.

    Ranks that compute the same block route its tokens alike: the first of them counts.

    Raises:
        UserError: if a file can't be read.
    """
    found: dict[str, Choices] = {}
    for file in sorted(directory.glob("experts*.npz"), key=lambda file: int(file.stem[7:])):
        try:
            with np.load(file, allow_pickle=False) as stored:
                for place, name in enumerate(stored["names"].tolist()):
                    found.setdefault(name, _read(stored, place))
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{directory}: cannot be read ({error}); remove it") from error
    return found


def _read(stored: Any, place: int) -> Choices:
    questions = stored[f"{place}.questions"].tolist()
    tokens = [
        (questions[number], phase, position)
        for number, phase, position in stored[f"{place}.tokens"].tolist()
    ]
    return Choices(int(stored[f"{place}.number"]), tokens, stored[f"{place}.chosen"])
