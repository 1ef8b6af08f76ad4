"""One name for a module, whichever engine's class it is in."""

from __future__ import annotations

# Wrappers around a whole model, which each engine nests in its own way: vLLM's
# `language_model.model.layers.0` is `model.language_model.layers.0` in transformers.
WRAPPERS = ("model", "language_model")
# vLLM computes the logits in a module of its own.
SAME = {"logits_processor": "lm_head"}
# The input of the module that computes the logits, which hooks see in graph mode too.
HIDDEN = "hidden_states"
# What is a module in vLLM alone: attention, and the activation times the other half of a gated
# layer. In transformers, it is the input of the module that follows.
ATTENTION, ACTIVATED = "attn", "act_and_mul"
INPUTS = {"o_proj": ATTENTION, "down_proj": ACTIVATED}


def input_name(name: str) -> str | None:
    """The name under which vLLM records a module's input; None if it is no module's output."""
    parent, _, leaf = name.rpartition(".")
    if leaf == "proj" and parent.endswith(f".{ATTENTION}"):  # of a vision tower
        return f"{parent}.{ATTENTION}"
    return f"{parent}.{INPUTS[leaf]}" if parent and leaf in INPUTS else None


def common_name(path: str) -> str:
    """A module's path without the wrappers around it; empty for a wrapper itself."""
    parts = path.split(".")
    while parts and parts[0] in WRAPPERS:
        parts = parts[1:]
    return ".".join(SAME.get(part, part) for part in parts)
