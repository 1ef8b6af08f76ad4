"""lm-eval's own transformers model classes, asked as vLLM is and recorded alike."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from lm_eval.models.hf_vlms import HFMultimodalLM
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import (
    handle_stop_sequences,
    normalize_gen_kwargs,
    postprocess_generated_text,
    resize_image,
)
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from runner.errors import UserError
from runner.lm.answer import TOO_LONG, Answer
from runner.lm.answering import InTurn
from runner.lm.generation import Batch, settle
from runner.lm.shown import as_vllm_shows
from runner.lm.transformers_model import check_engine_args, facts, said

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

    from runner.lm.answering import Named, Progress


@dataclass(frozen=True)
class Settings:
    """How requests want to be answered: tokens at most, what ends an answer, how it is drawn."""

    room: int
    stops: list[str]
    sampling: dict[str, Any]


class RecordedTransformers(InTurn, HFLM):
    """What both classes share.

    lm-eval's classes build the model, render the prompts and score choices. Generation is done
    here, because theirs differs from what it does with vLLM: they cut prompts through the middle of
    an image, drop an image's transparency, go on behind a stop text until every row has met the
    same one, and take sampling settings from the weights.
    """

    def __init__(self, *args: Any, progress: Progress, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.progress = progress
        self.cache_hook = _Heard(progress)
        self._answers: dict[Hashable, tuple[Answer, bool]] = {}
        settle(self.model.generation_config, self.tokenizer)

    def _create_model(self, *args: Any, **kwargs: Any) -> None:
        """Load the weights.

        Raises:
            UserError: with transformers' reason, as for an attention that is not installed.
        """
        try:
            super()._create_model(*args, **kwargs)
        except (ValueError, ImportError) as error:
            raise UserError(f"engine: transformers refuses this: {said(error)}") from error

    @property
    def batch_size(self) -> int | str:
        size: int | str = self.batch_size_per_gpu
        return size

    @batch_size.setter
    def batch_size(self, size: int | str) -> None:
        self.batch_size_per_gpu = size

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        texts = [""] * len(requests)
        with self._asking("generate_until", len(requests)):
            for places in self._chunks(requests):
                answered = self._generate([requests[place] for place in places])
                for place, text in zip(places, answered, strict=True):
                    texts[place] = text
                self.progress.advance(len(places))
        return texts

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> Any:
        with self._asking("loglikelihood", len(requests)):
            return super().loglikelihood(requests, disable_tqdm=True)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> Any:
        with self._asking("loglikelihood_rolling", len(requests)):
            return super().loglikelihood_rolling(requests)

    @contextmanager
    def _asking(self, kind: str, total: int) -> Iterator[None]:
        self.progress.begin(kind, total)
        yield
        self.progress.end()

    def _model_call(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        self.progress.beat()
        return super()._model_call(*args, **kwargs)

    def resolved(self) -> dict[str, Any]:
        """What transformers made of the arguments."""
        return {"model": self.pretrained, "max_model_len": self.max_length, **facts(self.model)}

    def get_model_info(self) -> dict[str, Any]:
        """Nothing: lm-eval would ask the hub who these weights are, and they have a digest."""
        return {}

    def forget(self) -> None:
        """Drop the answers that nobody took."""
        self._answers.clear()
        self.cache_hook.scored.clear()

    def answer_to(self, request: Instance) -> tuple[Answer | None, bool]:
        """What was answered to an asked request, and whether its prompt was cut to fit."""
        if request.request_type == "generate_until":
            return self._answers.get(_key(request), (None, False))
        if request.request_type != "loglikelihood" or request.args not in self.cache_hook.scored:
            return None, False
        context, continuation = request.args
        if context == "":
            tokens = [
                self.prefix_token_id,
                *self.tok_encode(continuation, add_special_tokens=False),
            ]
        else:
            first, rest = self._encode_pair(context, continuation)
            tokens = [*first, *rest]
        # The last token is scored, and never read.
        longest = self.max_length + 1
        return Answer(min(len(tokens), longest), (), (), (), "length"), len(tokens) > longest

    def _chunks(self, requests: list[Instance]) -> Iterator[list[int]]:
        """Places of requests that can share a batch: alike in settings, and nearly in length."""
        alike: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            alike.setdefault(repr(request.args[1]), []).append(place)
        size = int(self.batch_size)
        for places in alike.values():
            places.sort(key=lambda place: -len(requests[place].args[0]))
            yield from (places[start : start + size] for start in range(0, len(places), size))

    def _settings(self, request: Instance) -> Settings:
        """lm-eval's reading of a task's settings, as for vLLM.

        Raises:
            UserError: for a setting that transformers does not know.
        """
        kwargs = normalize_gen_kwargs(request.args[1], self.max_gen_toks)
        eos = self.tok_decode([self.eot_token_id], skip_special_tokens=False)
        stops = handle_stop_sequences(kwargs.pop("until", None), eos=eos)
        if self._thinks(request):
            stops = [eos]  # the task's own may stand in the thoughts
        room = kwargs.pop("max_gen_toks")
        if not kwargs.get("do_sample"):
            kwargs.pop("temperature", None)
        unknown = [name for name in kwargs if not hasattr(GenerationConfig(), name)]
        if unknown:
            raise UserError(
                *(f"task.gen_kwargs.{name}: transformers has no such setting" for name in unknown)
            )
        return Settings(room, stops, kwargs)

    def _thinks(self, request: Instance) -> bool:
        """lm-eval takes thoughts out of answers about text alone, with vLLM too."""
        return self.think_end_token is not None and len(request.args) < 3

    def _generate(self, requests: list[Instance]) -> list[str]:
        """One batch; a prompt that cannot fit gets an empty answer, as from vLLM."""
        settings = self._settings(requests[0])
        inputs, prompts, cut = self._encode(requests, settings.room)
        fits = [len(prompt) < self.max_length for prompt in prompts]
        if not all(fits):
            fitting = [request for request, fit in zip(requests, fits, strict=True) if fit]
            for request, fit in zip(requests, fits, strict=True):
                if not fit:
                    self._answers[_key(request)] = (Answer(0, (), (), (), TOO_LONG), False)
            answered = iter(self._generate(fitting) if fitting else ())
            return [next(answered) if fit else "" for fit in fits]
        batch = Batch(
            self.tokenizer,
            self.model.generation_config.eos_token_id,
            settings.stops,
            prompts,
            [min(settings.room, self.max_length - len(prompt)) for prompt in prompts],
            self.progress.beat,
        )
        with torch.inference_mode():
            self.model.generate(
                **inputs,
                max_new_tokens=settings.room,
                logits_processor=LogitsProcessorList([batch.scores]),
                stopping_criteria=StoppingCriteriaList([batch]),
                pad_token_id=self.tokenizer.pad_token_id,
                **settings.sampling,
            )
        for request, answer, was_cut in zip(requests, batch.answers(), cut, strict=True):
            self._answers.setdefault(_key(request), (answer, was_cut))  # the first of repeats
        texts = batch.texts()
        if not self._thinks(requests[0]):
            return texts
        stops = requests[0].args[1].get("until")
        return [postprocess_generated_text(text, stops, self.think_end_token) for text in texts]

    def _encode(
        self, requests: list[Instance], room: int
    ) -> tuple[dict[str, torch.Tensor], list[list[int]], list[bool]]:
        """What the model gets, padded on the left; each prompt's tokens; whether it was cut."""
        ids, mask = self.tok_batch_encode([request.args[0] for request in requests])
        longest = self.max_length - room
        if longest < 1:
            raise UserError(
                f"engine.max_model_len={self.max_length}: no room for a prompt beside an answer of "
                f"{room} tokens; raise it, or lower task.gen_kwargs.max_gen_toks"
            )
        cut = [length > longest for length in mask.sum(dim=1).tolist()]
        inputs = {"input_ids": ids[:, -longest:], "attention_mask": mask[:, -longest:]}
        moved = {name: tensor.to(self.device) for name, tensor in inputs.items()}
        return moved, _prompts(inputs), cut


