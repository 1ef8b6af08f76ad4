"""One name for a module, whichever engine's class it is in."""

from __future__ import annotations

# Wrappers around a whole model, which each engine nests in its own way: vLLM's
# `language_model.model.layers.0` is `model.language_model.layers.0` in transformers.
WRAPPERS = ("model", "language_model")
# vLLM computes the logits in a module of its own.
SAME = {"logits_processor": "lm_head"}


def common_name(path: str) -> str:
    """A module's path without the wrappers around it; empty for a wrapper itself."""
    parts = path.split(".")
    while parts and parts[0] in WRAPPERS:
        parts = parts[1:]
    return ".".join(SAME.get(part, part) for part in parts)
