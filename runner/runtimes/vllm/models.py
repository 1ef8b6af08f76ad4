"""lm-eval's vLLM model classes, changed to send one request at a time, many concurrently.

How a request is processed (tokenisation, truncation, stop sequences, images) is lm-eval's unchanged
code. The stream only decides when.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval.models import vllm_causallms
from lm_eval.models.utils import postprocess_generated_text
from lm_eval.models.vllm_causallms import VLLM
from lm_eval.models.vllm_vlms import VLLM_VLM
from vllm import SamplingParams, TokensPrompt

from runner.errors import UserError
from runner.lm.answer import Answer, likelihood
from runner.lm.answering import Named, Progress, refuse_without_room
from runner.lm.images import opened
from runner.lm.repeats import Repeat, noted, repeats
from runner.lm.replaced import replaced
from runner.lm.script import LABEL, RECORD, SETTINGS
from runner.lm.template import Templated
from runner.outcome import Feeding
from runner.plan import TracePlan
from runner.runtimes.vllm.arguments import check_engine_args, resolved_engine
from runner.runtimes.vllm.early import Early, can_start_early
from runner.runtimes.vllm.engine import PromptError, Question, generated, steps_in_this_process
from runner.runtimes.vllm.gate import Gate, NotStarted, Output
from runner.runtimes.vllm.speculation import between, counted, counting
from runner.runtimes.vllm.stream import Stream, Tally
from runner.served import Served, Speculation

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

    from runner.lm.journal import Journal

# Largest default for the number of concurrent requests. It keeps the engine full
# (docs/performance.md) without holding every image of a task in memory.
LARGEST_WINDOW = 256


class FedVLLM(Templated, VLLM):
    """lm-eval's `vllm` class, with requests sent through the stream and their answers recorded."""

    _chunked = False

    def __init__(self, *args: Any, progress: Progress, **kwargs: Any) -> None:
        """Load everything except the engine: tokenizer, processor, chat template."""
        with replaced(vllm_causallms, "LLM", NotStarted):
            super().__init__(*args, **kwargs)
        self.progress = progress
        self._engine: Early[Any] = Early(self._new_engine)

    def launch(self) -> None:
        """Begin to start the engine if it can start while requests are built."""
        if can_start_early(os.environ):
            self._engine.begin()

    def start(self) -> None:
        """Start the engine, which `__init__` does not, or wait until it has started."""
        max_length = self.max_length
        engine = self._engine.wait()
        self.stream = Stream(engine, self.progress)
        self.model: Gate = Gate(engine, self.stream, max_length)

    def _new_engine(self) -> Any:
        return vllm_causallms.LLM(**self.model_args, **counting(self.model_args))

    def check_settings(self, settings: dict[str, Any], images: bool) -> None:
        """Raise a UserError for settings that vLLM rejects, and for text answers without room.

        lm-eval would cut the whole prompt to make room for the answer.
        """
        try:
            known, until, length = self.modify_gen_kwargs(settings, None, self.max_gen_toks)
            SamplingParams(max_tokens=length, stop=until, **known)
        except Exception as error:  # ValueError up to vLLM 0.23, a class of its own in 0.32
            raise UserError(f"generation_kwargs: vLLM rejects {settings}: {error}") from error
        if not images:
            refuse_without_room(length, self.max_length)

    @staticmethod
    def modify_gen_kwargs(
        gen_kwargs: dict[str, Any], eos: Any = None, default_max_gen_toks: int = 256
    ) -> tuple[dict[str, Any], list[str], int]:
        """lm-eval's method, with settings of the runner's own in vLLM's extra arguments."""
        settings = dict(gen_kwargs)
        names = (*SETTINGS.values(), LABEL, RECORD)
        own = {name: settings.pop(name) for name in names if name in settings}
        known, until, length = VLLM.modify_gen_kwargs(settings, eos, default_max_gen_toks)
        return (known | {"extra_args": own} if own else known), until, length

    def begin(self, window: int | None, journal: Journal | None) -> None:
        """Prepare for another run, which must not depend on what the engine computed before.

        `window` is the number of concurrent requests; None derives it from the engine's
        max_num_seqs.
        """
        self.model.reset_prefix_cache()
        self._drafted = counted(self.stream.engine)
        self.stream.window = window or min(self._concurrent(), LARGEST_WINDOW)
        self.stream.tally = Tally()
        self.stream.journal = journal

    def begin_trace(self, trace: TracePlan) -> None:
        """Record module outputs from now on; `tracing.Tracing` is the engine's extension.

        An image that an earlier run has shown must be encoded again.
        """
        self.model.llm_engine.reset_encoder_cache()
        self.model.collective_rpc("begin_trace", args=(asdict(trace),))

    def end_trace(self, directory: Path) -> None:
        """Write what every rank has recorded."""
        self.model.collective_rpc("end_trace", args=(str(directory),))

    def fed(self) -> Feeding:
        """Engine usage since the run began."""
        tally = self.stream.tally
        inside = self._computes_here()

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
        """Run tasks with their requests in one stream, or in chunks of a fixed `batch_size`."""
        self.chat_applied = chat  # lm-eval's class for images would keep an earlier task's value
        chunk = None if batch_size == "auto" else int(batch_size)
        self._chunked = chunk is not None
        # lm-eval uses this size for the windows of rolling log-likelihoods, one text at a
        # time.
        self.batch_size = chunk or self.stream.window
        self.stream.run(tasks, chunk)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        def generate(asked: Repeat) -> str:
            text: str
            request = asked.request
            try:
                (text,) = super(FedVLLM, self).generate_until([_with_images(request)], True)
            except PromptError as error:
                raise UserError(
                    f"task.names={request.task_name}: vLLM rejects the prompt of document "
                    f"{request.doc_id}: {error}"
                ) from error
            self._note(asked)
            return text

        return self._each("generate_until", generate, requests)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> Any:
        def score(asked: Repeat) -> Any:
            (scored,) = super(FedVLLM, self).loglikelihood([asked.request], True)
            self._note(asked)
            return scored

        return self._each("loglikelihood", score, requests)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> Any:
        def score(asked: Repeat) -> Any:
            (scored,) = super(FedVLLM, self).loglikelihood_rolling([asked.request], True)
            return scored  # the sum over several windows; no single answer stands for it

        return self._each("loglikelihood_rolling", score, requests)

    def spent(self) -> float:
        """Seconds that the calling task has taken, including its share of the engine's time."""
        return self.stream.spent()

    def resolved(self) -> dict[str, Any]:
        """vLLM's resolved configuration."""
        return resolved_engine(self.model.llm_engine.vllm_config)

    def served(self) -> Served | None:
        """None: there is no server."""
        return None

    def speculation(self) -> Speculation | None:
        """vLLM's counts of speculative decoding since the run began; None without it."""
        return between(self._drafted, counted(self.stream.engine))

    def answers_to(self, request: Instance) -> list[tuple[Answer, bool]]:
        """The answer to each repeat of a request, and whether its prompt was truncated to fit."""
        return noted(request)

    def _concurrent(self) -> int:
        """The number of requests that the engine can work on at once."""
        return int(self.model.llm_engine.vllm_config.scheduler_config.max_num_seqs)

    def _computes_here(self) -> bool:
        """Whether a step of the stream is a step of the engine, in this process."""
        return steps_in_this_process(self.stream.engine)

    def _each(
        self, kind: str, function: Callable[[Repeat], Any], requests: list[Instance]
    ) -> list[Any]:
        """Results of `function` for all requests, in their order.

        Like lm-eval, it starts with the longest prompts, so that running out of memory happens
        early.
        """
        order = sorted(range(len(requests)), key=lambda n: self._place(requests[n]))
        asked = repeats(requests)
        results = self.stream.each(kind, function, [asked[n] for n in order])
        back = {n: result for n, result in zip(order, results, strict=True)}
        return [back[n] for n in range(len(requests))]

    def _place(self, request: Instance) -> tuple[int, str]:
        """Sort key of a request: longest first.

        In chunks it is lm-eval's own key, so that the chunks hold the same requests.
        """
        text = "".join(part for part in request.args[:2] if isinstance(part, str))
        return (-len(self.tok_encode(text)), text) if self._chunked else (-len(text), "")

    def _note(self, asked: Repeat) -> None:
        """Save the engine's answers with the request."""
        asked.note(
            [
                (answer, self._is_cut(asked.original, question))
                for question, answer in self.stream.asked()
            ]
        )

    def _is_cut(self, request: Instance, question: Question) -> bool:
        tokens = question.prompt.get("prompt_token_ids")
        if tokens is None or question.cut:
            return question.cut
        # A replay asks for fewer tokens than lm-eval left room for.
        if question.appended is None and len(tokens) + question.params.max_tokens < self.max_length:
            return False
        return len(self.tok_encode(request.args[0])) > len(tokens) - (question.appended or 0)

    def _loglikelihood_tokens(
        self, requests: list[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """lm-eval's method with all requests concurrent and each output dropped once it is read."""
        longest = self.max_length - 1  # the engine generates one token in addition
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
                    fits=start > 0,  # the first token of a text has no log-likelihood
                )
            )
        answers = self.stream.ask(questions)
        return [(likelihood(answer), answer.greedy) for answer in answers]

    def _scored(self, tokens: list[int], start: int, output: Any) -> Answer:
        if output.prompt_logprobs is None:  # a server has found the prompt too long
            return generated(output)
        scored, greedy = self._parse_logprobs(tokens, output, start)
        return replace(
            generated(output),
            scored=float(scored),
            greedy=greedy,
            scored_tokens=len(tokens) - start,
        )


