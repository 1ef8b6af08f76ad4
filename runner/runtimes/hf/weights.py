"""Checks that a transformers class can load a model, and describes the loaded model."""

from __future__ import annotations

from typing import Any

import torch
import transformers

from runner.errors import UserError
from runner.inputs.weights import untrusted
from runner.plan import Plan

# The class that each of lm-eval's classes loads, and the setting that selects it.
LOADERS = {
    "hf": (transformers.AutoModelForCausalLM, "model.backend=vllm"),
    "hf-multimodal": (transformers.AutoModelForImageTextToText, "model.backend=vllm-vlm"),
}


def check_engine_args(plan: Plan) -> None:
    """Reject weights that the plan's model class cannot load, before they are loaded.

    Raises:
        UserError: with transformers' own reason, or with the setting for a class that can load
            them.
    """
    args = plan.engine_args
    where = {k: args[k] for k in ("revision", "trust_remote_code", "subfolder") if k in args}
    try:
        config = transformers.AutoConfig.from_pretrained(args["pretrained"], **where)
    except (OSError, ValueError) as error:
        if "trust_remote_code" in str(error):
            raise UserError(untrusted(args["pretrained"])) from error
        raise UserError(f"engine: transformers rejects these weights: {said(error)}") from error
    if _loads(plan.backend, config):
        return
    others = [cure for name, (_, cure) in LOADERS.items() if _loads(name, config)]
    raise UserError(
        f"model.pretrained={args['pretrained']}: a {config.model_type} model, which transformers' "
        f"{LOADERS[plan.backend][0].__name__} cannot load"
        + "".join(f"; {cure} selects a class that can" for cure in others)
    )


def facts(model: Any) -> dict[str, Any]:
    """Properties of the loaded model: dtype, attention, device, threads, parameters and so on."""
    return {
        "architectures": [type(model).__name__],
        "dtype": str(model.dtype).removeprefix("torch."),
        "transformers": transformers.__version__,
        "attention": model.config._attn_implementation,
        "device": str(model.device),
        "threads": torch.get_num_threads(),
        "parameters": model.num_parameters(),
        "whole": str(model.config),
    }


def said(error: Exception) -> str:
    """The first non-empty line of transformers' error message."""
    return next(iter(str(error).strip().splitlines()), repr(error))


def _loads(backend: str, config: Any) -> bool:
    loader, _ = LOADERS[backend]
    remote = getattr(config, "auto_map", None) or {}
    return type(config) in loader._model_mapping or loader.__name__ in remote