class RecordedHF(RecordedTransformers):
    """lm-eval's `hf`."""


class RecordedHFMultimodal(RecordedTransformers, HFMultimodalLM):
    """lm-eval's `hf-multimodal`."""

    def together(self, tasks: Sequence[Named], batch_size: str, chat: bool) -> None:
        self.chat_applied = chat  # lm-eval's class would remember it from an earlier task
        super().together(tasks, batch_size, chat)

    def _encode(
        self, requests: list[Instance], room: int
    ) -> tuple[dict[str, torch.Tensor], list[list[int]], list[bool]]:
        if len(requests[0].args) < 3:
            return super()._encode(requests, room)
        images = [
            [
                as_vllm_shows(
                    resize_image(image, self.image_width, self.image_height, self.image_max_side)
                )
                for image in request.args[2]["visual"]
            ]
            for request in requests
        ]
        inputs = self.tok_batch_multimodal_encode([request.args[0] for request in requests], images)
        return dict(inputs), _prompts(inputs), [False] * len(requests)


class _Heard:
    """Stands where lm-eval has its response cache, which is told of every scored request."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.scored: set[Hashable] = set()

    def add_partial(self, kind: str, request: Hashable, answer: Any) -> None:
        self.scored.add(request)
        self._progress.advance(1)


# What the worker asks a runtime for.
__all__ = ["MODEL_CLASSES", "check_engine_args"]

MODEL_CLASSES: dict[str, type[RecordedTransformers]] = {
    "hf": RecordedHF,
    "hf-multimodal": RecordedHFMultimodal,
}


def _key(request: Instance) -> Hashable:
    return (request.task_name, request.doc_id, request.idx)


def _prompts(inputs: Any) -> list[list[int]]:
    """Each row's own tokens, without the padding before them."""
    return [
        tokens[mask.bool()].tolist()
        for tokens, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
    ]
