"""Validation rules beyond types; each violation is reported in one line."""

from __future__ import annotations

import math
import os
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from omegaconf import OmegaConf

from runner import secrecy
from runner.baseline import parsed
from runner.config import verdict
from runner.config.overrides import in_yaml
from runner.config.schema import AskConfig, RunConfig, TaskConfig
from runner.language import LANGUAGES
from runner.platforms import PLATFORMS
from runner.platforms.additional_config import names, schema

BACKENDS = ("vllm", "vllm-vlm")
# Told from the weights' config.json (runner.inputs.weights.backend).
AUTO = "auto"
# The package of each runtime (`runner.runtimes.Runtime`), imported where it is needed.
RUNTIMES = {
    "vllm": "runner.runtimes.vllm",
    "server": "runner.runtimes.server",
    "endpoint": "runner.runtimes.server.attached",
    "transformers": "runner.runtimes.hf",
}
# lm-eval's names for the maximum answer length, in its order of preference.
LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
DTYPES = ("auto", "float16", "bfloat16", "float32")
# What a search may optimise (runner/sweep/objective.py).
OBJECTIVES = ("accuracy", "throughput", "seconds")
HUBS = ("hf", "modelscope")
SOURCES = (*HUBS, "local")
SERIES = ("A2", "A3", "310P", "A5")
# Arguments of vLLM's engine under the configuration's own names.
OWN = {
    "tensor_parallel_size": "parallelism.tp",
    "pipeline_parallel_size": "parallelism.pp",
    "enable_expert_parallel": "parallelism.ep",
    "max_model_len": "engine.max_model_len",
    "dtype": "engine.dtype",
    "quantization": "engine.quantization",
    "enforce_eager": "engine.enforce_eager",
    "gpu_memory_utilization": "engine.gpu_memory_utilization",
    "seed": "engine.seed",
    "trust_remote_code": "model.trust_remote_code",
}


def baseline_problems(baselines: dict[str, Any], where: str) -> list[str]:
    """Parse baselines in place; return a line for each problem."""
    problems = []
    for task, metrics in baselines.items():
        for metric, filters in _items(metrics):
            for name, value in _items(filters):
                filters[name], found = parsed(value, f"{where}.{task}.{metric}.{name}")
                problems += found
            if not isinstance(filters, dict):
                problems.append(
                    f"{where}.{task}.{metric}={filters}: add the filter; lm-eval's {metric},none "
                    f"is {where}.{task}.{metric}.none"
                )
        if not isinstance(metrics, dict):
            problems.append(
                f"{where}.{task}={metrics}: must have the form <task>.<metric>.<filter>=NUMBER"
            )
    return problems


