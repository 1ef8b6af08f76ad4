"""Estimate weights and KV cache of the device with the largest share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner.language import N_
from runner.memory import architecture
from runner.memory.cache import cache
from runner.memory.layout import Layout
from runner.memory.stored import Amount, Part, StoredWeights

# Bytes a weight of a matrix that vLLM quantizes while it loads a 16-bit checkpoint.
_FOUR_BITS = ("bitsandbytes", "mxfp4", "nvfp4")


@dataclass(frozen=True)
class Estimate:
    """Memory of the device with the largest share, and notes on what is unknown."""

    weight_bytes: int
    # What one more token costs where every token is kept.
    kv_bytes_per_token: int
    # One sequence of `tokens`.
    kv_bytes: int
    tokens: int
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        return self.weight_bytes + self.kv_bytes


def estimate(model: Mapping[str, Any], stored: StoredWeights, layout: Layout) -> Estimate:
    """Return the estimate for one device of the largest pipeline stage."""
    kept = cache(model, layout)
    tokens = layout.max_model_len
    if tokens is None or tokens < 1:  # -1: vLLM takes what fits
        tokens = architecture.longest(model) if tokens is None else 1
    notes = kept.notes + _notes(stored)
    count = len(kept.layers) or 1 + max((part.layer or 0 for part in stored.parts), default=0)
    stages = [
        Estimate(
            _stage_weights(model, stored, layout, layers, stage),
            int(sum(each.per_token for each in mine if each.at_most is None)),
            int(sum(each.bytes(tokens) for each in mine)),
            tokens,
            notes,
        )
        for stage, layers in enumerate(architecture.stages(count, layout.pp))
        for mine in [kept.layers[layers.start : layers.stop]]
    ]
    return max(stages, key=lambda each: each.total)


def _notes(stored: StoredWeights) -> tuple[str, ...]:
    if not stored.parts:
        return (N_("weights not counted: the files are not on this machine"),)
    if not stored.named:
        return (N_("weights assumed to be split evenly: the files do not list their tensors"),)
    return ()


def _stage_weights(
    model: Mapping[str, Any], stored: StoredWeights, layout: Layout, layers: range, stage: int
) -> int:
    head = any(part.place == "head" for part in stored.parts)
    tied = architecture.is_tied(model) or not head
    total = 0.0
    for part, amount in stored.parts.items():
        if _is_here(part, layers, stage, layout, tied):
            size = _bytes(part, amount, stored, model, layout)
            total += size * _share(part, model, layout)
    return int(max(0, total - layout.offload_bytes))


def _is_here(part: Part, layers: range, stage: int, layout: Layout, tied: bool) -> bool:
    """Layers past the last are multi-token prediction (DeepSeek-V3), which vLLM leaves out."""
    first, last = stage == 0, stage == layout.pp - 1
    if part.place == "layer":
        return part.layer in layers
    if part.place == "embedding":
        return first or (last and tied)
    if part.place == "head":
        return last and not tied
    if part.place == "tower":
        return layout.towers  # every stage builds it
    return last or part.place == "unknown"


def _bytes(
    part: Part, amount: Amount, stored: StoredWeights, model: Mapping[str, Any], layout: Layout
) -> float:
    """All ranks' together."""
    element = float(layout.float_bytes)
    if layout.quantization and not stored.quantized and (part.matrix or not stored.named):
        element = 0.5 if layout.quantization in _FOUR_BITS else 1.0
    if not stored.named and not model.get("quantization_config"):
        return amount.fixed_bytes * element / architecture.stored_float_bytes(model)
    return amount.floats * element + amount.fixed_bytes


def _share(part: Part, model: Mapping[str, Any], layout: Layout) -> float:
    """The part of it that one rank holds."""
    if part.place == "unknown":
        return 1 / (layout.tp * layout.pp)
    if part.split == "whole" or (part.place == "tower" and layout.encoder_data_parallel):
        return 1.0
    text = architecture.text_config(model)
    if part.split == "kv":
        return 1 / min(layout.tp, architecture.kv_heads(text) or layout.tp)
    names = ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts")
    experts = architecture.integer(text, *names)
    if part.split == "experts" and layout.ep and experts:
        return -(-experts // layout.tp) / experts
    return 1 / layout.tp
