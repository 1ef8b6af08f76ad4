"""lm-eval's transformers model classes, with requests and records that match those of vLLM."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lm_eval.models.hf_vlms import HFMultimodalLM
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import postprocess_generated_text, resize_image
from transformers import LogitsProcessorList, StoppingCriteriaList

from runner.errors import UserError
from runner.lm.answer import TOO_LONG, Answer
from runner.lm.answering import refuse_without_room
from runner.lm.repeats import SEED, first_seed, label_of, noted, repeats, script_of
from runner.lm.script import CANDIDATES, LABEL, RECORD, REPLAY, REPLAYED
from runner.lm.template import Templated
from runner.plan import TracePlan
from runner.runtimes.hf.batches import Batches, Request
from runner.runtimes.hf.forcing import Forced
from runner.runtimes.hf.generation import Batch, Settings, settle, settled
from runner.runtimes.hf.scoring import Scores, Tokens
from runner.runtimes.hf.tracing import Traced, Tracer
from runner.runtimes.hf.weights import check_engine_args, facts, said
from runner.runtimes.shown import as_vllm_shows
from runner.runtimes.sketching.recorder import Recorder

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

    from runner.lm.answering import Named, Progress
    from runner.lm.journal import Journal
    from runner.outcome import Feeding


# Settings that are a request's own in a batch.
OWN = (SEED, REPLAY, LABEL)


@dataclass(frozen=True)
class _Row:
    """What a row of a batch has of its own."""

    seed: int | None
    script: list[int] | None
    label: str | None = None
    recorded: bool = False


class RecordedHF(Templated, HFLM):
    """lm-eval's `hf` class.

    lm-eval's code builds the model, renders the prompts and scores choices. Generation is done
    here, because theirs differs from what lm-eval does with vLLM: they can cut a prompt in the
    middle of an image, drop an image's transparency, continue after a stop text until all rows have
    produced it, and take sampling settings from the weights.
    """

    chat_applied = False
    _tracer: Tracer | None = None

    def __init__(self, *args: Any, progress: Progress, **kwargs: Any) -> None:
        """Load everything except the weights: configuration, tokenizer, processor."""
        super().__init__(*args, **kwargs)
        self.chat_template_args = self.template_arguments
        self.batches = Batches(progress)
        self._scores = self.cache_hook = Scores(self.batches)

    def _create_model(self, *args: Any, **kwargs: Any) -> None:
        """Defer loading the weights until `start`."""
        self._load = partial(super()._create_model, *args, **kwargs)
        self._model = _NotLoaded(self.config)

    def launch(self) -> None:
        """Do nothing: the weights are loaded in this process."""

    def start(self) -> None:
        """Load the weights, which lm-eval's class would do in `__init__`.

        Raises:
            UserError: with transformers' reason, for example an attention that is not installed.
        """
        wanted = self._model.wanted_on
        try:
            self._load()
        except (ValueError, ImportError) as error:
            raise UserError(f"engine: transformers rejects this: {said(error)}") from error
        self.model.eval()
        self.model.tie_weights()
        if wanted is not None:
            with suppress(ValueError):  # quantized weights stay where they were loaded
                self.model.to(wanted)
        settle(self.model.generation_config, self.tokenizer)

    def check_settings(self, settings: dict[str, Any], images: bool) -> None:
        """Raise a UserError for unknown settings, and for text answers without room."""
        given = {name: value for name, value in settings.items() if name not in OWN}
        known = settled(given, self.max_gen_toks, "", self.think_end_token)
        if not images:
            refuse_without_room(known.room, self.max_length)

    @property
    def batch_size(self) -> int | str:
        size: int | str = self.batch_size_per_gpu
        return size

    @batch_size.setter
    def batch_size(self, size: int | str) -> None:
        self.batch_size_per_gpu = size

    def begin(self, window: int | None, journal: Journal | None) -> None:
        """Prepare for another run. `window` is ignored: each task's batch size is the window."""
        self.batches.begin(journal)

    def begin_trace(self, trace: TracePlan) -> None:
        """Record module outputs from now on."""
        self._tracer = self._tracer or Tracer(self.model)
        self._tracer.recorder = Recorder(trace)

    def end_trace(self, directory: Path) -> None:
        """Write what has been recorded."""
        if self._tracer is not None and self._tracer.recorder is not None:
            self._tracer.recorder.write(directory)
            self._tracer.recorder = None

    def fed(self) -> Feeding:
        """Number of requests of this run, and the time they took."""
        return self.batches.fed(int(self.batch_size))

    def spent(self) -> float:
        """Seconds that the calling task has taken so far."""
        return self.batches.spent()

    def together(self, tasks: Sequence[Named], batch_size: str, chat: bool) -> None:
        """Run tasks one after another."""
        self.chat_applied = chat  # lm-eval's class for images would keep an earlier task's value
        self.batch_size = batch_size if batch_size == "auto" else int(batch_size)
        self.batches.run(tasks, self.forget)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        texts = [""] * len(requests)
        asked = repeats(requests)
        with self.batches.asking("generate_until", len(requests)):
            for places in self._chunks(requests):
                chunk = [asked[place].request for place in places]
                for place, answered in zip(places, self._generated(chunk), strict=True):
                    texts[place] = answered[0].text
                    asked[place].note([answered])
                self.batches.progress.advance(len(places))
        return texts

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> Any:
        with self.batches.asking("loglikelihood", len(requests)):
            return super().loglikelihood(requests, disable_tqdm=True)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> Any:
        with self.batches.asking("loglikelihood_rolling", len(requests)):
            return super().loglikelihood_rolling(requests)

    def resolved(self) -> dict[str, Any]:
        """Properties of the loaded model."""
        return {"model": self.pretrained, "max_model_len": self.max_length, **facts(self.model)}

    def served(self) -> None:
        """None: there is no server."""

    def speculation(self) -> None:
        """None: this engine does not draft tokens."""

    def get_model_info(self) -> dict[str, Any]:
        """An empty dict. lm-eval would query the hub; the run records a digest of the weights."""
        return {}

    def forget(self) -> None:
        """Drop the answers of the task that has ended."""
        self._scores.forget()

    def answers_to(self, request: Instance) -> list[tuple[Answer, bool]]:
        """The answer to each repeat of a request, and whether its prompt was truncated to fit."""
        if request.request_type == "generate_until":
            return noted(request)
        return self._scores.answers_to(request)

    def _loglikelihood_tokens(
        self,
        requests: list[Tokens],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        """lm-eval's scoring, for the requests that no earlier attempt has scored."""
        score = super()._loglikelihood_tokens
        return self._scores.of(
            requests, self.max_length, lambda missing: score(missing, True, override_bs)
        )

    def _model_call(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        self._scores.keep()
        self.batches.step()
        return super()._model_call(*args, **kwargs)

    def _chunks(self, requests: list[Instance]) -> Iterator[list[int]]:
        """Indices of requests that can share a batch: equal settings and similar lengths."""
        alike: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            alike.setdefault(repr(_shared(request)), []).append(place)
        size = int(self.batch_size)
        for places in alike.values():
            places.sort(key=lambda place: -len(requests[place].args[0]))
            yield from (places[start : start + size] for start in range(0, len(places), size))

    def _generated(self, requests: list[Instance]) -> list[tuple[Answer, bool]]:
        """A chunk's answers, each with whether its prompt was truncated; new answers are saved."""
        given = _shared(requests[0])
        recorded = bool(given.pop(RECORD, False))
        eos = self.tok_decode([self.eot_token_id], skip_special_tokens=False)
        settings = settled(given, self.max_gen_toks, eos, self.think_end_token)
        kind = "generate, chat" if self.chat_applied else "generate"
        rows = [
            _Row(first_seed(request), script_of(request), label_of(request), recorded)
            for request in requests
        ]
        asked = [
            Request(
                self._prompt(request),
                kind,
                json.dumps(request.args[1], sort_keys=True, default=repr),
                settings.drawn and row.seed is None,
            )
            for request, row in zip(requests, rows, strict=True)
        ]
        recalled = [self.batches.recall(each) for each in asked]
        missing = [place for place, (_, known) in enumerate(recalled) if known is None]
        answers = {place: known for place, (_, known) in enumerate(recalled) if known is not None}
        if missing:
            new = self._generate(
                [asked[place].prompt for place in missing],
                [rows[place] for place in missing],
                settings,
            )
            answers |= zip(missing, new, strict=True)
            self.batches.keep([(recalled[place][0], answers[place]) for place in missing])
        return [
            (answers[place], self._is_cut(each.prompt, settings.room, answers[place]))
            for place, each in enumerate(asked)
        ]

    def _prompt(self, request: Instance) -> dict[str, Any]:
        """The prompt's text, and its images as the model is shown them."""
        return {"prompt": request.args[0]}

    def _is_cut(self, prompt: dict[str, Any], room: int, answer: Answer) -> bool:
        """Whether a prompt was left-truncated. A prompt with images never is."""
        if "multi_modal_data" in prompt or answer.prompt_tokens < self.max_length - room:
            return False
        return len(self.tok_encode(prompt["prompt"])) > answer.prompt_tokens

    def _generate(
        self, asked: list[dict[str, Any]], rows: list[_Row], settings: Settings
    ) -> list[Answer]:
        """Answers to one batch. A prompt that cannot fit gets an empty answer, as with vLLM."""
        inputs = self._encode(asked, settings.room)
        prompts = _prompts(inputs)
        fits = [len(prompt) < self.max_length for prompt in prompts]
        if not all(fits):
            fitting = list(compress(asked, fits))
            own = list(compress(rows, fits))
            answered = iter(self._generate(fitting, own, settings) if fitting else ())
            return [next(answered) if fit else Answer(0, (), (), (), TOO_LONG) for fit in fits]
        scripts = [row.script for row in rows if row.script is not None]
        rooms = [min(settings.room, self.max_length - len(prompt)) for prompt in prompts]
        if scripts:
            rooms = [max(len(script), 1) for script in scripts]
        batch = Batch(
            self.tokenizer,
            () if scripts else self.model.generation_config.eos_token_id,
            () if scripts else settings.stops,
            prompts,
            rooms,
            self.batches.step,
            CANDIDATES if scripts or rows[0].recorded else 0,
        )
        steered = (
            [Forced(scripts, inputs["input_ids"].shape[1])]
            if scripts
            else settings.drawing([row.seed for row in rows])
        )
        images = [len(each.get("multi_modal_data", {}).get("image", ())) for each in asked]
        traced = [
            Traced(row.label, prompt, shown) if row.label else None
            for row, prompt, shown in zip(rows, prompts, images, strict=True)
        ]
        following = (
            self._tracer.batch(traced, inputs["input_ids"].shape[1])
            if self._tracer is not None
            else nullcontext()
        )
        with torch.inference_mode(), following:
            self.model.generate(
                **inputs,
                max_new_tokens=max(rooms),
                logits_processor=LogitsProcessorList([batch.scores, *steered]),
                stopping_criteria=StoppingCriteriaList([batch]),
                pad_token_id=self.tokenizer.pad_token_id,
                **settings.for_generate,
            )
        answers = batch.answers()
        if scripts:
            return [replace(each, finish_reason=REPLAYED) for each in answers]
        if settings.thoughts is None:
            return answers
        return [
            replace(
                each, text=postprocess_generated_text(each.text, settings.until, settings.thoughts)
            )
            for each in answers
        ]

    def _encode(self, asked: list[dict[str, Any]], room: int) -> dict[str, torch.Tensor]:
        """The model's inputs: prompts padded on the left, and truncated there to leave room."""
        ids, mask = self.tok_batch_encode([each["prompt"] for each in asked])
        refuse_without_room(room, self.max_length)
        longest = self.max_length - room
        inputs = {"input_ids": ids[:, -longest:], "attention_mask": mask[:, -longest:]}
        return {name: tensor.to(self.device) for name, tensor in inputs.items()}


class _NotLoaded:
    """Stands in for the model until its weights are loaded."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.wanted_on: torch.device | None = None

    def to(self, device: torch.device) -> None:
        self.wanted_on = device


class RecordedHFMultimodal(RecordedHF, HFMultimodalLM):
    """lm-eval's `hf-multimodal` class."""

    def _prompt(self, request: Instance) -> dict[str, Any]:
        if len(request.args) < 3:
            return super()._prompt(request)
        images = [
            as_vllm_shows(
                resize_image(image, self.image_width, self.image_height, self.image_max_side)
            )
            for image in request.args[2]["visual"]
        ]
        return {"prompt": request.args[0], "multi_modal_data": {"image": images}}

    def _encode(self, asked: list[dict[str, Any]], room: int) -> dict[str, torch.Tensor]:
        if "multi_modal_data" not in asked[0]:
            return super()._encode(asked, room)
        images = [each["multi_modal_data"]["image"] for each in asked]
        return dict(self.tok_batch_multimodal_encode([each["prompt"] for each in asked], images))


# The names that the worker uses of a runtime module.
__all__ = ["MODEL_CLASSES", "check_engine_args"]

MODEL_CLASSES: dict[str, type[RecordedHF]] = {
    "hf": RecordedHF,
    "hf-multimodal": RecordedHFMultimodal,
}


def _shared(request: Instance) -> dict[str, Any]:
    """A request's generation settings without what each row of a batch has of its own."""
    return {name: value for name, value in request.args[1].items() if name not in OWN}


def _prompts(inputs: Any) -> list[list[int]]:
    """The tokens of each row without its padding."""
    return [
        tokens[mask.bool()].tolist()
        for tokens, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
    ]
