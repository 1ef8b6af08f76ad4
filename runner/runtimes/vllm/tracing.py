"""Records what the modules of a running vLLM compute (`engine.extra.worker_extension_cls`).

vLLM mixes `Tracing` into each rank's worker, and calls its methods by name. Forward hooks don't run
inside of a graph. Outside of it are the logits and what they are computed from, the vision tower
unless it is compiled too, and the embeddings if the model has a vision tower. Read in vllm 0.23.0
and 0.32.0 (v1/worker/gpu_model_runner.py), graphs in 0.32.0 alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from runner.lm.script import LABEL
from runner.plan import TracePlan
from runner.runtimes.sketching.names import HIDDEN, common_name
from runner.runtimes.sketching.recorder import Recorder, Rows
from runner.runtimes.vllm.routing import Router, routers
from runner.runtimes.vllm.shards import Piece, Shards

# The method that runs the vision tower, and its name in earlier versions.
ENCODERS = ("embed_multimodal", "get_multimodal_embeddings")
# The module that computes the logits, of the last token of each request.
LOGITS = "logits_processor"
NOTHING = Rows([], [])


class Tracing:
    """The methods that a rank's worker gets."""

    model_runner: Any
    rank: int

    def begin_trace(self, trace: dict[str, Any]) -> None:
        """Record from now on, as a TracePlan's fields say."""
        tracer = vars(self).setdefault("_tracer", None) or Tracer(self.model_runner)
        vars(self)["_tracer"] = tracer
        tracer.recorder = Recorder(TracePlan(**trace))

    def end_trace(self, directory: str) -> None:
        """Write what this rank has recorded, and stop recording."""
        tracer: Tracer = vars(self)["_tracer"]
        recorder, tracer.recorder = tracer.recorder, None
        if recorder is not None:
            recorder.write(Path(directory), self.rank)


class Tracer:
    """Follows each step of a model runner, and records its modules' outputs."""

    def __init__(self, runner: Any) -> None:
        self.recorder: Recorder | None = None
        self._runner = runner
        self._step: _Step | None = None
        self._path: list[str] = []
        model = runner.get_model()
        from vllm.distributed import (
            get_tensor_model_parallel_rank,
            get_tensor_model_parallel_world_size,
        )

        self._shards = Shards(
            getattr(model, "packed_modules_mapping", {}),
            get_tensor_model_parallel_rank(),
            get_tensor_model_parallel_world_size(),
        )
        self._encoding = False
        for name in ENCODERS:
            if hasattr(model, name):
                setattr(model, name, self._wrapped(getattr(model, name), self._encode))
        runner.execute_model = self._wrapped(runner.execute_model, self._execute)
        shared: dict[int, list[str]] = {}
        for path, module in model.named_modules(remove_duplicate=False):
            shared.setdefault(id(module), []).append(path)
        for path, module in model.named_modules():
            if path and ".experts." not in f".{path}":
                module.register_forward_pre_hook(self._entered(path))
                module.register_forward_hook(self._left(shared[id(module)]))
                if path.endswith(LOGITS):
                    module.register_forward_pre_hook(self._finished, with_kwargs=True)
        for block, router in routers(model):
            router.listen(self._routed(block, router))

    def _wrapped(self, method: Callable[..., Any], context: Callable[..., Any]) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with context(*args, **kwargs):
                return method(*args, **kwargs)

        return wrapped

    @contextmanager
    def _execute(self, scheduled: Any, *_: Any, **__: Any) -> Iterator[None]:
        self._step = _Step(self._runner, scheduled)
        self._path.clear()  # of a call that has raised
        self._shards.begin()
        try:
            yield
        finally:
            self._step = None

    @contextmanager
    def _encode(self, *_: Any, **__: Any) -> Iterator[None]:
        self._encoding = True
        try:
            yield
        finally:
            self._encoding = False

    def _entered(self, path: str) -> Callable[..., None]:
        def entered(*_: Any) -> None:
            self._path.append(path)

        return entered

    def _left(self, paths: Sequence[str]) -> Callable[..., None]:
        """A hook for a module with these paths; layers can share one, as of rotary embeddings."""
        logits = paths[0].endswith(LOGITS)
        layers = {path: _numbers(path) for path in paths}

        def left(module: torch.nn.Module, _: Any, output: Any) -> None:
            if self._path:
                self._path.pop()
            if self._step is None or self.recorder is None:
                return
            inside = _numbers(self._path[-1]) if self._path else []
            path = next((each for each, layer in layers.items() if layer == inside), paths[0])
            if not (name := common_name(path)):
                return
            for piece in self._shards.pieces(name, module, output):
                self._record(self._step, piece, logits)

        return left

    def _finished(self, _: torch.nn.Module, args: Any, given: dict[str, Any]) -> None:
        """Record the final hidden states, which are computed inside of the graph in graph mode."""
        states = given["hidden_states"] if "hidden_states" in given else args[1]
        if self._step is not None and self.recorder is not None:
            self._record(self._step, Piece(HIDDEN, states), logits=True)

    def _routed(self, block: str, router: Router) -> Callable[[torch.Tensor], None]:
        def routed(chosen: torch.Tensor) -> None:
            if self._step is not None and self.recorder is not None:
                rows = self._step.tokens(self.recorder, chosen.shape[0])
                self.recorder.routes.record(block, chosen, rows, router.number, router.told)

        return routed

    def _record(self, step: _Step, piece: Piece, logits: bool) -> None:
        recorder, output = self.recorder, piece.output
        assert recorder is not None
        if self._encoding and output.shape[0] == 1 and output.dim() > 2:
            output = output[0]
        number = output.shape[0]
        if self._encoding:
            rows = step.images(recorder, number)
        elif logits:
            rows = step.last(recorder, number)
        else:
            rows = step.tokens(recorder, number)
        recorder.record(piece.name, output.reshape(number, -1), rows, piece.columns)


