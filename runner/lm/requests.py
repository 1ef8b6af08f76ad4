"""A task's requests as lm-eval builds them, compared with what was configured.

What cannot be asked as configured is refused; what differs in some samples is noted, and becomes
part of the task's outcome (`runner.outcome.Departure`). Whoever has lm-eval build requests, before
the engine starts or after, has them compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.task import Task

from runner.config.overrides import in_yaml
from runner.errors import UserError
from runner.lm.answering import Model
from runner.lm.conversation import PLACEHOLDER, Rendered, render
from runner.lm.examples import Examples
from runner.outcome import Departure
from runner.plan import Evaluation, Plan

# lm-eval's own default of `max_images`.
ALL_IMAGES = 999
# What lm-eval calls the longest answer, the name it prefers first.
LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
SAMPLING = ("do_sample", "temperature")


class Requests:
    """Follows lm-eval while it builds the requests of one task.

    `greedy_by_default` are documents whose task says nothing of sampling, `drawn` those whose
    answers are drawn at random; `settings` are all generation settings of the task, spelled out.
    """

    def __init__(self, name: str, task: Task, evaluation: Evaluation, plan: Plan) -> None:
        self._thinks = bool(plan.engine_args.get("enable_thinking"))
        self._most_images = int(plan.engine_args.get("max_images", ALL_IMAGES))
        # Documents with more images than that, and how many they have.
        self.too_many_images: dict[int, int] = {}
        self.greedy_by_default: set[int] = set()
        self.drawn: set[int] = set()
        self.name = name
        self.settings: dict[str, dict[str, Any]] = {}
        self._task, self._evaluation, self._plan = task, evaluation, plan
        self._found: dict[tuple[str, str], set[int]] = {}
        self._rendered: list[Rendered] = []
        self._examples = Examples(task)
        self._follow(task)

    @property
    def departures(self) -> list[Departure]:
        """What differs from what was configured, in how many samples."""
        return [
            Departure(kind, said, len(documents), self.name, min(documents))
            for (kind, said), documents in self._found.items()
        ]

    def _follow(self, task: Task) -> None:
        context, construct = task.fewshot_context, task.construct_requests

        def fewshot_context(doc: Any, *args: Any, **kwargs: Any) -> Any:
            self._rendered = []
            self._examples.begin()
            return context(doc, *args, **self._rendering(kwargs))

        def construct_requests(doc: Any, ctx: Any, **kwargs: Any) -> Any:
            built = construct(doc, ctx, **self._rendering(kwargs))
            number = kwargs["metadata"][1]
            self._compare_prompt(doc, number)
            for request in built if isinstance(built, list) else [built]:
                self._compare(request, number)
            return built

        task.fewshot_context = fewshot_context
        task.construct_requests = construct_requests

    def _rendering(self, given: dict[str, Any]) -> dict[str, Any]:
        """Arguments of lm-eval's, whose chat template is followed where there is one."""
        template: Callable[..., str] | None = given.get("chat_template")
        if template is None:
            return given

        def rendered(history: list[dict[str, Any]], add_generation_prompt: bool = True) -> str:
            self._rendered.append(render(template, history, add_generation_prompt))
            return self._rendered[-1].prompt

        return {**given, "chat_template": rendered}

    def _compare_prompt(self, doc: Any, number: int) -> None:
        """What concerns all requests about a document."""
        shots = self._evaluation.num_fewshot
        fixed = self._task.config.num_fewshot
        if shots is not None and fixed is not None and fixed != shots:
            raise UserError(
                f"task.num_fewshot={shots}: {self.name} sets num_fewshot: {fixed} in its file, and "
                f"lm-eval does not override it; set {fixed}, or null"
            )
        lost = {role for each in self._rendered for role in each.lost}
        if "system" in lost and self._plan.system_instruction:
            raise UserError(
                "task.system_instruction: the chat template of "
                f"{self._plan.engine_args['pretrained']} drops system messages, so {self.name} "
                "would run without it; remove it, or set task.apply_chat_template=false"
            )
        if "system" in lost:
            self._note(
                number,
                "system message lost",
                "the task's description is missing: the chat template drops system messages",
            )
        if lost - {"system"}:
            self._note(number, "message lost", "the chat template drops part of the conversation")
        if self._examples.hold(doc):
            self._note(
                number, "own answer", "the few-shot examples include the question and its answer"
            )

    def _compare(self, request: Instance, number: int) -> None:
        rolling = request.request_type == "loglikelihood_rolling"  # a text, without a prompt
        if rolling and self._plan.system_instruction:
            self._note(number, "system message lost", "the task has no prompt for a system message")
        if self._evaluation.apply_chat_template and not (rolling or self._rendered):
            self._note(number, "template ignored", "the task does not apply the chat template")
        if request.request_type == "loglikelihood" and self._thinks:
            raise UserError(
                f"model.enable_thinking=true (or in model.chat_template_args): {self.name} scores "
                "given answers, and lm-eval does not support thinking there; choose a task that "
                "generates its answers"
            )
        if request.request_type == "generate_until":
            self._compare_sampling(request.args[1], number)
        images = request.args[2].get("visual", []) if len(request.args) > 2 else []
        if images or any(each.placeholders for each in self._rendered):
            self._compare_images(request.args[0], images, number)

    def _compare_sampling(self, settings: dict[str, Any], number: int) -> None:
        """lm-eval documents greedy as its default, and leaves vLLM to sample at temperature 1."""
        wanted = self._plan.gen_kwargs
        for name, value in wanted.items():
            if settings.get(name) != value:
                self._note(
                    number, "setting ignored", f"the task ignores task.gen_kwargs.{name}={value}"
                )
        length = next((name for name in LENGTHS if name in settings), None)
        for name in LENGTHS:
            if name in wanted and name != length:
                raise UserError(
                    f"task.gen_kwargs.{name}={wanted[name]}: {self.name} sets {length}, which "
                    f"lm-eval prefers; use task.gen_kwargs.{length}"
                )
        self.settings.setdefault(repr(settings), settings)
        given = {name: settings[name] for name in SAMPLING if settings.get(name) is not None}
        if not given:
            settings["temperature"] = 0.0
            self.greedy_by_default.add(number)
        elif given.get("do_sample", True) and given.get("temperature", 1.0):
            self.drawn.add(number)
        elif any(wanted.get(name) for name in SAMPLING):
            (name, value), *_ = ((n, wanted[n]) for n in SAMPLING if wanted.get(n))
            others = " and ".join(f"{n}={in_yaml(v)}" for n, v in given.items())
            raise UserError(
                f"task.gen_kwargs.{name}={in_yaml(value)}: {self.name} would still be decoded "
                f"greedily because of {others}; set task.gen_kwargs.do_sample=true and a "
                "task.gen_kwargs.temperature above 0"
            )

    def _compare_images(self, prompt: str, images: list[Any], number: int) -> None:
        shown = min(len(images), self._most_images)
        if shown < len(images):
            self.too_many_images[number] = len(images)
        if self._rendered:
            places = sum(each.placeholders for each in self._rendered)
        else:
            places = min(prompt.count(PLACEHOLDER), self._most_images)
        if places == shown:
            return
        strict = images and self._plan.backend == "hf-multimodal"
        if places < shown or strict:
            raise UserError(
                f"task.names={self.name}: the prompt of document {number} has "
                f"{_counted(places, 'image placeholder')} and {_counted(shown, 'image')}; fix the "
                f"task's doc_to_text (each {PLACEHOLDER} stands for one image) or its data"
            )
        self._note(
            number, "placeholder without image", "the prompt has more placeholders than images"
        )

    def _note(self, number: int, kind: str, said: str) -> None:
        self._found.setdefault((kind, said), set()).add(number)


