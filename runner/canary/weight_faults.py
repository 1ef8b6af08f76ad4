"""Faults in the weights: rounding, missing parts and parts in the wrong place."""

import json
from collections.abc import Callable

import torch
from torch import Tensor

from runner.canary import WEIGHTS
from runner.canary.checkpoint import Checkpoint
from runner.canary.fault import Edit, Fault
from runner.canary.model import TEXT_LAYERS, VISION_BLOCKS

_EMBEDDING = "model.embed_tokens.weight"
_PATCHES = "visual.patch_embed.proj.weight"
_HEAD = 32  # width of an attention head
_RANKS = 2  # of tensor parallelism
_FP8_MAX = 448.0  # the largest value of e4m3


def _attention(layer: int) -> str:
    return f"model.layers.{layer}.self_attn.o_proj.weight"


def _mlp(layer: int) -> str:
    return f"model.layers.{layer}.mlp.down_proj.weight"


def _quantised(name: str) -> bool:
    """Whether a quantiser would change a matrix; the embedding is left out."""
    return name != _EMBEDDING


def _rounded(
    function: Callable[[Tensor], Tensor], chosen: Callable[[str], bool] = _quantised
) -> Edit:
    """Apply ``function`` to each chosen weight in the shape (rows, columns).

    The results are stored in float32: bfloat16 would round them again, by as much as 8 bits do.
    """

    def edit(checkpoint: Checkpoint) -> None:
        for name, stored in checkpoint.tensors.items():
            if stored.ndim > 1 and chosen(name):
                tensor = stored.float()
                checkpoint.tensors[name] = function(tensor.flatten(1)).view_as(tensor)

    return edit


def integers(bits: int, chosen: Callable[[str], bool] = _quantised) -> Edit:
    """Round each output row of the weights with a ``chosen`` name to symmetric integers."""
    largest = 2 ** (bits - 1) - 1

    def function(rows: Tensor) -> Tensor:
        scale = rows.abs().amax(1, keepdim=True) / largest
        return (rows / scale).round() * scale

    return _rounded(function, chosen)


def _fp8_tensor(rows: Tensor) -> Tensor:
    scale = rows.abs().max() / _FP8_MAX
    return (rows / scale).to(torch.float8_e4m3fn).float() * scale


def _fp8_channel(rows: Tensor) -> Tensor:
    scale = rows.abs().amax(1, keepdim=True) / _FP8_MAX
    return (rows / scale).to(torch.float8_e4m3fn).float() * scale


def _zeroed(*names: str) -> Edit:
    def edit(checkpoint: Checkpoint) -> None:
        for name in names:
            checkpoint.tensors[name].zero_()

    return edit


def _silence(part: str, index: int) -> Edit:
    """Zero the output that one attention or MLP adds to the residual stream."""
    if part == "text attention":
        return _zeroed(_attention(index))
    if part == "text MLP":
        return _zeroed(_mlp(index))
    output = "attn.proj" if part == "vision attention" else "mlp.down_proj"
    stem = f"visual.blocks.{index}.{output}"
    return _zeroed(f"{stem}.weight", f"{stem}.bias")


def _no_head(checkpoint: Checkpoint) -> None:
    checkpoint.tensors[_attention(1)][:, :_HEAD] = 0


