"""Records what the modules of a transformers model compute for a replayed batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch

from runner.runtimes.sketching.names import HIDDEN, common_name, input_name
from runner.runtimes.sketching.recorder import Recorder, Rows

# The method that runs the vision tower. Where it is not given the sizes of the images as a grid,
# the tower is not traced.
ENCODER = "get_image_features"
# The module that computes all experts of a block; it is given the router's choices.
EXPERTS = ".experts"
NOTHING = Rows([], [])


@dataclass(frozen=True)
class Traced:
    """A row of a batch: its label, the prompt's tokens, and the number of images."""

    label: str
    prompt: Sequence[int]
    images: int = 0


class Tracer:
    """Follows the forward passes of a batch; rows are padded on the left."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.recorder: Recorder | None = None
        self._batch: Sequence[Traced] = ()
        self._length = 0
        # Position of the first token of the current pass in the padded rows, and their number.
        self._first = self._count = 0
        self._encoding = False
        self._lengths: list[int] = []
        self._known: dict[str | int, Rows] = {}
        model.register_forward_pre_hook(self._forward, with_kwargs=True)
        inner = getattr(model, "model", model)
        if hasattr(inner, ENCODER):
            inner.get_image_features = self._encoder(inner.get_image_features)
        for path, module in model.named_modules():
            if not (name := common_name(path)) or ".experts." in f".{path}":
                continue
            module.register_forward_hook(self._left(name))
            if name == "lm_head":
                module.register_forward_pre_hook(self._entered(HIDDEN))
            if name.endswith(EXPERTS):
                block = name.removesuffix(EXPERTS)
                module.register_forward_pre_hook(self._routed(block), with_kwargs=True)
            if (before := input_name(name)) is not None:
                module.register_forward_pre_hook(self._entered(before))

    @contextmanager
    def batch(self, rows: Sequence[Traced | None], length: int) -> Iterator[None]:
        """Record a batch whose prompts are padded to `length`; None for a row without a label."""
        self._batch = [each or Traced("", ()) for each in rows]
        self._length, self._first, self._count = length, 0, 0
        try:
            yield
        finally:
            self._batch = ()

    def _forward(self, _: Any, args: Any, kwargs: dict[str, Any]) -> None:
        given = kwargs.get("input_ids", args[0] if args else None)
        if given is None:
            given = kwargs["inputs_embeds"]
        self._first, self._count = self._first + self._count, given.shape[1]
        self._known = {}

    def _encoder(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)  # transformers reads its signature
        def encode(*args: Any, **kwargs: Any) -> Any:
            grid = kwargs.get("image_grid_thw", args[1] if len(args) > 1 else None)
            self._lengths = [] if grid is None else grid.prod(dim=-1).tolist()
            self._encoding = True
            try:
                return method(*args, **kwargs)
            finally:
                self._encoding = False

        return encode

    def _left(self, name: str) -> Callable[..., None]:
        def left(module: torch.nn.Module, args: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) and output else output
            self._record(name, first)

        return left

    def _entered(self, name: str) -> Callable[..., None]:
        def entered(module: torch.nn.Module, args: Any) -> None:
            self._record(name, args[0] if args else None)

        return entered

    def _routed(self, block: str) -> Callable[..., None]:
        def routed(module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
            if self.recorder is None or not self._batch:
                return
            for given in (*args, *kwargs.values()):
                if isinstance(given, torch.Tensor) and not given.is_floating_point():
                    rows, chosen = self._rows(given)
                    number = int(getattr(module, "num_experts", 0))
                    self.recorder.routes.record(block, chosen, rows, number)

        return routed

    def _record(self, name: str, output: Any) -> None:
        if self.recorder is None or not self._batch:
            return
        if not isinstance(output, torch.Tensor) or not output.is_floating_point():
            return
        if output.dim() < 2:
            return
        rows, tensor = self._rows(output)
        self.recorder.record(name, tensor, rows)

    def _rows(self, output: torch.Tensor) -> tuple[Rows, torch.Tensor]:
        """The covered rows of an output, and the output as [rows, columns]."""
        if self._encoding:
            if output.shape[0] == 1 and output.dim() > 2:
                output = output[0]
            flat = output.reshape(output.shape[0], -1)
            return self._images(flat.shape[0]), flat
        size, count = len(self._batch), self._count
        if output.dim() > 2 and output.shape[0] == size and output.shape[1] in (1, count):
            flat = output.reshape(size * output.shape[1], -1)
            return self._tokens(output.shape[1]), flat
        if output.shape[0] == size * count:  # a block of experts has one dimension for all tokens
            return self._tokens(count), output.reshape(size * count, -1)
        return NOTHING, output

    def _tokens(self, count: int) -> Rows:
        """The covered rows of the last `count` tokens of this pass, [batch × count]."""
        assert self.recorder is not None
        if count not in self._known:
            parts = []
            for place, row in enumerate(self._batch):
                padding = self._length - len(row.prompt)
                first = self._first + self._count - count - padding
                skipped = max(-first, 0)
                if row.label and count > skipped:
                    question = self.recorder.question(row.label, row.prompt)
                    start = place * count + skipped
                    parts.append(
                        self.recorder.tokens(
                            question, len(row.prompt), first + skipped, count - skipped, start
                        )
                    )
            self._known[count] = Rows.joined(parts)
        return self._known[count]

    def _images(self, number: int) -> Rows:
        """The covered rows of the images of this batch, which are encoded together."""
        assert self.recorder is not None
        total = sum(self._lengths)
        shown = [(row, place) for row in self._batch for place in range(row.images)]
        if not number or total % number or len(shown) != len(self._lengths):
            return NOTHING
        parts, start, merged = [], 0, total // number
        for (row, place), length in zip(shown, self._lengths, strict=True):
            if row.label:
                question = self.recorder.question(row.label, row.prompt)
                parts.append(self.recorder.image(question, place, length // merged, start))
            start += length // merged
        return Rows.joined(parts)
