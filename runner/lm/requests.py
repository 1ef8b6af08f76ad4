"""Compares a task's requests, as lm-eval builds them, with the configuration.

A request that cannot be sent as configured is an error. A difference in some samples is recorded
and becomes part of the task's outcome (`runner.outcome.Departure`). The comparison happens whenever
lm-eval builds requests, whether before or after the engine starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import replace
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.task import Task

from runner.config.overrides import in_yaml
from runner.config.rules import LENGTHS
from runner.errors import UserError
from runner.language import N_
from runner.lm.answering import Model
from runner.lm.conversation import PLACEHOLDER, Rendered, render
from runner.lm.examples import Examples
from runner.lm.repeats import SEED, seed_of
from runner.lm.script import LABEL, SETTINGS, read_script
from runner.outcome import Departure
from runner.plan import Evaluation, Plan, ReplayPlan

# lm-eval's own default for `max_images`.
ALL_IMAGES = 999
SAMPLING = ("do_sample", "temperature")


class Requests:
    """Checks each request of one task while lm-eval builds it.

    `greedy_by_default` are documents whose task sets no sampling options; `drawn` are documents
    whose answers are sampled at random. `settings` are all distinct generation settings of the
    task.
    """

    def __init__(self, name: str, task: Task, evaluation: Evaluation, plan: Plan) -> None:
        self._thinks = bool(plan.engine_args.get("enable_thinking"))
        self._most_images = int(plan.engine_args.get("max_images", ALL_IMAGES))
        # Documents with more images than the limit, and their number of images.
        self.too_many_images: dict[int, int] = {}
        self.greedy_by_default: set[int] = set()
        self.drawn: set[int] = set()
        self.name = name
        # Generation settings; the key says in addition whether their requests show images.
        self.settings: dict[tuple[str, bool], dict[str, Any]] = {}
        self._task, self._evaluation, self._plan = task, evaluation, plan
        self._found: dict[tuple[str, str], set[int]] = {}
        self._rendered: list[Rendered] = []
        self._examples = Examples(task)
        self._follow(task)

    def departures(self, asked: Set[int]) -> list[Departure]:
        """Differences from the configuration, with the number of asked samples each one affects."""
        return [
            Departure(kind, said, len(documents), self.name, min(documents))
            for (kind, said), found in self._found.items()
            if (documents := found & asked)
        ]

    def _follow(self, task: Task) -> None:
        context, construct = task.fewshot_context, task.construct_requests

        def fewshot_context(doc: Any, *args: Any, **kwargs: Any) -> Any:
            self._rendered = []
            self._examples.begin()
            return context(doc, *args, **self._rendering(kwargs))

        def construct_requests(doc: Any, ctx: Any, **kwargs: Any) -> Any:
            name, number, repeats = kwargs["metadata"]
            asked = {"metadata": (name, number, (repeats or 1) * self._evaluation.samples)}
            built = construct(doc, ctx, **self._rendering(kwargs | asked))
            self._compare_prompt(doc, number)
            requests = built if isinstance(built, list) else [built]
            if self._plan.replay is not None:
                self._check_replayable(requests)
            for request in requests:
                self._compare(request, number)
            return built

        task.fewshot_context = fewshot_context
        task.construct_requests = construct_requests

    def _rendering(self, given: dict[str, Any]) -> dict[str, Any]:
        """lm-eval's keyword arguments, with a chat template that records what it renders."""
        template: Callable[..., str] | None = given.get("chat_template")
        if template is None:
            return given

        def rendered(history: list[dict[str, Any]], add_generation_prompt: bool = True) -> str:
            self._rendered.append(render(template, history, add_generation_prompt))
            return self._rendered[-1].prompt

        return {**given, "chat_template": rendered}

    def _compare_prompt(self, doc: Any, number: int) -> None:
        """Check what concerns all requests of a document."""
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
                N_("the task's description is missing: the chat template drops system messages"),
            )
        if lost - {"system"}:
            self._note(
                number, "message lost", N_("the chat template drops part of the conversation")
            )
        if self._examples.hold(doc):
            self._note(
                number,
                "answer in examples",
                N_("the few-shot examples include the question and its answer"),
            )

    def _compare(self, request: Instance, number: int) -> None:
        rolling = request.request_type == "loglikelihood_rolling"  # has no prompt
        if rolling and self._plan.system_instruction:
            self._note(
                number, "system message lost", N_("the task has no prompt for a system message")
            )
        if self._evaluation.apply_chat_template and not (rolling or self._rendered):
            self._note(number, "template ignored", N_("the task does not apply the chat template"))
        if request.request_type == "loglikelihood" and self._thinks:
            raise UserError(
                f"model.enable_thinking=true (or in model.chat_template_args): {self.name} scores "
                "given answers, and lm-eval does not support thinking there; choose a task that "
                "generates its answers"
            )
        images = request.args[2].get("visual", []) if len(request.args) > 2 else []
        if request.request_type == "generate_until":
            # Before a seed of its own makes each request's settings different.
            self.settings.setdefault((repr(request.args[1]), bool(images)), request.args[1])
            if self._plan.replay is not None:
                shows = len(request.args) > 2 and "visual" in request.args[2]
                self._replay(request, number, self._plan.replay, shows)
            else:
                self._compare_sampling(request, number)
        if images or any(each.placeholders for each in self._rendered):
            self._compare_images(request.args[0], images, number)

    def _compare_sampling(self, request: Instance, number: int) -> None:
        """Check a request's generation settings; decode greedily if it sets no sampling option.

        lm-eval documents greedy decoding as its default, but vLLM would sample at temperature 1.
        """
        settings, wanted = request.args[1], self._evaluation.gen_kwargs
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
        given = {name: settings[name] for name in SAMPLING if settings.get(name) is not None}
        if not given:
            settings["temperature"] = 0.0
            self.greedy_by_default.add(number)
        elif given.get("do_sample", True) and given.get("temperature", 1.0):
            self.drawn.add(number)
            seed = seed_of(self._plan.seed, self.name, number, request.idx)
            settings.setdefault(SEED, seed)
        elif any(wanted.get(name) for name in SAMPLING):
            (name, value), *_ = ((n, wanted[n]) for n in SAMPLING if wanted.get(n))
            others = " and ".join(f"{n}={in_yaml(v)}" for n, v in given.items())
            raise UserError(
                f"task.gen_kwargs.{name}={in_yaml(value)}: {self.name} would still be decoded "
                f"greedily because of {others}; set task.gen_kwargs.do_sample=true and a "
                "task.gen_kwargs.temperature above 0"
            )

    def _check_replayable(self, requests: list[Instance]) -> None:
        """Check that a document's answers can be told apart in the reference run's samples."""
        if len(requests) > 1 and any(r.request_type == "generate_until" for r in requests):
            raise UserError(
                f"verdict.rule=replay: {self.name} generates an answer and sends other requests "
                "for the same document, which can't be replayed; use another rule for this task"
            )

    def _replay(self, request: Instance, number: int, replay: ReplayPlan, images: bool) -> None:
        """Add the tokens of the reference run's answers to a request's settings."""
        if images and replay.way == "prefill":
            raise UserError(
                f"verdict.replay.way=prefill: {self.name} shows images, and only prompts of text "
                "can be extended by an answer's tokens; use verdict.replay.way=decode"
            )
        tokens = read_script(replay.samples).of(self.name, number)
        if len(tokens) < (request.repeats or 1):
            raise UserError(
                f"task.samples={self._evaluation.samples}: the reference run has fewer answers to "
                f"document {number} of {self.name} ({len(tokens)}); set as many as it has"
            )
        request.args[1].update({SETTINGS[replay.way]: tokens, "do_sample": False})
        request.args[1]["temperature"] = 0.0
        if self._plan.trace is not None:
            labels = [
                f"{self.name} {number} {request.idx} {repeat}" for repeat in range(len(tokens))
            ]
            request.args[1][LABEL] = labels

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
            number, "placeholder without image", N_("the prompt has more placeholders than images")
        )

    def _note(self, number: int, kind: str, said: str) -> None:
        self._found.setdefault((kind, said), set()).add(number)


