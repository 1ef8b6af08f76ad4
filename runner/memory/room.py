"""Check whether an estimate fits a device, and what to change if it does not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from runner.language import gettext, translated
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
    """A device's memory, the fraction that vLLM may use, and the number of devices."""

    # As the engine sees it.
    total_bytes: int
    share: float
    devices: int | None = None
    # What the vendor's tool shows, where that is more.
    shown_bytes: int | None = None

    def __str__(self) -> str:
        more = f" (what the engine sees of {_gib(self.shown_bytes)})" if self.shown_bytes else ""
        return f"{_gib(self.bytes)} of {_gib(self.total_bytes)} GiB{more}"

    @property
    def bytes(self) -> int:
        return int(self.total_bytes * self.share)


def describe(needed: Estimate, layout: Layout, room: Room | None = None) -> str:
    """Return the estimate in one line, followed by a line for each unknown."""
    parts = [
        gettext(
            "at least {total} GiB per device: weights {weights} GiB, KV cache {cache} GiB for one "
            "sequence of {tokens} tokens ({per_token:.1f} KiB per token) at tp={tp}, pp={pp}",
            total=_gib(needed.total),
            weights=_gib(needed.weight_bytes),
            cache=_gib(needed.kv_bytes),
            tokens=needed.tokens,
            per_token=needed.kv_bytes_per_token / 1024,
            tp=layout.tp,
            pp=layout.pp,
        )
    ]
    if room is not None:
        parts.append(_allowed(room))
    return "\n".join([gettext("; ").join(parts), *map(translated, needed.notes)])


def _allowed(room: Room) -> str:
    part, total = _gib(room.bytes), _gib(room.total_bytes)
    if not room.shown_bytes:
        return gettext("vLLM may use {part} of {total} GiB", part=part, total=total)
    return gettext(
        "vLLM may use {part} of {total} GiB (what the engine sees of {shown})",
        part=part,
        total=total,
        shown=_gib(room.shown_bytes),
    )


@dataclass(frozen=True)
class Shortage:
    """What does not fit, and each single change that would make it fit (None: no such change)."""

    what: str
    # Tensor parallel sizes above the present one, the smallest first.
    wider: tuple[int, ...] = ()
    longest: int | None = None
    share: float | None = None


def fits(
    model: Mapping[str, Any], stored: StoredWeights, layout: Layout, room: Room
) -> Shortage | None:
    """Return None if the estimate fits, else the shortage."""
    needed = estimate(model, stored, layout)
    limit = f"engine.gpu_memory_utilization={room.share:g}"
    if layout.cache_sized:
        room, limit = replace(room, share=1), "engine.extra.kv_cache_memory_bytes"
    if needed.total <= room.bytes:
        return None
    if needed.weight_bytes > room.bytes:
        key = f"parallelism.tp={layout.tp}"
        what = f"the weights alone need {_gib(needed.weight_bytes)} GiB per device"
    else:
        length = layout.max_model_len
        key = f"engine.max_model_len={'null' if length is None else length}"
        what = (
            f"weights {_gib(needed.weight_bytes)} GiB + KV cache {_gib(needed.kv_bytes)} GiB for "
            f"one sequence of {needed.tokens} tokens need {_gib(needed.total)} GiB per device"
        )
    share = math.ceil(100 * needed.total / room.total_bytes) / 100
    return Shortage(
        f"{key}: {what}, but {limit} leaves {room}",
        tuple(_enough_ranks(model, stored, layout, room)),
        _longest(model, stored, layout, room, needed),
        share if share <= _HIGHEST_SHARE else None,
    )


def _enough_ranks(
    model: Mapping[str, Any], stored: StoredWeights, layout: Layout, room: Room
) -> Iterator[int]:
    """Tensor parallel sizes that would do, of those that the heads and the devices allow."""
    heads = architecture.query_heads(architecture.text_config(model)) or 0
    most = heads if room.devices is None else min(heads, room.devices // layout.pp)
    for ranks in range(layout.tp + 1, most + 1):
        if heads % ranks == 0:
            wider = estimate(model, stored, replace(layout, tp=ranks))
            if wider.total <= room.bytes:
                yield ranks


def _longest(
    model: Mapping[str, Any], stored: StoredWeights, layout: Layout, room: Room, needed: Estimate
) -> int | None:
    """The longest sequence that would fit and that the model can take, in whole blocks."""
    tokens = needed.tokens
    if architecture.names_longest(model):
        tokens = min(tokens, architecture.longest(model))
    fitting, too_long = 0, tokens // _BLOCK + 1
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
