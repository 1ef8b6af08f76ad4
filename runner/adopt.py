"""python -m runner.adopt: convert a model file of vllm-ascend's accuracy test.

That test reads one YAML file a model (docs/original.md says which keys, and what it does with the
others). What it leaves out is filled with that test's defaults, not with ours.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig

from runner.config import loading, places
from runner.config.composition import compose
from runner.config.rules import BACKENDS
from runner.errors import UserError
from runner.messages import complain, tell, warn
from runner.status import USAGE_ERROR

HELP = """\
Converts a model file of vllm-ascend's accuracy test (tests/e2e/models/configs/*.yaml) to a model
file of this runner, checks it and prints it. --output writes it to a new file instead:

  python -m runner.adopt Qwen3-8B.yaml --output DIR/model/my_qwen3.yaml
  python -m runner --config-dir DIR model=my_qwen3

Keys that the original test silently ignores are listed on standard error.

Exit status: 0 converted · 1 not converted
"""
CHOICE = "adopted"
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


class LeftToAnother(UserError):
    """A file that the original test skips."""


@dataclass(frozen=True)
class Adopted:
    """A converted file: its `model_name`, the `text` of our model file, and the dropped keys."""

    model_name: str
    text: str
    dropped: tuple[str, ...]

    def compose(self, overrides: list[str]) -> DictConfig:
        """Return this model composed with conf/ and the overrides.

        Raises:
            UserError: as `python -m runner` would with the file at hand.
        """
        with tempfile.TemporaryDirectory() as directory:
            group = Path(directory) / "model"
            group.mkdir()
            (group / f"{CHOICE}.yaml").write_text(self.text, encoding="utf-8")
            return compose([f"model={CHOICE}", *overrides], directory)


def adopt(file: Path) -> Adopted:
    """Convert the file.

    Raises:
        LeftToAnother: for a speech model.
        UserError: with a line for each thing in the file that it cannot mean.
    """
    content = _read(file)
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
        "defaults": [{"override /task@_global_.task": "baselines"}],
        "name": re.sub(r"[^a-z0-9]+", "_", file.stem.lower()).strip("_") or "model",
        "pretrained": name,
        "backend": backend,
        **_served(content.get("serve") or {}, problems),
        "ask": {task: asked for task in baselines},
        **({"hardware": str(content["hardware"])} if content.get("hardware") else {}),
        "source": f"{file.name} (SHA-256 {hashlib.sha256(file.read_bytes()).hexdigest()[:16]})",
        "baselines": baselines,
    }
    text = yaml.dump(model, Dumper=_Plain, sort_keys=False, allow_unicode=True)
    if "${" in text:
        problems.append(
            f"{file.name}: contains ${{, which is plain text in the original but an interpolation "
            "here"
        )
    if problems:
        raise UserError(*problems)
    return Adopted(str(name), text, tuple(_dropped(content)))


def _read(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file}: must be a mapping with model_name and tasks")
    return {str(key): value for key, value in content.items()}


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


class _Plain(yaml.SafeDumper):
    """Every mapping in full: what all tasks share is written out for each."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def main(arguments: list[str] | None = None) -> int:
    """Print or write the model file; return the exit status."""
    parser = argparse.ArgumentParser(
        "python -m runner.adopt",
        description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE.yaml")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write to this file instead of standard output"
    )
    try:
        given = parser.parse_args(arguments)
    except SystemExit as error:
        return USAGE_ERROR if error.code else 0
    try:
        adopted = adopt(given.file)
        loading.load(adopted.compose(["tracking=off"]))
        for line in adopted.dropped:
            tell(f"{given.file.name}: {line}")
        _write(adopted.text, given.output)
        if given.output is not None and given.output.stem in places.choices("model"):
            warn(
                f"model={given.output.stem} is also a built-in model; with --config-dir "
                f"{given.output.parent.parent} your file is used, without it the built-in one"
            )
    except UserError as error:
        complain(error)
        return USAGE_ERROR
    return 0


def _write(text: str, file: Path | None) -> None:
    if file is None:
        print(text, end="")
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise UserError(f"--output={file}: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
