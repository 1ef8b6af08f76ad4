"""lm-eval's own vLLM model classes, asked one request at a time, many at once.

What happens to a request (tokenising, truncation, stop sequences, images) is lm-eval's code,
untouched; the stream decides when.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from lm_eval.models import vllm_causallms
from lm_eval.models.utils import postprocess_generated_text
from lm_eval.models.vllm_causallms import VLLM
from lm_eval.models.vllm_vlms import VLLM_VLM
from vllm import EngineArgs, SamplingParams, TokensPrompt

from runner.errors import UserError
from runner.lm.answer import Answer, likelihood
from runner.lm.answering import Named, Progress
from runner.lm.engine import LOGPROBS, PromptError, Question, generated, steps_in_this_process
from runner.lm.images import opened
from runner.lm.replaced import replaced
from runner.lm.resolved import check_engine_args, resolved_engine
from runner.lm.stream import Stream, Tally
from runner.lm.template import Templated
from runner.outcome import Feeding

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

    from runner.lm.journal import Journal

# Requests in flight where the configuration leaves it open: what the engine can run at once, up
# to a number that keeps it full (docs/performance.md) without holding every image of a task.
LARGEST_WINDOW = 256


class FedModel(Templated, VLLM):
    """What both classes share: the stream, and the way back from a request to its answers."""

    _chunked = False

    def __init__(self, *args: Any, progress: Progress, **kwargs: Any) -> None:
        """Everything but the engine: tokenizer, processor, chat template."""
        with replaced(vllm_causallms, "LLM", _NotStarted):
            super().__init__(*args, **kwargs)
        self.progress = progress

    def start(self) -> None:
        """Start the engine, which `__init__` left out."""
        engine = vllm_causallms.LLM(**self.model_args)
        self.stream = Stream(engine, self.progress)
        self.model: _Gate = _Gate(engine, self.stream)

    def check_settings(self, settings: dict[str, Any]) -> None:
        """Raise a UserError, with vLLM's reason, for generation settings that it refuses."""
        try:
            known, until, length = self.modify_gen_kwargs(settings, None, self.max_gen_toks)
            SamplingParams(max_tokens=length, stop=until, **known)
        except Exception as error:  # ValueError up to vLLM 0.23, a class of its own in 0.32
            raise UserError(f"generation_kwargs: vLLM rejects {settings}: {error}") from error

    def begin(self, window: int | None, journal: Journal | None) -> None:
        """Another run: it must not depend on what this engine was asked before it.

        `window` is the number of requests in flight; None leaves it to the engine's size.
        """
        self.model.reset_prefix_cache()
        largest = self.model.llm_engine.vllm_config.scheduler_config.max_num_seqs
        self.stream.window = window or min(largest, LARGEST_WINDOW)
        self.stream.tally = Tally()
        self.stream.journal = journal

    def fed(self) -> Feeding:
        """How the engine was fed since the run began."""
        tally = self.stream.tally
        inside = steps_in_this_process(self.stream.engine)

        def share(seconds: float) -> float | None:
            return seconds / tally.phase_s if tally.asked and tally.phase_s else None

        return Feeding(
            window=int(self.batch_size) if self._chunked else self.stream.window,
            steps=tally.steps,
            asked=tally.asked,
            resumed=tally.resumed,
            seconds=tally.phase_s,
            stepping=share(tally.stepping_s) if inside else None,
            queued=share(tally.queued_s) if not inside else None,
        )

    def together(self, tasks: Sequence[Named], batch_size: str, chat: bool) -> None:
        """Run tasks with their requests in one stream, or in lm-eval's chunks of a number."""
        self.chat_applied = chat  # which lm-eval's class for images otherwise never forgets
        chunk = None if batch_size == "auto" else int(batch_size)
        self._chunked = chunk is not None
        # What lm-eval cuts by itself are the windows of a rolling log-likelihood, text by text.
        self.batch_size = chunk or self.stream.window
        self.stream.run(tasks, chunk)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        def generate(request: Instance) -> str:
            text: str
            try:
                (text,) = super(FedModel, self).generate_until([_with_images(request)], True)
            except PromptError as error:
                raise UserError(
                    f"task.names={request.task_name}: vLLM rejects the prompt of document "
                    f"{request.doc_id}: {error}"
                ) from error
            self._note(request)
            return text

        return self._each("generate_until", generate, requests)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> Any:
        def score(request: Instance) -> Any:
            (scored,) = super(FedModel, self).loglikelihood([request], True)
            self._note(request)
            return scored

        return self._each("loglikelihood", score, requests)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> Any:
        def score(request: Instance) -> Any:
            (scored,) = super(FedModel, self).loglikelihood_rolling([request], True)
            return scored  # summed over windows, which no single answer stands for

        return self._each("loglikelihood_rolling", score, requests)

    def spent(self) -> float:
        """Seconds that the task which calls it has taken: its own, and its share of the engine."""
        return self.stream.spent()

    def resolved(self) -> dict[str, Any]:
        """What vLLM made of the arguments."""
        return resolved_engine(self.model.llm_engine.vllm_config)

    def answers_to(self, request: Instance) -> list[tuple[Answer, bool]]:
        """The answer to each repeat of a request, and whether its prompt was cut to fit."""
        return list(vars(request).get("noted", ()))

    def _each(
        self, kind: str, function: Callable[[Instance], Any], requests: list[Instance]
    ) -> list[Any]:
        """Longest prompts first, as lm-eval has it: what runs out of memory does so at once."""
        order = sorted(range(len(requests)), key=lambda n: self._place(requests[n]))
        results = self.stream.each(kind, function, [requests[n] for n in order])
        back = {n: result for n, result in zip(order, results, strict=True)}
        return [back[n] for n in range(len(requests))]

    def _place(self, request: Instance) -> tuple[int, str]:
        """In chunks, lm-eval's own order, by tokens: they hold the same requests then."""
        text = "".join(part for part in request.args[:2] if isinstance(part, str))
        return (-len(self.tok_encode(text)), text) if self._chunked else (-len(text), "")

    def _note(self, request: Instance) -> None:
        """Keep with the request what the engine answered; once for each of its repeats."""
        for question, answer in self.stream.asked():
            vars(request).setdefault("noted", []).append((answer, self._is_cut(request, question)))

    def _is_cut(self, request: Instance, question: Question) -> bool:
        tokens = question.prompt.get("prompt_token_ids")
        if tokens is None or question.cut:
            return question.cut
        if len(tokens) + question.params.max_tokens < self.max_length:
            return False
        return len(self.tok_encode(request.args[0])) > len(tokens)

    def _loglikelihood_tokens(
        self, requests: list[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """The steps of lm-eval's, side by side, and an output read and dropped as it comes."""
        longest = self.max_length - 1  # the engine generates one token beside
        questions = []
        for _, context, continuation in requests:
            tokens = context + continuation
            start = len(context) - max(0, len(tokens) - longest)
            kept = tokens[-longest:]
            questions.append(
                Question(
                    prompt=TokensPrompt(prompt_token_ids=kept),
                    params=SamplingParams(
                        temperature=0, prompt_logprobs=1, max_tokens=1, detokenize=False
                    ),
                    kind=f"score from {start}",
                    read=partial(self._scored, kept, start),
                    cut=len(kept) < len(tokens),
                    fits=start > 0,  # the first token of a text has no likelihood
                )
            )
        answers = self.stream.ask(questions)
        return [(likelihood(answer), answer.greedy) for answer in answers]

    def _scored(self, tokens: list[int], start: int, output: Any) -> Answer:
        scored, greedy = self._parse_logprobs(tokens, output, start)
        return replace(generated(output), scored=float(scored), greedy=greedy)


class FedVLLM(FedModel):
    """lm-eval's `vllm`."""


class FedVLM(FedModel, VLLM_VLM):
    """lm-eval's `vllm-vlm`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # vLLM's cache of preprocessed images only grows (to 4 GiB in each process), and an
        # evaluation seldom shows an image twice in a row.
        super().__init__(*args, **{"mm_processor_cache_gb": 0, **kwargs})

    def _multimodal_model_generate(
        self,
        requests: Any = None,
        generate: bool = False,
        max_tokens: int | None = None,
        stop: list[str] | None = None,
        **settings: Any,
    ) -> Any:
        """lm-eval's; a task's stop texts may stand in thoughts, and end what comes after them."""
        if not self.think_end_token:
            return super()._multimodal_model_generate(
                requests, generate, max_tokens, stop, **settings
            )
        ends = [text for text in stop or () if text == self.tokenizer.decode(self.eot_token_id)]
        outputs = super()._multimodal_model_generate(
            requests, generate, max_tokens, ends, **settings
        )
        return [_Output(self._without_thoughts(output.outputs[0], stop)) for output in outputs]

    def _without_thoughts(self, answer: Answer, stop: list[str] | None) -> Answer:
        text = postprocess_generated_text(answer.text, stop, self.think_end_token)
        return replace(answer, text=text)


class _NotStarted:
    """Stands where lm-eval expects a `vllm.LLM`, before there is one: knows the model's settings.

    lm-eval picks the chat template by them, so requests can be built before the engine starts.
    """

    def __init__(self, **arguments: Any) -> None:
        self._arguments = arguments

    @property
    def llm_engine(self) -> _NotStarted:
        return self

    @cached_property
    def model_config(self) -> Any:
        """vLLM's `ModelConfig`, as the engine will have it."""
        return EngineArgs(**self._arguments).create_model_config()


class _Gate:
    """Stands where lm-eval expects a `vllm.LLM`: what it asks goes through the stream."""

    def __init__(self, llm: Any, stream: Stream) -> None:
        self._llm = llm
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._llm, name)

    def generate(
        self,
        prompts: Sequence[Any],
        sampling_params: Any = None,
        use_tqdm: Any = None,
        lora_request: Any = None,
    ) -> list[_Output]:
        """vLLM's `generate`, of whose outputs lm-eval reads the text alone."""
        many = isinstance(sampling_params, Sequence)
        params = list(sampling_params) if many else [sampling_params] * len(prompts)
        for each in params:
            each.logprobs = LOGPROBS
        questions = [
            Question(prompt, each, "generate", generated, lora_request)
            for prompt, each in zip(prompts, params, strict=True)
        ]
        return [_Output(answer) for answer in self._stream.ask(questions)]


class _Output:
    """A `vllm.RequestOutput` as far as lm-eval looks into it."""

    def __init__(self, answer: Answer) -> None:
        self.outputs = [answer]


def _with_images(request: Instance) -> Instance:
    """The request with images of its own: their pixels go when it does."""
    if len(request.args) < 3 or "visual" not in request.args[2]:
        return request
    context, settings, shown = request.args
    images = [opened(image) for image in shown["visual"]]
    return replace(request, arguments=(context, settings, {**shown, "visual": images}))


MODEL_CLASSES: dict[str, type[FedModel]] = {"vllm": FedVLLM, "vllm-vlm": FedVLM}

__all__ = ["MODEL_CLASSES", "check_engine_args"]
