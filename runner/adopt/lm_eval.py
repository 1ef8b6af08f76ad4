"""The model files of vllm-ascend's lm-eval test (tests/e2e/models/configs/*.yaml).

That test reads one YAML file a model (docs/original.md says which keys, and what it does with the
others). What it leaves out is filled with that test's defaults, not with ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runner.adopt.adopted import DEFAULTS as TASKS_OF_BASELINES
from runner.adopt.adopted import Adopted, LeftToAnother, model_text
from runner.adopt.reading import identity, slug
from runner.config.rules import BACKENDS
from runner.errors import UserError

# Its keys below `serve`, and ours below `model`.
SERVE = {
    "trust_remote_code": "trust_remote_code",
    "max_images": "max_images",
    "enable_thinking": "enable_thinking",
    "tensor_parallel_size": "serve.tp",
    "enable_expert_parallel": "serve.ep",
    "max_model_len": "serve.max_model_len",
    "dtype": "serve.dtype",
    "quantization": "serve.quantization",
    "enforce_eager": "serve.enforce_eager",
    "gpu_memory_utilization": "serve.gpu_memory_utilization",
}
DEFAULTS = {"max_model_len": 4096}
ASKED = ("num_fewshot", "apply_chat_template", "fewshot_as_multiturn", "limit", "batch_size")
TOP = ("model_name", "model_type", "hardware", "serve", "tasks", *ASKED)
# Where what that test drops can be set here: by its key, or by the mapping that it stands in.
INSTEAD = {
    "serve.pipeline_parallel_size": "parallelism.pp",
    "serve.data_parallel_size": "parallelism.dp",
    "serve": "engine.extra",
    "model_args": "engine.extra",
    "env": "engine.env",
    "envs": "engine.env",
    "gen_kwargs": "task.gen_kwargs",
    "system_prompt": "task.system_instruction",
    "system_instruction": "task.system_instruction",
}


def adopt(file: Path, content: dict[str, Any]) -> Adopted:
    """Convert the content of the file.

    Raises:
        LeftToAnother: for a speech model.
        UserError: with a line for each thing in the file that it cannot mean.
    """
    if content.get("model_type") == "vllm-asr":
        raise LeftToAnother("model_type=vllm-asr: lm-eval has no task for speech recognition")
    problems: list[str] = []
    name, backend = content.get("model_name"), content.get("model_type", "vllm")
    if backend not in BACKENDS:
        problems.append(f"model_type={backend}: must be one of {', '.join(BACKENDS)}")
    if not isinstance(name, str) or not name:
        problems.append(f"model_name={name}: must be a directory or a hub id")
    baselines = _baselines(content.get("tasks"), problems)
    asked = _asked(content, problems)
    model = {
        "defaults": TASKS_OF_BASELINES,
        "name": slug(file.stem),
        "pretrained": name,
        "backend": backend,
        **_served(content.get("serve") or {}, problems),
        "ask": {task: asked for task in baselines},
        **({"hardware": str(content["hardware"])} if content.get("hardware") else {}),
        "source": identity(file),
        "baselines": baselines,
    }
    text = model_text(model, file, problems)
    if problems:
        raise UserError(*problems)
    return Adopted(str(name), text, tuple(_dropped(content)))


def _served(serve: Any, problems: list[str]) -> dict[str, Any]:
    if not isinstance(serve, dict):
        problems.append(f"serve={serve}: must be a mapping")
        return {}
    model: dict[str, Any] = {}
    served: dict[str, Any] = {}
    given = {**DEFAULTS, **serve}
    for key, ours in SERVE.items():
        if given.get(key) is None:
            continue
        group, _, last = ours.rpartition(".")
        (served if group else model)[last] = given[key]
    return {**model, "serve": served}


def _asked(content: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    """One way for all tasks: that file knows no other."""
    asked = {key: content[key] for key in ASKED if content.get(key) is not None}
    for key in ("apply_chat_template", "fewshot_as_multiturn"):
        if key in content and content[key] is None:
            asked[key] = False
    asked.setdefault("apply_chat_template", True)
    if asked.get("fewshot_as_multiturn") and not asked["apply_chat_template"]:
        problems.append("fewshot_as_multiturn=true: needs apply_chat_template=true")
    if "batch_size" in asked:
        asked["batch_size"] = str(asked["batch_size"])
    return asked


def _baselines(tasks: Any, problems: list[str]) -> dict[str, dict[str, dict[str, float]]]:
    found: dict[str, dict[str, dict[str, float]]] = {}
    if not isinstance(tasks, list) or not tasks:
        problems.append(f"tasks={tasks}: must be a list of name and metrics")
        return found
    for place, task in enumerate(tasks):
        where = f"tasks[{place}]"
        if not isinstance(task, dict) or not isinstance(task.get("name"), str):
            problems.append(f"{where}={task}: must have a name")
            continue
        if task["name"] in found:
            problems.append(f"{where}.name={task['name']}: listed twice; list each task only once")
        metrics = task.get("metrics")
        if not isinstance(metrics, list):
            problems.append(f"{where}.metrics={metrics}: must be a list of name and value")
            continue
        of_task = found.setdefault(task["name"], {})
        for metric in metrics:
            _baseline(of_task, metric, f"{where}.metrics", problems)
    return found


def _baseline(
    of_task: dict[str, dict[str, float]], metric: Any, where: str, problems: list[str]
) -> None:
    given = metric if isinstance(metric, dict) else {}
    name, comma, filter_name = str(given.get("name", "")).partition(",")
    value = given.get("value")
    if not (name and comma and filter_name):
        problems.append(
            f"{where}={metric}: must have a name, with its filter as lm-eval writes it (acc,none)"
        )
    elif not isinstance(value, int | float) or isinstance(value, bool):
        problems.append(f"{where}: {given['name']}={value}: must be a number")
    elif filter_name in of_task.get(name, {}):
        problems.append(f"{where}: {given['name']}: listed twice")
    else:
        of_task.setdefault(name, {})[filter_name] = float(value)


def _dropped(content: dict[str, Any]) -> list[str]:
    """Keys that the original test reads nothing from; names alone, for a value may be a secret."""
    keys: list[str] = []
    for key, value in content.items():
        if key not in TOP:
            keys += [f"{key}.{each}" for each in value] if isinstance(value, dict) else [key]
    keys += [f"serve.{each}" for each in content.get("serve") or {} if each not in SERVE]
    for place, task in enumerate(content["tasks"]):
        keys += [f"tasks[{place}].{each}" for each in task if each not in ("name", "metrics")]
        for number, metric in enumerate(task["metrics"]):
            where = f"tasks[{place}].metrics[{number}]"
            keys += [f"{where}.{each}" for each in metric if each not in ("name", "value")]
    return [f"{key}: not applied, as in the original test{_instead(key)}" for key in keys]


def _instead(key: str) -> str:
    mapping, dot, name = key.partition(".")
    ours = INSTEAD.get(key) or (INSTEAD.get(mapping) and f"{INSTEAD[mapping]}{dot}{name}")
    return f"; use {ours}=… instead" if ours else ""
