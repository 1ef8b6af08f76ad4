"""Whether an estimate fits a device, and what to change where it does not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from runner.memory import architecture
from runner.memory.estimate import Estimate, estimate
from runner.memory.layout import GIB, Layout
from runner.memory.stored import StoredWeights

# A share that is worth a try: drivers and communication buffers need the rest.
_HIGHEST_SHARE = 0.95
# Lengths are advised in steps of a KV cache block (128 tokens on Ascend), and not below this.
_BLOCK = 128
_SHORTEST = 512


@dataclass(frozen=True)
class Room:
    """A device's memory, the share of it that vLLM may take, and how many devices there are."""

    total_bytes: int
    share: float
    devices: int | None = None

    @property
    def bytes(self) -> int:
        return int(self.total_bytes * self.share)


def describe(needed: Estimate, layout: Layout, room: Room | None = None) -> str:
    """One line for a person, and one for each thing that is not known."""
    line = (
        f"at least {_gib(needed.total)} GiB a device: weights {_gib(needed.weight_bytes)} GiB, "
        f"KV cache {_gib(needed.kv_bytes)} GiB for one sequence of {needed.tokens} tokens "
        f"({needed.kv_bytes_per_token / 1024:.1f} KiB a token) at tp={layout.tp}, pp={layout.pp}"
    )
    if room is not None:
        line += f"; vLLM may take {_gib(room.bytes)} of {_gib(room.total_bytes)} GiB"
    return "\n".join([line, *needed.notes])


def fits(model: Mapping[str, Any], stored: StoredWeights, layout: Layout, room: Room) -> str | None:
    """None, or one line: what cannot fit, and each change that would make it fit."""
    needed = estimate(model, stored, layout)
    limit = f"engine.gpu_memory_utilization={room.share:g}"
    if layout.cache_sized:
        room, limit = replace(room, share=1), "engine.extra.kv_cache_memory_bytes"
    if needed.total <= room.bytes:
        return None
    if needed.weight_bytes > room.bytes:
        key = f"parallelism.tp={layout.tp}"
        what = f"weights alone need {_gib(needed.weight_bytes)} GiB of each device"
    else:
        length = layout.max_model_len
        key = f"engine.max_model_len={'null' if length is None else length}"
        what = (
            f"weights {_gib(needed.weight_bytes)} GiB + KV cache {_gib(needed.kv_bytes)} GiB for "
            f"one sequence of {needed.tokens} tokens need {_gib(needed.total)} GiB of each device"
        )
    leaves = f"{limit} leaves {_gib(room.bytes)} of {_gib(room.total_bytes)} GiB"
    return f"{key}: {what}, {leaves}; {_cure(model, stored, layout, room, needed)}"


def _cure(
    model: Mapping[str, Any],
    stored: StoredWeights,
    layout: Layout,
    room: Room,
    needed: Estimate,
) -> str:
    cures = []
    if wider := _enough_ranks(model, stored, layout, room):
        cures.append(f"parallelism.tp={wider} or more")
    if longest := _longest(model, stored, layout, room, needed):
        cures.append(f"engine.max_model_len={longest} or less")
    share = math.ceil(100 * needed.total / room.total_bytes) / 100
    if share <= _HIGHEST_SHARE:
        cures.append(f"engine.gpu_memory_utilization={share:g} or more")
    if not cures:
        return "use devices with more memory, more of them, or a quantized checkpoint"
    return f"use {', or '.join(cures)}"


def _enough_ranks(
    model: Mapping[str, Any], stored: StoredWeights, layout: Layout, room: Room
) -> int | None:
    """The smallest tensor parallel size that would do, of those the heads and devices allow."""
    heads = architecture.query_heads(architecture.text_config(model)) or 0
    most = heads if room.devices is None else min(heads, room.devices // layout.pp)
    for ranks in range(layout.tp + 1, most + 1):
        if heads % ranks == 0:
            wider = estimate(model, stored, replace(layout, tp=ranks))
            if wider.total <= room.bytes:
                return ranks
    return None


def _longest(
    model: Mapping[str, Any], stored: StoredWeights, layout: Layout, room: Room, needed: Estimate
) -> int | None:
    """The longest sequence that would fit, in whole blocks."""
    fitting, too_long = 0, needed.tokens // _BLOCK + 1
    while too_long - fitting > 1:
        middle = (fitting + too_long) // 2
        shorter = estimate(model, stored, replace(layout, max_model_len=middle * _BLOCK))
        if shorter.total <= room.bytes:
            fitting = middle
        else:
            too_long = middle
    return fitting * _BLOCK if fitting * _BLOCK >= _SHORTEST else None


def _gib(size: float) -> str:
    return f"{size / GIB:.1f}" if size >= GIB / 10 else f"{size / GIB:.3f}"
