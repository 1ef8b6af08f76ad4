"""A served model's options and environment variables → keys of a model file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_type_hints

from runner import secrecy
from runner.adopt.vllm_options import Options, expanded
from runner.config.rules import OWN
from runner.installed import installed_version
from runner.platforms.additional_config import schema

SERVE = {
    "tensor_parallel_size": "tp",
    "pipeline_parallel_size": "pp",
    "data_parallel_size": "dp",
    "enable_expert_parallel": "ep",
    "max_model_len": "max_model_len",
    "dtype": "dtype",
    "quantization": "quantization",
    "enforce_eager": "enforce_eager",
    "gpu_memory_utilization": "gpu_memory_utilization",
}
MODEL = ("tokenizer", "revision", "trust_remote_code")
DTYPES = {"half": "float16", "float": "float32"}
# Where the server listens and which of its replicas this is: the runner's own affair.
PLACES = (
    "api_key", "data_parallel_address", "data_parallel_rank", "data_parallel_rpc_port",
    "data_parallel_size_local", "data_parallel_start_rank", "headless", "host", "model", "port",
    "served_model_name", "uds",
)  # fmt: skip
# Only about the API, which answers the runner's requests alike without them.
OF_THE_API = (
    "allowed_local_media_path", "api_server_count", "chat_template_content_format",
    "enable_auto_tool_choice", "enable_force_include_usage", "tool_call_parser",
)  # fmt: skip
# What ends the reasoning, by --reasoning-parser (vllm/reasoning, 0.32). AISBench itself also takes
# what follows </think>.
THINK_END, THINK_ENDS = "</think>", {"minimax_m3": "</mm:think>"}
# Ports of the test's own servers; which hub, which the model file says; devices and addresses of
# the machine that the test runs on.
OF_THE_TEST = re.compile(
    r"(SERVER|ENCODE|PD|PROXY)_PORT|VLLM_USE_MODELSCOPE|ASCEND_RT_VISIBLE_DEVICES|HCCL_IF_IP"
)
NAME = re.compile(r"[A-Za-z_]\w*")


def client_side(options: Options, dropped: list[str]) -> dict[str, Any]:
    """Return what the options say of prompts and answers, which the client prepares and reads."""
    model: dict[str, Any] = {name: options.pop(name) for name in MODEL if name in options}
    images = options.get("limit_mm_per_prompt")
    if isinstance(images, dict) and isinstance(images.get("image"), int):
        model["max_images"] = images["image"]
        dropped += _not_applied("--limit-mm-per-prompt", sorted(images.keys() - {"image"}))
        del options["limit_mm_per_prompt"]
    template = options.pop("default_chat_template_kwargs", None) or {}
    if "enable_thinking" in template:
        model["enable_thinking"] = template.pop("enable_thinking")
    model["think_end_token"] = THINK_ENDS.get(options.pop("reasoning_parser", ""), THINK_END)
    return {**model, **({"chat_template_args": template} if template else {})}


def engine_side(options: Options, dropped: list[str]) -> dict[str, Any]:
    """Return the options of the engine as keys of `model.serve`; note what is not applied."""
    serve: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if name in SERVE:
            serve[SERVE[name]] = DTYPES.get(value, value) if name == "dtype" else value
        elif name == "additional_config" and isinstance(value, dict):
            serve[name] = _known(value, option, dropped)
        elif name in OF_THE_API:
            dropped.append(f"{option}: not applied; the runner's requests don't need it")
        elif name in OWN:
            dropped.append(f"{option}: not applied; use {OWN[name]}=… instead")
        elif name not in PLACES:
            extra[name] = value
    return {**serve, **({"extra": extra} if extra else {})}


def variables(envs: Mapping[str, Any], where: str, dropped: list[str]) -> dict[str, str]:
    """Return the environment variables of the engine; note what is not applied, without values."""
    found = {}
    for name, value in envs.items():
        text = expanded(_text(value), {key: each for key, each in envs.items() if key != name})
        if OF_THE_TEST.fullmatch(str(name)):
            continue
        if not NAME.fullmatch(str(name)):
            dropped.append(f"{where}.{name}: not applied; not a name of an environment variable")
        elif "$" in text:
            dropped.append(
                f"{where}.{name}: not applied, because it refers to another variable; use "
                f"engine.env.{name}=… instead"
            )
        elif secrecy.names_secret(str(name), text) or secrecy.holds_any(text):
            dropped.append(
                f"{where}.{name}: not applied, because it looks like a secret; set it as an "
                "environment variable, which the engine inherits"
            )
        else:
            found[str(name)] = text
    return found


def _known(given: dict[str, Any], option: str, dropped: list[str]) -> dict[str, Any]:
    """The keys that this vllm-ascend has: its nightly tests run its main branch."""
    kinds = get_type_hints(schema(installed_version("vllm-ascend")))
    dropped += [
        f"{option}.{name}: not applied, because vllm-ascend's release has no such key; use "
        f"engine.extra.additional_config.{name}=… engine.allow_untested=true instead"
        for name in given
        if name not in kinds
    ]
    return {
        # A number that switches (0 or 1) is often written as true.
        name: int(value) if isinstance(value, bool) and kinds[name] == int | None else value
        for name, value in given.items()
        if name in kinds
    }


def _not_applied(option: str, keys: list[str]) -> list[str]:
    return [f"{option}.{key}: not applied; the tasks have only images" for key in keys]


def _text(value: Any) -> str:
    """A value as YAML has it, as the shell would."""
    return str(value).lower() if isinstance(value, bool) else str(value)