def refused_settings(lm: Model, tasks: Iterable[Requests]) -> list[str]:
    """One problem for each task with generation settings that the engine would reject."""
    problems = []
    for task in tasks:
        try:
            for (_, images), settings in task.settings.items():
                lm.check_settings(settings, images)
        except UserError as error:
            problems += [f"task.names={task.name}: {each}" for each in error.problems]
    return problems


def hidden_images(tasks: Iterable[Requests], allowed: int | None) -> list[str]:
    """A problem if some questions of the tasks have more images than the model would be shown."""
    found = [many for task in tasks for many in task.too_many_images.values()]
    if not found:
        return []
    names = ", ".join(task.name for task in tasks if task.too_many_images)
    return [
        f"model.max_images={allowed}: {_counted(len(found), 'question')} of {names} "
        f"{'has' if len(found) == 1 else 'have'} more images; set model.max_images={max(found)}"
    ]


def departures(
    tasks: Mapping[str, Requests], asked: Mapping[str, Set[int]]
) -> tuple[Departure, ...]:
    """Departures of all tasks of a group, merged by kind. `asked` are the documents of each."""
    found: dict[tuple[str, str], Departure] = {}
    for each in (e for name, task in tasks.items() for e in task.departures(asked[name])):
        first = found.setdefault((each.kind, each.said), each)
        if first is not each:
            found[each.kind, each.said] = replace(first, samples=first.samples + each.samples)
    return tuple(found.values())


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
