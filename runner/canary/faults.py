"""Deliberate faults, each of which has occurred in real inference stacks in some form.

Some are in the files of a model; ``runner.canary.damaged`` writes copies that have them. The others
are in what a stack computes from correct files and exist only in this process.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from runner.canary.batch import Batch
from runner.canary.cache_faults import cache_faults
from runner.canary.fault import Fault, Rewrite
from runner.canary.pixels import MEAN, MERGE, PATCH, STD
from runner.canary.questions import Question
from runner.canary.setting_faults import setting_faults
from runner.canary.weight_faults import weight_faults

_MEAN, _STD = torch.tensor(MEAN).view(3, 1), torch.tensor(STD).view(3, 1)


def _bfloat16(model: Any) -> None:
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16()


def _vision_rope(model: Any) -> None:
    model.model.visual.rotary_pos_emb.inv_freq.mul_(0.5)


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


def _blank(pixels: Tensor) -> Tensor:
    return ((0.5 - _MEAN) / _STD).expand_as(pixels)


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


def _swapped_images(question: Question) -> Question:
    return replace(question, scenes=question.scenes[::-1])


def _second_image_twice(question: Question) -> Question:
    return replace(question, scenes=question.scenes[-1:] * len(question.scenes))


def arithmetic() -> list[Fault]:
    """The reference and bfloat16 arithmetic, which are not faults."""
    return [
        Fault("none (bf16 weights, fp32 arithmetic)", "The reference."),
        Fault("bf16 arithmetic", "Ordinary rounding of a healthy stack.", change=_bfloat16),
    ]


def all_faults() -> list[Fault]:
    """All faults, after the reference and bfloat16 arithmetic."""
    cache = "An image cache or a batch mixes up images."
    return [
        *arithmetic(),
        *weight_faults(),
        *setting_faults(),
        Fault(
            "vision RoPE frequencies halved",
            "The vision encoder's head size, from which the frequencies follow, is wrong.",
            change=_vision_rope,
        ),
        Fault(
            "M-RoPE to 1-D positions",
            "The engine gives image tokens the positions of text.",
            rewrite=_flat_positions,
        ),
        Fault(
            "M-RoPE rows and columns swapped",
            "The engine computes the image grid as width by height.",
            rewrite=_swapped_axes,
        ),
        Fault(
            "patches in raster order",
            "The image processor doesn't group the patches that are merged to one token.",
            rewrite=_raster_order,
        ),
        Fault(
            "images swapped in two-image questions",
            "Images reach the model in the order in which they were loaded.",
            redraw=_swapped_images,
        ),
        Fault("second image instead of the first", cache, redraw=_second_image_twice),
        Fault("images of other questions", cache, rewrite=_other_images),
        Fault(
            "blank image",
            "The image is lost, and the model sees a grey one.",
            rewrite=_on_pixels(_blank),
        ),
        *cache_faults(),
    ]


def file_faults() -> dict[str, Fault]:
    """The faults that a damaged copy of a model directory can have, by key."""
    return {fault.key: fault for fault in all_faults() if fault.edit}