def _numbers(path: str) -> list[str]:
    return [part for part in path.split(".") if part.isdigit()]


class _Step:
    """Which rows of a step's tensors belong to which tokens and images.

    Asked for only while the model computes, when the batch has its order.
    """

    def __init__(self, runner: Any, scheduled: Any) -> None:
        self._runner, self._scheduled = runner, scheduled
        self._known: dict[str | int, Rows] = {}
        self._number = 0

    def tokens(self, recorder: Recorder, number: int) -> Rows:
        """Rows of a tensor with one row for each token; there may be padding behind them."""
        if "tokens" not in self._known:
            parts, start = [], 0
            for question, prompt, first, count in self._requests(recorder):
                if question is not None:
                    parts.append(recorder.tokens(question, prompt, first, count, start))
                start += count
            self._known["tokens"], self._number = Rows.joined(parts), start
        return self._known["tokens"] if number >= self._number else NOTHING

    def last(self, recorder: Recorder, number: int) -> Rows:
        """Rows of a tensor with one row for the last token of each request."""
        if "last" not in self._known:
            requests = self._requests(recorder)
            parts = [
                recorder.tokens(question, prompt, first + count - 1, 1, place)
                for place, (question, prompt, first, count) in enumerate(requests)
                if question is not None
            ]
            self._known["last"] = Rows.joined(parts)
        requests_here = len(self._scheduled.num_scheduled_tokens)
        return self._known["last"] if number == requests_here else NOTHING

    def images(self, recorder: Recorder, number: int) -> Rows:
        """Rows of a tensor with some rows for each token of each image that is encoded."""
        if number not in self._known:
            self._known[number] = self._images(recorder, number)
        return self._known[number]

    def _requests(self, recorder: Recorder) -> list[tuple[int | None, int, int, int]]:
        """The question, length of the prompt, first position and tokens of each request."""
        batch, found = self._runner.input_batch, []
        for place, name in enumerate(batch.req_ids):
            count = self._scheduled.num_scheduled_tokens.get(name, 0)
            first = int(batch.num_computed_tokens_cpu[place])
            question, prompt = self._question(recorder, name)
            found.append((question, prompt, first, count))
        return found

    def _question(self, recorder: Recorder, name: str) -> tuple[int | None, int]:
        request = self._runner.requests[name]
        extra = getattr(request.sampling_params, "extra_args", None) or {}
        prompt = request.prompt_token_ids or ()
        if LABEL not in extra:
            return None, len(prompt)
        return recorder.question(extra[LABEL], prompt), len(prompt)

    def _images(self, recorder: Recorder, number: int) -> Rows:
        shown = []
        for name, places in (self._scheduled.scheduled_encoder_inputs or {}).items():
            features = self._runner.requests[name].mm_features
            for place in places:
                position = features[place].mm_position
                shown.append((self._question(recorder, name)[0], place, position.length))
        tokens = sum(length for _, _, length in shown)
        if not tokens or number % tokens:
            return NOTHING
        patches, parts, start = number // tokens, [], 0
        for question, place, length in shown:
            if question is not None:
                parts.append(recorder.image(question, place, patches * length, start))
            start += patches * length
        return Rows.joined(parts)
