"""Whether the model can be laid out and cut as asked; read from its config.json."""

from __future__ import annotations

import os
from typing import Any

from runner.config.schema import RunConfig
from runner.memory.architecture import (
    expert_count,
    longest,
    names_longest,
    query_heads,
    text_config,
)


def problems(config: RunConfig, model: dict[str, Any]) -> list[str]:
    """Heads that tp does not divide, positions that the model lacks, code that nobody trusted."""
    found = []
    if config.model.needs_remote_code and not config.model.trust_remote_code:
        found.append(
            f"model.trust_remote_code=false: {config.model.pretrained} is run by code that comes "
            "with its weights; read it, then set model.trust_remote_code=true"
        )
    text = text_config(model)
    heads, tp = query_heads(text), config.parallelism.tp
    if heads is not None and heads % tp:
        sizes = [size for size in range(1, heads + 1) if heads % size == 0]
        found.append(
            f"parallelism.tp={tp}: must divide the model's {heads} attention heads "
            f"({', '.join(map(str, sizes))})"
        )
    if config.parallelism.ep and text and expert_count(model) == 0:
        found.append("parallelism.ep=true: the model has no experts to share out; use ep=false")
    length = config.engine.max_model_len
    if length is not None and names_longest(model) and not _allows_longer(config):
        most = longest(model)
        if length > most:
            found.append(
                f"engine.max_model_len={length}: beyond the model's own limit of {most} tokens"
            )
    return found


def _allows_longer(config: RunConfig) -> bool:
    name = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"
    chosen = config.engine.env.get(name, os.environ.get(name, "0"))
    return chosen.lower() in ("1", "true")
