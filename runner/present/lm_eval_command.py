"""The command line of lm-eval that evaluates the same as a plan."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection

from runner.config.task_files import packaged
from runner.plan import Evaluation, Plan
from runner.runtimes import runtime_of

# Arguments that have no effect in lm-eval 0.4.13's classes for images, but do here.
IMAGE_BACKENDS = ("vllm-vlm", "hf-multimodal")
UNUSED_FOR_IMAGES = ("chat_template_args", "enable_thinking", "think_end_token")


def lm_eval_command(plan: Plan, greedy: Collection[str] = ()) -> str:
    """lm-eval command lines for the same evaluations, one for each task.

    `greedy` are tasks that set no sampling option: with lm-eval alone, vLLM would sample.
    """
    lines = [f"export {k}={shlex.quote(v)}" for k, v in sorted(plan.environment.items())]
    if plan.data_dir:
        # `datasets` loads a directory below the working directory instead of the
        # hub's data set of that name.
        lines.append(f"cd {shlex.quote(plan.data_dir)}")
    return "\n".join(
        [*lines, *(_command(plan, each, each.task in greedy) for each in plan.evaluations)]
    )


def _command(plan: Plan, evaluation: Evaluation, greedy: bool) -> str:
    runtime = runtime_of(plan.runtime)
    model, arguments = runtime.lm_eval_model(plan)
    program = ["lm_eval"] if plan.python is None else [plan.python, "-m", "lm_eval"]
    words = [*program, "--model", model]
    unused = [name for name in UNUSED_FOR_IMAGES if plan.engine_args.get(name) is not None]
    device = arguments.pop("device", None)  # lm-eval's command line also passes its --device
    words += ["--model_args", json.dumps(arguments, ensure_ascii=False)]
    words += ["--device", device] if device else []
    file = plan.task_files.get(evaluation.task) or packaged(evaluation.task)
    words += ["--tasks", str(file or evaluation.task)]
    if plan.include_path:
        words += ["--include_path", plan.include_path]
    if evaluation.apply_chat_template:
        words.append("--apply_chat_template")
    if evaluation.fewshot_as_multiturn:
        words.append("--fewshot_as_multiturn")
    if evaluation.num_fewshot is not None:
        words += ["--num_fewshot", str(evaluation.num_fewshot)]
    if evaluation.limit is not None:
        words += ["--limit", repr(evaluation.limit).removesuffix(".0")]
    if plan.system_instruction:
        words += ["--system_instruction", plan.system_instruction]
    default = {"temperature": 0.0} if greedy else {}
    gen_kwargs = {**runtime.plain, **default, **evaluation.gen_kwargs}
    if gen_kwargs:
        words += ["--gen_kwargs", json.dumps(gen_kwargs, ensure_ascii=False)]
    words += ["--seed", str(plan.seed), "--batch_size", evaluation.batch_size]
    command = " ".join(shlex.quote(word) for word in words)
    notes = []
    if plan.backend in IMAGE_BACKENDS and unused:
        notes.append(f"# lm-eval's {plan.backend} does not use {', '.join(unused)}")
    if evaluation.samples > 1:
        notes.append(f"# asks each question once, not {evaluation.samples} times")
    return "\n".join([*notes, command])