def _items(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def problems(config: RunConfig) -> list[str]:
    """Return a line for each rule that the configuration violates."""
    found: list[str] = []

    def require(ok: bool, key: str, rule: str) -> None:
        if not ok:
            value = OmegaConf.select(OmegaConf.structured(config), key)
            found.append(f"{key}={in_yaml(value)}: {rule}")

    def one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
        require(value in allowed, key, f"must be one of {', '.join(allowed)}")

    require(bool(config.output_dir), "output_dir", "must not be empty")
    one_of("model.backend", config.model.backend, (*BACKENDS, AUTO))
    one_of("engine.platform", config.engine.platform, tuple(PLATFORMS))
    one_of("engine.runtime", config.engine.runtime, tuple(RUNTIMES))
    one_of("engine.dtype", config.engine.dtype, DTYPES)
    require(
        config.engine.python is None or not config.engine.spans_nodes,
        "engine.python",
        "not possible with engine.extra.distributed_executor_backend=ray, because Ray starts the "
        "engine's ranks with the interpreter of its nodes; remove one of the two",
    )
    one_of("model.hub", config.model.hub, HUBS)
    one_of("source.weights", config.source.weights, SOURCES)
    one_of("source.data", config.source.data, SOURCES)
    one_of("objective", config.objective, OBJECTIVES)
    require(config.lang in (None, *LANGUAGES), "lang", f"must be one of {', '.join(LANGUAGES)}")
    one_of("source.verify", config.source.verify, ("sampled", "whole"))
    if config.suite.entries and config.suite.entry is None:
        found.append(
            "suite.entries: nothing runs them; the file of a suite needs defaults: [override "
            "/hydra/sweeper: suite] and hydra: {mode: MULTIRUN}"
        )
    found += [
        f"model.by_series.{series}: must be one of {', '.join(SERIES)}"
        for series in config.model.by_series
        if series not in SERIES
    ]
    for key in ("tp", "pp", "dp"):
        size = getattr(config.parallelism, key)
        require(size >= 1, f"parallelism.{key}", "must be a whole number of at least 1")
    length = config.engine.max_model_len
    require(length is None or length >= 1, "engine.max_model_len", "must be at least 1, or null")
    share = config.engine.gpu_memory_utilization
    require(
        0 < share <= 1,
        "engine.gpu_memory_utilization",
        "must be above 0 and at most 1 (a fraction of the device's memory)",
    )
    window = config.engine.window
    require(window is None or window >= 1, "engine.window", "must be at least 1, or null")
    most = config.journal.max_gib
    require(math.isfinite(most) and most > 0, "journal.max_gib", "must be a number above 0")
    images = config.model.max_images
    require(images is None or images >= 0, "model.max_images", "must be 0 or more, or null")
    require(bool(config.task.names), "task.names", "must list at least one lm-eval task")
    require(
        len(set(config.task.names)) == len(config.task.names),
        "task.names",
        "must list each task only once",
    )
    ways = {f"model.ask.{task}": asked for task, asked in config.model.ask.items()}
    for where, way in {"task": config.task, **ways}.items():
        shots, limit, batch = way.num_fewshot, way.limit, way.batch_size
        require(shots is None or shots >= 0, f"{where}.num_fewshot", "must be 0 or more, or null")
        require(
            limit is None or 0 < limit < 1 or (limit >= 1 and limit.is_integer()),
            f"{where}.limit",
            "must be a fraction between 0 and 1, or a whole number of samples, or null",
        )
        require(
            batch is None or _is_batch_size(batch),
            f"{where}.batch_size",
            "must be auto or a whole number of at least 1",
        )
        require(
            limit is None or not config.verdict.sequential,
            f"{where}.limit",
            "can't be combined with verdict.sequential=true, which chooses the number of questions "
            "itself; remove one of the two",
        )
        require(
            limit is None or config.verdict.replay.draw is None,
            f"{where}.limit",
            "can't be combined with verdict.replay.draw, which draws from all questions; remove "
            "one of the two",
        )
        for name in ("samples", "max_gen_toks"):
            number = getattr(way, name)
            require(number is None or number >= 1, f"{where}.{name}", "must be at least 1, or null")
        found += _lengths(where, way)
    for name in ("start_s", "stall_s", "run_s"):
        seconds = getattr(config.limits, name)
        require(
            seconds is None or (math.isfinite(seconds) and seconds > 0),
            f"limits.{name}",
            "must be a number of seconds above 0, or null for no limit",
        )
    require(
        math.isfinite(config.limits.request_s) and config.limits.request_s > 0,
        "limits.request_s",
        "must be a number of seconds above 0",
    )
    require(config.limits.retries >= 0, "limits.retries", "must be 0 or more")
    patience = config.tracking.timeout_s
    require(
        math.isfinite(patience) and patience > 0,
        "tracking.timeout_s",
        "must be a number of seconds above 0",
    )
    thinking = config.model.chat_template_args.get("enable_thinking", config.model.enable_thinking)
    require(
        config.model.enable_thinking in (None, thinking),
        "model.enable_thinking",
        f"model.chat_template_args.enable_thinking={in_yaml(thinking)} contradicts it; remove one "
        "of them",
    )
    require(
        not (config.model.enable_thinking and config.model.think_end_token is None),
        "model.think_end_token",
        "required with model.enable_thinking=true (for Qwen3: '</think>')",
    )
    found += verdict.problems(config.verdict, config.task.names)
    found += _sampled(config) if config.verdict.rule == "numerics" else []
    return (
        found
        + _additional_config(config)
        + _own_keys(config)
        + _address(config.tracking.uri)
        + secrecy.problems(asdict(config), os.environ)
    )


def _sampled(config: RunConfig) -> list[str]:
    """Settings by which answers are sampled, so that the texts of two runs differ by chance."""
    found = []
    for task in config.task.names:
        asked = config.model.ask.get(task, AskConfig())
        settings = {**asked.gen_kwargs, **config.task.gen_kwargs}
        if settings.get("temperature") and settings.get("do_sample", True):
            found.append(
                f"verdict.rule=numerics: {task} samples its answers (temperature="
                f"{settings['temperature']:g}), but numerics needs greedy ones; set "
                "task.gen_kwargs.do_sample=false and task.samples=1, or use verdict=paired"
            )
    return found


def _lengths(where: str, way: TaskConfig | AskConfig) -> list[str]:
    """lm-eval has several names for the maximum answer length; only one can be meant."""
    others = [name for name in LENGTHS if name in way.gen_kwargs]
    if way.max_gen_toks is None or not others:
        return []
    return [f"{where}.gen_kwargs.{name}: remove it; {where}.max_gen_toks is set" for name in others]


def _additional_config(config: RunConfig) -> list[str]:
    """vllm-ascend reads its own options from here, and would not say which it does not know."""
    found = []
    engine = config.engine
    if engine.additional_config and engine.platform != "ascend":
        name = next(iter(engine.additional_config))
        found.append(
            f"engine.additional_config.{name}: only vllm-ascend reads this key, but "
            f"engine.platform={engine.platform}"
        )
    untyped = engine.extra.get("additional_config") or {}
    if untyped and engine.platform != "ascend":
        found.append(
            "engine.extra.additional_config: only vllm-ascend reads this key, but "
            f"engine.platform={engine.platform}"
        )
    elif not engine.allow_untested:
        known = names(schema(engine.interpreter.version("vllm-ascend")))
        found += [
            f"engine.extra.additional_config.{name}: keys here are not checked; "
            + (
                f"use engine.additional_config.{name}"
                if name in known
                else "use engine.allow_untested=true if only a newer vllm-ascend has it"
            )
            for name in untyped
        ]
    return found


def _own_keys(config: RunConfig) -> list[str]:
    """What the configuration has a key for: in engine.extra, no rule would look at it."""
    found = []
    for name in {**config.model.serve.extra, **config.engine.extra}:
        where = "model.serve.extra" if name in config.model.serve.extra else "engine.extra"
        if name == "data_parallel_size":
            found.append(
                f"{where}.{name}: lm-eval would start these engines in its own Ray tasks; run "
                "sweep points in parallel instead (hydra/launcher=ray)"
            )
        elif name in OWN:
            found.append(f"{where}.{name}: use {OWN[name]}")
    return found


def _address(uri: str) -> list[str]:
    try:
        urlsplit(uri)
    except ValueError as error:
        return [f"tracking.uri={secrecy.shown_address(uri)}: not a valid address ({error})"]
    return []


def _is_batch_size(text: str) -> bool:
    return text == "auto" or (text.isdecimal() and int(text) >= 1)
