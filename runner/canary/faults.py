"""Deliberate faults, each of which has occurred in real inference stacks in some form.

A fault changes the weights or settings of a copy of the model, the tensors of a batch, or the
questions themselves.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from runner.canary.batch import Batch
from runner.canary.model import TEXT_LAYERS, VISION_BLOCKS
from runner.canary.pixels import MEAN, MERGE, PATCH, STD
from runner.canary.questions import Question

_MEAN, _STD = torch.tensor(MEAN).view(3, 1), torch.tensor(STD).view(3, 1)

Change = Callable[[Any], None]
Rewrite = Callable[[Batch], Batch]
Redraw = Callable[[Question], Question]


@dataclass(frozen=True)
class Fault:
    """A named fault in the model or in its inputs; with neither, the healthy baseline."""

    name: str
    change: Change | None = None
    rewrite: Rewrite | None = None
    redraw: Redraw | None = None


def _linear(model: Any) -> Iterator[nn.Linear | nn.Conv3d]:
    """All layers that a quantiser would change; embeddings are left out."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv3d) and module is not model.lm_head:
            yield module


def _integers(bits: int) -> Change:
    """Round each output row of each weight to symmetric integers (weight-only quantization)."""

    def change(model: Any) -> None:
        for layer in _linear(model):
            rows = layer.weight.flatten(1)
            scale = rows.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
            layer.weight.copy_(((rows / scale).round() * scale).view_as(layer.weight))

    return change


def _float8(model: Any) -> None:
    for layer in _linear(model):
        scale = layer.weight.abs().max() / 448
        layer.weight.copy_((layer.weight / scale).to(torch.float8_e4m3fn).float() * scale)


def _bfloat16(model: Any) -> None:
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16()


def _silence(part: str, index: int) -> Change:
    """Zero the output that one attention or MLP adds to the residual stream."""

    def change(model: Any) -> None:
        if part.startswith("vision"):
            block = model.model.visual.blocks[index]
            output = block.attn.proj if part == "vision attention" else block.mlp.down_proj
            output.bias.zero_()
        else:
            layer = model.model.language_model.layers[index]
            output = layer.self_attn.o_proj if part == "text attention" else layer.mlp.down_proj
        output.weight.zero_()

    return change


def _rope_base(base: float) -> Change:
    def change(model: Any) -> None:
        frequencies = model.model.language_model.rotary_emb.inv_freq
        exponent = torch.arange(0, 2 * len(frequencies), 2) / (2 * len(frequencies))
        frequencies.copy_(base**-exponent)

    return change


def _vision_rope(model: Any) -> None:
    model.model.visual.rotary_pos_emb.inv_freq.mul_(0.5)


def _no_bias(model: Any) -> None:
    for layer in model.model.language_model.layers:
        for name in ("q_proj", "k_proj", "v_proj"):
            getattr(layer.self_attn, name).bias.zero_()


def _norm_epsilon(model: Any) -> None:
    for module in model.model.language_model.modules():
        if hasattr(module, "variance_epsilon"):
            module.variance_epsilon = 1e-2


def _full_windows(model: Any) -> None:
    model.model.visual.fullatt_block_indexes = list(range(VISION_BLOCKS))


def _all_windowed(model: Any) -> None:
    model.model.visual.fullatt_block_indexes = []


def _flat_positions(batch: Batch) -> Batch:
    line = torch.arange(batch.ids.shape[1])
    return replace(batch, positions=line.expand(3, *batch.ids.shape).clone())


def _swapped_axes(batch: Batch) -> Batch:
    return replace(batch, positions=batch.positions[[0, 2, 1]])


def _on_pixels(function: Callable[[Tensor], Tensor]) -> Rewrite:
    """Apply ``function`` to the patches in the shape (patches, 3, 14 * 14)."""

    def rewrite(batch: Batch) -> Batch:
        pixels = batch.patches.view(len(batch.patches), 3, PATCH * PATCH)
        return replace(batch, patches=function(pixels).reshape(len(batch.patches), -1))

    return rewrite


def _raw(pixels: Tensor) -> Tensor:
    return (pixels * _STD + _MEAN) * 2 - 1


def _blank(pixels: Tensor) -> Tensor:
    return ((0.5 - _MEAN) / _STD).expand_as(pixels)


def _bgr(pixels: Tensor) -> Tensor:
    return ((pixels * _STD + _MEAN).flip(1) - _MEAN) / _STD


def _raster_order(batch: Batch) -> Batch:
    """Put patches in row-major order instead of blocks of four."""
    parts, start = [], 0
    for rows, columns in batch.grids:
        part = batch.patches[start : start + rows * columns]
        start += rows * columns
        blocks = part.view(rows // MERGE, columns // MERGE, MERGE, MERGE, -1)
        parts.append(blocks.transpose(1, 2).reshape(rows * columns, -1))
    return replace(batch, patches=torch.cat(parts))


def _other_images(batch: Batch) -> Batch:
    """Give every question the pixels of another image of the batch."""
    return replace(batch, patches=batch.patches.roll(len(batch.patches) // 2, 0))


def _second_image_first(question: Question) -> Question:
    return replace(question, scenes=question.scenes[::-1])


def all_faults() -> list[Fault]:
    """All faults, with the baseline first."""
    faults = [Fault("none (bf16 weights, fp32 arithmetic)"), Fault("bf16 arithmetic", _bfloat16)]
    faults.append(Fault("fp8 weights (e4m3, per tensor)", _float8))
    faults += [Fault(f"int{bits} weights (per row)", _integers(bits)) for bits in (8, 6, 5, 4, 3)]
    sizes = {
        "text attention": TEXT_LAYERS,
        "text MLP": TEXT_LAYERS,
        "vision attention": VISION_BLOCKS,
        "vision MLP": VISION_BLOCKS,
    }
    for part, size in sizes.items():
        faults += [Fault(f"{part} {i} zeroed", _silence(part, i)) for i in range(size)]
    faults += [Fault(f"rope_theta 1e4 to {base:.0e}", _rope_base(base)) for base in (2e4, 1e5, 1e6)]
    faults += [
        Fault("M-RoPE to 1-D positions", rewrite=_flat_positions),
        Fault("M-RoPE rows and columns swapped", rewrite=_swapped_axes),
        Fault("vision RoPE frequencies halved", _vision_rope),
        Fault("vision: every block full attention", _full_windows),
        Fault("vision: every block windowed", _all_windowed),
        Fault("q/k/v bias dropped", _no_bias),
        Fault("RMSNorm epsilon 1e-5 to 1e-2", _norm_epsilon),
        Fault("BGR instead of RGB", rewrite=_on_pixels(_bgr)),
        Fault("mean and std ignored", rewrite=_on_pixels(_raw)),
        Fault("patches in raster order", rewrite=_raster_order),
        Fault("images swapped in two-image questions", redraw=_second_image_first),
        Fault("images of other questions", rewrite=_other_images),
        Fault("blank image", rewrite=_on_pixels(_blank)),
    ]
    return faults
