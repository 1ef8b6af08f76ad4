"""Every request of every task, built by lm-eval before an engine starts."""

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
from runner.lm.mistakes import explained, source
from runner.lm.replaced import replaced
from runner.lm.requests import hidden_images, refused_settings
from runner.lm.tasks import LoadedTask
from runner.lm.template import unread_arguments
from runner.plan import Plan

# What lm-eval asks a model for.
KINDS = ("generate_until", "loglikelihood", "loglikelihood_rolling")


def build_requests(
    lm: Model, manager: TaskManager, loaded: Sequence[LoadedTask], plan: Plan
) -> None:
    """Let lm-eval build the requests of all tasks, up to where it would ask the first one.

    They stay with their tasks (`leaf.instances`), and the evaluation asks exactly these. Images in
    them are not opened. `lm` needs no engine yet.

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
                leaf.build_all_requests = _already_built
            problems += _unaskable(task)
            problems += refused_settings(lm, task.requests.values())
            problems += hidden_images(task.requests.values(), plan.engine_args.get("max_images"))
        except UserError as error:
            problems += error.problems
        except Exception as error:
            problems.append(explained(error, task.evaluation.task))
    if problems:
        raise UserError(*problems)


def run_lm_eval(lm: Model, manager: TaskManager, loaded: LoadedTask, plan: Plan) -> Any:
    """`lm_eval.simple_evaluate` of one task, seeded, samples kept: what it returns."""
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
        gen_kwargs=dict(plan.gen_kwargs) or None,
        random_seed=plan.seed,
        numpy_random_seed=plan.seed,
        torch_random_seed=plan.seed,
        fewshot_random_seed=plan.seed,
        log_samples=True,
    )
    assert results is not None  # None is for ranks other than 0, which lm-eval has under torchrun
    return results


def _unaskable(loaded: LoadedTask) -> list[str]:
    """A line for each task with requests that lm-eval builds and no engine can answer."""
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
    """lm-eval has built all requests of a task, and would ask them now."""


def _unasked(lm: Model) -> ExitStack:
    """While it is open, nothing reaches the model."""

    def stop(requests: Any, **options: Any) -> Any:
        raise _Built

    stack = ExitStack()
    for kind in KINDS:
        stack.enter_context(replaced(lm, kind, stop))
    return stack


def _already_built(**options: Any) -> None:
    """In place of a task's own `build_all_requests`."""


def _plain(limit: float | None) -> int | float | None:
    return int(limit) if limit is not None and limit >= 1 else limit