def _no_rank(checkpoint: Checkpoint) -> None:
    """Zero the input columns of rank 1 wherever the ranks' partial sums are added up."""
    for layer in range(TEXT_LAYERS):
        for name in (_attention(layer), _mlp(layer)):
            weight = checkpoint.tensors[name]
            weight[:, weight.shape[1] // _RANKS :] = 0


def _gate_and_up(checkpoint: Checkpoint) -> None:
    tensors = checkpoint.tensors
    for layer in range(TEXT_LAYERS):
        gate, up = (f"model.layers.{layer}.mlp.{name}_proj.weight" for name in ("gate", "up"))
        tensors[gate], tensors[up] = tensors[up], tensors[gate]


def _shifted_shard(checkpoint: Checkpoint) -> None:
    shard = checkpoint.tensors[_EMBEDDING].chunk(_RANKS)[1]
    shard.copy_(shard.roll(1, 0))


def _swapped_rows(checkpoint: Checkpoint) -> None:
    vocabulary = json.loads((WEIGHTS / "tokenizer.json").read_text())["model"]["vocab"]
    red, blue = vocabulary["Ġred"], vocabulary["Ġblue"]
    embedding = checkpoint.tensors[_EMBEDDING]
    embedding[[red, blue]] = embedding[[blue, red]]


def _scaled_head(checkpoint: Checkpoint) -> None:
    checkpoint.tensors["lm_head.weight"] = checkpoint.tensors[_EMBEDDING].float() * 0.9
    checkpoint.config["tie_word_embeddings"] = False
    checkpoint.config["text_config"]["tie_word_embeddings"] = False


def _bgr(checkpoint: Checkpoint) -> None:
    """Swap red and blue before normalisation.

    Weights that read the channels in reverse, and normalisation in that order, give the same sums
    as reversed pixels do.
    """
    checkpoint.tensors[_PATCHES] = checkpoint.tensors[_PATCHES].flip(1).contiguous()
    for name in ("image_mean", "image_std"):
        checkpoint.preprocessor[name].reverse()


def weight_faults() -> list[Fault]:
    """The faults that change ``model.safetensors``."""
    per_tensor = "One scale for a whole weight costs small values their precision."
    per_row = "Weights are quantised to {} bits, or dequantised from them, without calibration."
    faults = [
        Fault("fp8 weights (e4m3, per tensor)", per_tensor, _rounded(_fp8_tensor)),
        Fault(
            "fp8 weights (e4m3, per channel)",
            "Weights are quantised online because the stack's default is fp8.",
            _rounded(_fp8_channel),
        ),
    ]
    faults += [
        Fault(f"int{bits} weights (per row)", per_row.format(bits), integers(bits))
        for bits in (8, 6, 5, 4, 3)
    ]
    sizes = {
        "text attention": TEXT_LAYERS,
        "text MLP": TEXT_LAYERS,
        "vision attention": VISION_BLOCKS,
        "vision MLP": VISION_BLOCKS,
    }
    silent = "A kernel fails without an error and its output buffer stays zero."
    for part, size in sizes.items():
        faults += [Fault(f"{part} {i} zeroed", silent, _silence(part, i)) for i in range(size)]
    biases = [
        f"model.layers.{layer}.self_attn.{name}_proj.bias"
        for layer in range(TEXT_LAYERS)
        for name in "qkv"
    ]
    return [
        *faults,
        Fault(
            "q/k/v bias dropped",
            "A fused projection kernel has no bias, or the loader skips tensors it doesn't know.",
            _zeroed(*biases),
        ),
        Fault(
            "attention head 0 of layer 1 zeroed",
            "A kernel's grid is one head short, or a head's weights are not loaded.",
            _no_head,
        ),
        Fault(
            "text layer 2 skipped",
            "A pipeline stage starts one layer late, or a layer's weights are not loaded.",
            _zeroed(_attention(2), _mlp(2)),
        ),
        Fault(
            "partial sum of rank 1 of 2 missing",
            "A tensor-parallel all-reduce returns before the other rank's part has arrived.",
            _no_rank,
        ),
        Fault(
            "gate and up projections swapped",
            "The two halves of the fused gate_up_proj are packed in the wrong order.",
            _gate_and_up,
        ),
        Fault(
            "embedding shard of rank 1 shifted by one row",
            "The offset of a vocabulary-parallel shard is off by one.",
            _shifted_shard,
        ),
        Fault(
            "two embedding rows swapped",
            "Added or reordered tokens no longer match the rows of the embedding.",
            _swapped_rows,
        ),
        Fault(
            "lm_head times 0.9",
            "A logit scale is lost or applied twice, or a tied lm_head is loaded separately.",
            _scaled_head,
        ),
        Fault(
            "BGR instead of RGB",
            "An image decoder returns the channels in reverse order.",
            _bgr,
        ),
    ]
