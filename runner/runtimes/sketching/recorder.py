"""Keeps the sketches of the rows that a trace covers, or these rows themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runner.evidence.choices import write_choices
from runner.evidence.sketches import DECODE, IMAGE, PREFILL, VISION, Sketches
from runner.plan import TracePlan
from runner.runtimes.sketching.projection import Projection
from runner.runtimes.sketching.routes import Routes

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Rows:
    """Which rows of a tensor are recorded: their places, and the question, phase and position."""

    place: list[int]
    keys: list[tuple[int, int, int]]

    @classmethod
    def joined(cls, parts: Sequence[Rows]) -> Rows:
        return cls(
            [p for part in parts for p in part.place], [k for part in parts for k in part.keys]
        )


@dataclass(frozen=True)
class Columns:
    """Which columns of a whole output a tensor has.

    `numbers` are those of its columns, and `total` is the number of all. If both are None, it has
    the part `part` of `parts` equal ones. With `sharded`, other ranks have others.
    """

    numbers: Sequence[int] | None = None
    total: int | None = None
    sharded: bool = False
    part: int = 0
    parts: int = 1


WHOLE = Columns()


@dataclass
class _Module:
    """The rows of one module so far."""

    dtype: str
    width: int
    sharded: bool
    keys: list[tuple[int, int, int]]
    sketches: list[NDArray[Any]]
    sizes: list[NDArray[Any]]


class Recorder:
    """The sketches of one run on one rank, or with `plan.whole` the outputs of some modules."""

    def __init__(self, plan: TracePlan) -> None:
        self.plan = plan
        self.routes = Routes()
        self._left_out: set[int] = set()
        self._projection = Projection(plan.size)
        self._questions: dict[str, tuple[int, str, int]] = {}
        self._modules: dict[str, _Module] = {}

    def question(self, label: str, prompt: Sequence[int]) -> int:
        """The number of a question; its prompt's tokens are kept as a digest."""
        if label not in self._questions:
            digest = hashlib.sha256(np.asarray(prompt, dtype=np.int64).tobytes()).hexdigest()[:16]
            if self.plan.whole and label not in self.plan.questions:
                self._left_out.add(len(self._questions))
            self._questions[label] = (len(self._questions), digest, len(prompt))
        return self._questions[label][0]

    def tokens(self, question: int, prompt: int, first: int, number: int, start: int) -> Rows:
        """The covered rows of a question's next `number` tokens.

        `prompt` is the length of its prompt, `first` the position of the first token, and `start`
        its place in the tensor.
        """
        if question in self._left_out:
            return Rows([], [])
        low, high = prompt - self.plan.prompt, prompt + self.plan.answer
        positions = range(max(first, low), min(first + number, high))
        return Rows(
            [start + position - first for position in positions],
            [
                (question, PREFILL if position < prompt else DECODE, position)
                for position in positions
            ],
        )

    def image(self, question: int, number: int, rows: int, start: int) -> Rows:
        """The covered rows of an image: at most as many as the plan says, evenly spaced."""
        if question in self._left_out:
            return Rows([], [])
        step = max(rows / self.plan.image, 1.0)
        places = [int(step * place) for place in range(min(rows, self.plan.image))]
        return Rows(
            [start + place for place in places],
            [(question, VISION, IMAGE * number + place) for place in places],
        )

    def record(self, name: str, output: torch.Tensor, rows: Rows, columns: Columns = WHOLE) -> None:
        """Record rows of a module's output, [rows, columns]."""
        if not rows.place or (self.plan.whole and name not in self.plan.whole):
            return
        outputs = output.detach()[rows.place].double().cpu().numpy()
        broken = ~np.isfinite(outputs)
        values = np.where(broken, 0.0, outputs)
        width = values.shape[1]
        module = self._modules.setdefault(
            name,
            _Module(
                str(output.dtype).removeprefix("torch."),
                columns.total or width * columns.parts,
                columns.sharded,
                [],
                [],
                [],
            ),
        )
        start = width * columns.part
        numbers = range(start, start + width) if columns.numbers is None else columns.numbers
        module.keys += rows.keys
        if self.plan.whole:
            # Other columns are 0 here, so the sum over ranks is the whole output, as of sketches.
            sketch = np.zeros((len(outputs), module.width))
            sketch[:, list(numbers)] = outputs
        else:
            sketch = self._projection.of(values, numbers)
        module.sketches.append(sketch.astype(np.float32))
        sizes = [(values**2).sum(axis=1), np.abs(values).max(axis=1), broken.sum(axis=1)]
        module.sizes.append(np.stack(sizes, axis=1).astype(np.float32))

    def write(self, directory: Path, rank: int = 0) -> None:
        """Write everything that this rank has recorded so far."""
        if self.plan.whole:
            for place, name in enumerate(self.plan.whole):
                if name in self._modules:
                    module = self._modules[name]
                    self._write({name: module}, module.width, directory / str(place), rank)
            return
        self._write(self._modules, self.plan.size, directory, rank)
        if routes := self.routes.all(list(self._questions)):
            write_choices(directory / f"experts{rank}.npz", dict(routes))

    def _write(self, named: Mapping[str, _Module], size: int, directory: Path, rank: int) -> None:
        """Write some modules, whose rows are kept as `size` numbers each."""
        directory.mkdir(parents=True, exist_ok=True)
        modules = list(named.values())
        keys = np.array(
            [(place, *key) for place, module in enumerate(modules) for key in module.keys],
            dtype=np.int64,
        ).reshape(-1, 4)
        sketch = [each for module in modules for each in module.sketches]
        sizes = [each for module in modules for each in module.sizes]
        # A request that was preempted computes some of its tokens twice.
        _, first = np.unique(keys, axis=0, return_index=True)
        Sketches(
            names=np.array(list(named), dtype=str),
            dtypes=np.array([module.dtype for module in modules], dtype=str),
            widths=np.array([module.width for module in modules], dtype=np.int64),
            sharded=np.array([module.sharded for module in modules], dtype=bool),
            questions=np.array(list(self._questions), dtype=str),
            prompts=np.array(
                [f"{length} tokens {digest}" for _, digest, length in self._questions.values()],
                dtype=str,
            ),
            module=keys[first, 0],
            question=keys[first, 1],
            phase=keys[first, 2],
            position=keys[first, 3],
            sketch=np.concatenate([np.empty((0, size), np.float32), *sketch])[first],
            size=np.concatenate([np.empty((0, 3), np.float32), *sizes])[first],
        ).write(directory / f"rank{rank}.npz")
