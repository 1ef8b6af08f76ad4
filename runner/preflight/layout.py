"""Check parallel sizes and lengths against the model's config.json."""

from __future__ import annotations

import os
from typing import Any

from runner.config.schema import RunConfig
from runner.inputs.weights import untrusted
from runner.memory.architecture import (
    expert_count,
    longest,
    names_longest,
    query_heads,
    text_config,
)
from runner.problem import UNSUPPORTED, Cure, Problem


def problems(config: RunConfig, model: dict[str, Any]) -> list[Problem]:
    """Check that tp divides the heads, that max_model_len fits, and that remote code is trusted."""
    found = []
    if config.model.needs_remote_code and not config.model.trust_remote_code:
        found.append(Problem(untrusted(config.model.pretrained)))
    text = text_config(model)
    heads, tp = query_heads(text), config.parallelism.tp
    if heads is not None and heads % tp:
        sizes = [size for size in range(1, heads + 1) if heads % size == 0]
        nearest = sorted(sizes, key=lambda size: (abs(size - tp), -size))
        found.append(
            Problem(
                f"parallelism.tp={tp}: must divide the model's {heads} attention heads",
                tuple(Cure({"parallelism.tp": size}) for size in nearest),
                switches=(UNSUPPORTED,),
            )
        )
    if config.parallelism.ep and text and expert_count(model) == 0:
        found.append(
            Problem(
                "parallelism.ep=true: the model is not a mixture-of-experts model",
                (Cure({"parallelism.ep": False}),),
                switches=(UNSUPPORTED,),
            )
        )
    length = config.engine.max_model_len
    if length is not None and names_longest(model) and not _allows_longer(config):
        most = longest(model)
        if length > most:
            found.append(
                Problem(
                    f"engine.max_model_len={length}: exceeds the model's limit of {most} tokens",
                    (Cure({"engine.max_model_len": most}, " or less"),),
                    switches=(UNSUPPORTED,),
                )
            )
    return found


def _allows_longer(config: RunConfig) -> bool:
    name = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"
    chosen = config.engine.env.get(name, os.environ.get(name, "0"))
    return chosen.lower() in ("1", "true")
