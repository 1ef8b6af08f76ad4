"""lm-eval's own vLLM model classes, with the engine boundary recorded and progress reported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from lm_eval.models.utils import maybe_truncate
from lm_eval.models.vllm_causallms import VLLM
from lm_eval.models.vllm_vlms import VLLM_VLM

from runner.lm.answer import Answer
from runner.lm.engine import RecordingEngine, prompt_key
from runner.lm.resolved import check_engine_args, resolved_engine

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance


class Progress(Protocol):
    """Who is told how far the requests are."""

    def begin(self, kind: str, total: int) -> None: ...

    def advance(self, requests: int) -> None: ...

    def beat(self) -> None:
        """The engine has made a step."""

    def end(self) -> None:
        """Every request has its answer; what follows is lm-eval's work, not the engine's."""


class RecordedModel(VLLM):
    """What both classes share: a recording engine, quiet loops, and the way back to a request."""

    def __init__(self, *args: Any, progress: Progress, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.progress = progress
        _beat_with(self.model.llm_engine, progress)
        self.model: RecordingEngine = RecordingEngine(self.model, progress.advance)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        with self._asking("generate_until", len(requests)):
            answers: list[str] = super().generate_until(requests, disable_tqdm=True)
        return answers

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> Any:
        with self._asking("loglikelihood", len(requests)):
            return super().loglikelihood(requests, disable_tqdm=True)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> Any:
        with self._asking("loglikelihood_rolling", len(requests)):
            return super().loglikelihood_rolling(requests, disable_tqdm=True)

    @contextmanager
    def _asking(self, kind: str, total: int) -> Iterator[None]:
        self.progress.begin(kind, total)
        yield
        self.progress.end()

    def resolved(self) -> dict[str, Any]:
        """What vLLM made of the arguments."""
        return resolved_engine(self.model.llm_engine.vllm_config)

    def forget(self) -> None:
        """Drop the answers that nobody took."""
        self.model.forget()

    def renew(self) -> None:
        """Before another run on this engine: it must not depend on what was asked before it."""
        self.model.reset_prefix_cache()

    def answer_to(self, request: Instance) -> tuple[Answer | None, bool]:
        """The engine's answer to an asked request, and whether its prompt was cut to fit.

        The prompt is made from the request with the same steps of lm-eval's as when it was asked.
        """
        if request.request_type == "generate_until":
            tokens = self.tok_encode(request.args[0])
            _, _, room = self.modify_gen_kwargs(
                request.args[1], default_max_gen_toks=self.max_gen_toks
            )
            kept, _ = maybe_truncate(
                tokens,
                max_gen_toks=room,
                max_model_len=self.max_length,
                side=self.truncation_side,
                verbose=False,
            )
            return self.model.take(tuple(kept)), len(kept) < len(tokens)
        if request.request_type == "loglikelihood":
            context, continuation = request.args
            if context == "":
                first, rest = [self.prefix_token_id], self.tok_encode(continuation)
            else:
                first, rest = self._encode_pair(context, continuation)
            tokens = list(first) + list(rest)
            longest = self.max_length - 1
            return self.model.take(tuple(tokens[-longest:])), len(tokens) > longest
        return None, False


def _beat_with(engine: Any, progress: Progress) -> None:
    """Let every step of the engine tell that it lives."""
    step = engine.step

    def beating() -> Any:
        outputs = step()
        progress.beat()
        return outputs

    engine.step = beating


class RecordedVLLM(RecordedModel):
    """lm-eval's `vllm`."""


class RecordedVLM(RecordedModel, VLLM_VLM):
    """lm-eval's `vllm-vlm`."""

    def answer_to(self, request: Instance) -> tuple[Answer | None, bool]:
        if request.request_type != "generate_until" or len(request.args) < 3:
            return super().answer_to(request)
        context, images = request.args[0], request.args[2]["visual"]
        (prompt,) = self.tok_batch_multimodal_encode([context], [list(images)])
        return self.model.take(prompt_key(prompt)), False


MODEL_CLASSES: dict[str, type[RecordedModel]] = {"vllm": RecordedVLLM, "vllm-vlm": RecordedVLM}

__all__ = ["MODEL_CLASSES", "check_engine_args"]