class FedVLM(FedVLLM, VLLM_VLM):
    """lm-eval's `vllm-vlm` class."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # vLLM's cache of preprocessed images only grows (up to 4 GiB in each process), and
        # an evaluation rarely shows an image twice in a row.
        super().__init__(*args, **{"mm_processor_cache_gb": 0, **kwargs})

    def _multimodal_model_generate(
        self,
        requests: Any = None,
        generate: bool = False,
        max_tokens: int | None = None,
        stop: list[str] | None = None,
        **settings: Any,
    ) -> Any:
        """lm-eval's method, with stop texts applied only after a model's reasoning.

        A task's stop texts may occur in the reasoning, where they must not end the answer.
        """
        if not self.think_end_token:
            return super()._multimodal_model_generate(
                requests, generate, max_tokens, stop, **settings
            )
        ends = [text for text in stop or () if text == self.tokenizer.decode(self.eot_token_id)]
        outputs = super()._multimodal_model_generate(
            requests, generate, max_tokens, ends, **settings
        )
        return [Output(self._without_thoughts(output.outputs[0], stop)) for output in outputs]

    def _without_thoughts(self, answer: Answer, stop: list[str] | None) -> Answer:
        text = postprocess_generated_text(answer.text, stop, self.think_end_token)
        return replace(answer, text=text)


def _with_images(request: Instance) -> Instance:
    """The request with its own copies of the images, whose pixels are freed with the request."""
    if len(request.args) < 3 or "visual" not in request.args[2]:
        return request
    context, settings, shown = request.args
    images = [opened(image) for image in shown["visual"]]
    return replace(request, arguments=(context, settings, {**shown, "visual": images}))


MODEL_CLASSES: dict[str, type[FedVLLM]] = {"vllm": FedVLLM, "vllm-vlm": FedVLM}

__all__ = ["MODEL_CLASSES", "check_engine_args"]
