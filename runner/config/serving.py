"""Merge what a model file says of vLLM's arguments and variables into the engine's."""

from __future__ import annotations

from typing import Any

from runner.config.schema import RunConfig

# Runtimes that start vLLM. A running server has its own arguments, other libraries have others.
STARTING_VLLM = ("vllm", "server")


def settle(config: RunConfig) -> None:
    """Put `model.serve.extra`, `env` and `additional_config` below the engine's own, in place.

    The schema can't do this with interpolations, as it does for single values: a mapping that is
    an interpolation takes no further keys from the command line.
    """
    engine, usual = config.engine, config.model.serve
    if engine.runtime not in STARTING_VLLM:
        return
    engine.extra = merged(usual.extra, engine.extra)
    engine.env = {**usual.env, **engine.env}
    if engine.platform == "ascend":  # no other platform reads it
        engine.additional_config = merged(usual.additional_config, engine.additional_config)


def merged(usual: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return both mappings as one; values of `own` win, and its nulls remove what `usual` has."""
    found = dict(usual)
    for key, value in own.items():
        before = usual.get(key)
        if value is None and key in usual:
            del found[key]
        elif isinstance(before, dict) and isinstance(value, dict):
            found[key] = merged(before, value)
        else:
            found[key] = value
    return found
