"""Lets lm-eval build all requests of all tasks before any is sent."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager

from runner.errors import UserError
from runner.lm.answering import Model
from runner.lm.chosen import DRAW, KEY, keep
from runner.lm.mistakes import explained, source
from runner.lm.recording import mark
from runner.lm.replaced import replaced
from runner.lm.requests import hidden_images, refused_settings
from runner.lm.tasks import LoadedTask
from runner.lm.template import unread_arguments
from runner.plan import Plan

# The kinds of request that lm-eval sends to a model.
KINDS = ("generate_until", "loglikelihood", "loglikelihood_rolling")


def build_requests(
    lm: Model, manager: TaskManager, loaded: Sequence[LoadedTask], plan: Plan
) -> None:
    """Let lm-eval build the requests of all tasks, and stop before it sends the first one.

    The requests stay with their tasks (`leaf.instances`), and the evaluation sends exactly these.
    Their images are not opened. `lm` needs no engine yet.

    Raises:
        UserError: for each task that cannot be built, with the file, key and document.
    """
    problems = unread_arguments(lm, plan)
    for task in loaded:
        try:
            with _unasked(lm):
                run_lm_eval(lm, manager, task, plan)
        except _Built:
            for leaf in task.leaves.values():
                leaf.build_all_requests = already_built
            problems += _unaskable(task)
            problems += _equal_samples(task) if plan.replay is None else []
            problems += refused_settings(lm, task.requests.values())
            problems += hidden_images(task.requests.values(), plan.engine_args.get("max_images"))
        except UserError as error:
            problems += error.problems
        except Exception as error:
            problems.append(explained(error, task.evaluation.task))
    if plan.replay and plan.replay.questions and not problems:
        key = DRAW if plan.replay.drawn else KEY
        problems = keep(loaded, plan.replay.questions, key)
    if problems:
        raise UserError(*problems)
    if plan.distributions:
        mark(loaded, lm.max_gen_toks)


def run_lm_eval(lm: Model, manager: TaskManager, loaded: LoadedTask, plan: Plan) -> Any:
    """The result of `lm_eval.simple_evaluate` for one task, seeded and with its samples."""
    asked = loaded.evaluation
    results = simple_evaluate(
        model=lm,
        tasks=list(loaded.items),
        task_manager=manager,
        num_fewshot=asked.num_fewshot,
        limit=_plain(asked.limit),
        apply_chat_template=asked.apply_chat_template,
        fewshot_as_multiturn=asked.fewshot_as_multiturn,
        system_instruction=plan.system_instruction,
        gen_kwargs=dict(asked.gen_kwargs) or None,
        random_seed=plan.seed,
        numpy_random_seed=plan.seed,
        torch_random_seed=plan.seed,
        fewshot_random_seed=plan.seed,
        log_samples=True,
    )
    assert results is not None  # None only for ranks other than 0 under torchrun
    return results


def _unaskable(loaded: LoadedTask) -> list[str]:
    """One problem for each task with requests that no engine can answer."""
    problems = []
    for leaf in loaded.leaves.values():
        for request in leaf.instances:
            if why := _why_unaskable(request, leaf):
                problems.append(
                    f"task.names={loaded.evaluation.task}: {source(leaf)}: {why} "
                    f"(document {request.doc_id})"
                )
                break
    return problems


def _equal_samples(loaded: LoadedTask) -> list[str]:
    """A problem for each subtask of which several samples would all be the same."""
    samples = loaded.evaluation.samples
    if samples == 1:
        return []
    problems = []
    for name, leaf in loaded.leaves.items():
        key = f"task.samples={samples}: {name}"
        if leaf.OUTPUT_TYPE != "generate_until":
            problems.append(f"{key} scores given answers, so all samples would be equal; set 1")
        elif len(loaded.requests[name].drawn) < len({each.doc_id for each in leaf.instances}):
            problems.append(
                f"{key} is decoded greedily, so all samples would be equal; set "
                "task.gen_kwargs.do_sample=true and a task.gen_kwargs.temperature above 0"
            )
    return problems


def _why_unaskable(request: Instance, task: Task) -> str:
    if request.request_type == "loglikelihood":
        key = "doc_to_choice" if task.OUTPUT_TYPE == "multiple_choice" else "doc_to_target"
        if request.args[1] in ("", task.config.target_delimiter):
            return f"{key}: is empty, so it has no likelihood"
    for text in request.args:
        if isinstance(text, str) and not _is_unicode(text):
            return "the prompt has an unpaired surrogate, which is not valid Unicode"
    return ""


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Built(Exception):
    """Raised when lm-eval has built all requests of a task and is about to send them."""


def _unasked(lm: Model) -> ExitStack:
    """A context in which no request reaches the model; `_Built` is raised instead."""

    def stop(requests: Any, **options: Any) -> Any:
        raise _Built

    stack = ExitStack()
    for kind in KINDS:
        stack.enter_context(replaced(lm, kind, stop))
    return stack


def already_built(**options: Any) -> None:
    """Replaces a task's own `build_all_requests`."""


def _plain(limit: float | None) -> int | float | None:
    return int(limit) if limit is not None and limit >= 1 else limit