def refused_settings(lm: Model, tasks: Iterable[Requests]) -> list[str]:
    """A problem for each task with generation settings that the engine would refuse."""
    problems = []
    for task in tasks:
        try:
            for settings in task.settings.values():
                lm.check_settings(settings)
        except UserError as error:
            problems += [f"task.names={task.name}: {each}" for each in error.problems]
    return problems


def hidden_images(tasks: Iterable[Requests], allowed: int | None) -> list[str]:
    """A problem for the tasks of a group if some of their images would not be shown."""
    found = [many for task in tasks for many in task.too_many_images.values()]
    if not found:
        return []
    names = ", ".join(task.name for task in tasks if task.too_many_images)
    return [
        f"model.max_images={allowed}: {_counted(len(found), 'question')} of {names} "
        f"{'has' if len(found) == 1 else 'have'} more images; set model.max_images={max(found)}"
    ]


def departures(tasks: Iterable[Requests]) -> tuple[Departure, ...]:
    """Those of a group's tasks, each kind once."""
    found: dict[tuple[str, str], Departure] = {}
    for each in (departure for task in tasks for departure in task.departures):
        first = found.setdefault((each.kind, each.said), each)
        if first is not each:
            found[each.kind, each.said] = replace(first, samples=first.samples + each.samples)
    return tuple(found.values())


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
