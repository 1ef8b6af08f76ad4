"""What a rank's output of a vLLM module is of the whole output, in transformers' terms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from runner.runtimes.sketching.names import ACTIVATED
from runner.runtimes.sketching.recorder import WHOLE, Columns

# vLLM's classes of layers, in every version; those of other platforms derive from them.
COLUMNS, HEADS, SUMS = "ColumnParallelLinear", "QKVParallelLinear", "RowParallelLinear"
# vLLM's activations with this end of their names multiply by the other half of their input.
GATED = "AndMul"


@dataclass(frozen=True)
class Piece:
    """A module's output under its name, [rows, ...]; further dimensions are those of columns."""

    name: str
    output: torch.Tensor
    columns: Columns = WHOLE


class Shards:
    """Follows tensor parallelism through a forward pass.

    From a column-parallel layer up to the next row-parallel one, each rank has its own columns of
    every output: those of its heads, or of its part of the intermediate size.
    """

    def __init__(self, packed: Mapping[str, Sequence[str]], rank: int, size: int) -> None:
        """Set the tensor-parallel rank and size, and the names of layers that vLLM has packed.

        `packed` is a model class's packed_modules_mapping.
        """
        self._packed, self._rank, self._size = packed, rank, size
        self._inside = False
        # Ranks that have the same key and value heads.
        self._replicas = 1

    def begin(self) -> None:
        """Begin a forward pass."""
        self._inside = False

    def pieces(self, name: str, module: torch.nn.Module, output: Any) -> Iterator[Piece]:
        """What a module has returned, as pieces of known columns."""
        if _is(module, COLUMNS):
            yield from self._column_parallel(name, module, _first(output))
        elif _is(module, SUMS):
            self._inside = False
            yield Piece(name, _first(output))
        elif name.rpartition(".")[2] == "rotary_emb":
            if _pair(output, alike=False):
                for part, rotated in zip("qk", output, strict=True):
                    yield from self._own(f"{name}.{part}", rotated, part == "k")
        elif _pair(output) and any(module.children()):
            # A decoder layer: vLLM adds the residual in the next layer's norm.
            yield Piece(name, output[0] + output[1])
        elif (first := _first(output)) is not None:
            if type(module).__name__.endswith(GATED):
                name = f"{name.rpartition('.')[0]}.{ACTIVATED}"
            yield from self._own(name, first, name.endswith("k_norm"))

    def _own(self, name: str, output: torch.Tensor, keys: bool) -> Iterator[Piece]:
        """An output of no parallel layer; `keys` says that it belongs to the key heads."""
        if not self._inside or self._size == 1:
            yield Piece(name, output)
            return
        replicas = self._replicas if keys else 1
        if self._rank % replicas == 0:  # else another rank has the same heads
            part, parts = self._rank // replicas, self._size // replicas
            yield Piece(name, output, Columns(sharded=True, part=part, parts=parts))

    def _column_parallel(self, name: str, module: Any, output: Any) -> Iterator[Piece]:
        size, rank = module.tp_size, module.tp_rank
        if module.gather_output or size == 1:
            size, rank = 1, 0
        self._inside = size > 1
        totals = list(getattr(module, "output_sizes", (output.shape[-1] * size,)))
        replicas = [1] * len(totals)
        if _is(module, HEADS):
            self._replicas = module.num_kv_head_replicas
            replicas = [1, self._replicas, self._replicas]
        parent, _, own = name.rpartition(".")
        names = self._packed.get(own, ())
        apart = len(names) == len(totals)
        slices = output.split([total // size for total in totals], dim=-1)
        wholes = [total // copies for total, copies in zip(totals, replicas, strict=True)]
        kept: list[torch.Tensor] = []
        numbers: list[int] = []
        for place, (part, copies) in enumerate(zip(slices, replicas, strict=True)):
            if rank % copies:  # another rank has the same heads
                continue
            start = rank // copies * part.shape[-1]
            if apart:
                columns = Columns(range(start, start + part.shape[-1]), wholes[place], size > 1)
                yield Piece(f"{parent}.{names[place]}".lstrip("."), part, columns)
            else:
                start += sum(wholes[:place])
                kept.append(part)
                numbers += range(start, start + part.shape[-1])
        if kept:
            yield Piece(name, torch.cat(kept, dim=-1), Columns(numbers, sum(wholes), size > 1))


def _is(module: torch.nn.Module, kind: str) -> bool:
    return any(each.__name__ == kind for each in type(module).__mro__)


def _first(output: Any) -> Any:
    """The output, or the first of several; None if that is no tensor of rows."""
    first = output[0] if isinstance(output, tuple) and output else output
    known = isinstance(first, torch.Tensor) and first.dim() > 1 and first.is_floating_point()
    return first if known else None


def _pair(output: Any, alike: bool = True) -> bool:
    """Whether an output is two tensors of rows, of one shape if they are to be `alike`."""
    if not isinstance(output, tuple) or len(output) != 2:
        return False
    if not all(isinstance(each, torch.Tensor) and each.dim() > 1 for each in output):
        return False
    return not alike or bool(output[0].shape == output[1].shape)
