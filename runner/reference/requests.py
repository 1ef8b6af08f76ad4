"""Settings that two runs must share, so that their answers are to the same requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.language import gettext
from runner.plan import Evaluation, Plan

# Settings of a task and of the plan: with other ones, answers are not to the same request.
OF_TASK = ("num_fewshot", "apply_chat_template", "fewshot_as_multiturn", "gen_kwargs")
OF_PLAN = ("system_instruction",)


def of_task(theirs: Mapping[str, Any], ours: Evaluation, first: str, second: str) -> list[str]:
    """Return a line for each setting of a task that differs between two runs.

    `theirs` is the task's evaluation in the first run's plan. `first` and `second` are the runs'
    names in a sentence, for example "the reference run" and "this run".
    """
    return [
        gettext(
            "{task} used {key}={theirs} in {first}, but {ours} in {second}; answers to different "
            "requests cannot be paired",
            task=ours.task,
            key=name,
            theirs=theirs.get(name),
            ours=value,
            first=first,
            second=second,
        )
        for name in OF_TASK
        if theirs.get(name) != (value := getattr(ours, name))
    ]


def of_plan(theirs: Mapping[str, Any], ours: Plan, first: str, second: str) -> list[str]:
    """Return a line for each setting of all tasks that differs between two runs."""
    return [
        gettext(
            "{key}={theirs} in {first}, but {ours} in {second}; answers to different requests "
            "cannot be paired",
            key=name,
            theirs=theirs.get(name),
            ours=value,
            first=first,
            second=second,
        )
        for name in OF_PLAN
        if theirs.get(name) != (value := getattr(ours, name))
    ]
