"""The KV cache of one sequence, layer by layer: config.json → bytes on one device.

The formulas follow vLLM's KVCacheSpecs (vllm/v1/kv_cache_interface.py), in bytes:

- full attention: tokens × kv_heads/tp × (head_size + value_head_size) × element, with at least one
  head a rank (`ModelConfig.get_num_kv_heads`; grouped queries: arXiv 2305.13245);
- sliding window: the same, of at most window − 1 + one step's tokens (`SlidingWindowSpec`);
- chunked attention: the same, of at most a chunk + one step's tokens (`ChunkedLocalAttentionSpec`);
- latent attention (MLA, arXiv 2405.04434): tokens × (kv_lora_rank + qk_rope_head_dim) × element,
  whole on every rank (`MLAAttentionSpec` with num_kv_heads=1);
- gated delta net: a state of constant size (`MambaStateShapeCalculator`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner.language import N_
from runner.memory import architecture
from runner.memory.layout import Layout

_FULL, _SLIDING, _CONSTANT, _NONE = "full", "sliding", "constant", "none"
_KINDS = {
    "full_attention": _FULL,
    "attention": _FULL,
    "hybrid": _FULL,
    "sliding_attention": _SLIDING,
    "chunked_attention": _SLIDING,
}
# Their config.json speaks of caches that these formulas do not describe.
_UNKNOWN = ("compress_ratios", "block_configs", "is_encoder_decoder")


@dataclass(frozen=True)
class LayerCache:
    """Bytes per token, the maximum number of tokens kept (None: all), and constant bytes."""

    per_token: float = 0.0
    at_most: int | None = None
    constant: int = 0

    def bytes(self, tokens: int) -> float:
        held = tokens if self.at_most is None else min(tokens, self.at_most)
        return self.per_token * held + self.constant


@dataclass(frozen=True)
class Cache:
    """The cache of every layer in the model's order, and notes on what is unknown."""

    layers: tuple[LayerCache, ...]
    notes: tuple[str, ...] = ()


def cache(model: Mapping[str, Any], layout: Layout) -> Cache:
    """Return the KV cache of one sequence on one device."""
    text = architecture.text_config(model)
    count = architecture.layer_count(text)
    strange = [name for name in _UNKNOWN if text.get(name)]
    if count is None or strange:
        what = f"has {strange[0]}" if strange else "has no num_hidden_layers"
        return Cache((LayerCache(),) * (count or 0), (f"KV cache not counted: config.json {what}",))
    element = layout.cache_bytes(model) / layout.cp
    if text.get("kv_lora_rank") is not None:
        full: LayerCache | None = _latent(text, element)
    else:
        full = _keys_and_values(text, element, layout.tp, "global_")
    if full is None:
        return Cache(
            (LayerCache(),) * count,
            (
                "KV cache not counted: config.json does not give the number of heads or the head "
                "size",
            ),
        )
    kinds = _kinds(text, count)
    window, sliding = _window(text), full
    if window is not None and (layout.windows or _FULL not in kinds):
        plain = _keys_and_values(text, element, layout.tp) or full
        sliding = LayerCache(plain.per_token, window + layout.batched_tokens)
    constant = LayerCache(constant=_delta_net_state(text, layout))
    notes = []
    if _CONSTANT in kinds and not constant.constant:
        notes.append(N_("state of the linear-attention layers not counted"))
    by_kind = {_FULL: full, _SLIDING: sliding, _CONSTANT: constant, _NONE: LayerCache()}
    return Cache(tuple(by_kind[kind] for kind in kinds), tuple(notes))


def _latent(text: Mapping[str, Any], element: float) -> LayerCache:
    """MLA keeps one compressed vector a token; sparse attention an indexer's key (8 bits) too."""
    size = text["kv_lora_rank"] + (text.get("qk_rope_head_dim") or 0)
    return LayerCache(size * element + (text.get("index_head_dim") or 0))


def _keys_and_values(
    text: Mapping[str, Any], element: float, tp: int, prefix: str = ""
) -> LayerCache | None:
    """Gemma 4 names the heads of its full-attention layers apart, with a prefix."""
    heads = architecture.integer(text, f"num_{prefix}key_value_heads")
    heads = heads or architecture.kv_heads(text)
    size = architecture.integer(text, f"{prefix}head_dim") or architecture.head_size(text)
    if heads is None or size is None:
        return None
    values = size if prefix and text.get("global_head_dim") else text.get("v_head_dim") or size
    return LayerCache(max(1, heads // tp) * (size + values) * element)


def _window(text: Mapping[str, Any]) -> int | None:
    """Tokens that a sliding or chunked layer keeps besides those of the present step, if any.

    Qwen2's files name a window that is off.
    """
    if not text.get("use_sliding_window", True):
        return None
    if window := architecture.integer(text, "sliding_window"):
        return window - 1
    return architecture.integer(text, "attention_chunk_size") or None


def _kinds(text: Mapping[str, Any], count: int) -> list[str]:
    """Each layer's kind of attention, under the names that architectures give it."""
    shared = architecture.integer(text, "num_kv_shared_layers") or 0
    kinds = _named_kinds(text, count)
    return [_NONE if index >= count - shared else kind for index, kind in enumerate(kinds)]


def _named_kinds(text: Mapping[str, Any], count: int) -> list[str]:
    named = text.get("layer_types") or text.get("layers_block_type")
    if isinstance(named, list) and len(named) >= count:
        return [_KINDS.get(str(kind), _CONSTANT) for kind in named[:count]]
    pattern = text.get("hybrid_override_pattern")
    if isinstance(pattern, str):  # Nemotron-H: attention *, Mamba M, feed-forward -
        letters = {"*": _FULL, "M": _CONSTANT}
        return [letters.get(letter, _NONE) for letter in pattern[:count]]
    numbered = (text.get("linear_attn_config") or {}).get("full_attn_layers")
    if numbered is not None:  # Kimi-Linear counts from one
        return [_FULL if index + 1 in numbered else _CONSTANT for index in range(count)]
    flags = text.get("attn_type_list")
    if isinstance(flags, list):  # MiniMax: 1 is softmax attention
        return [_FULL if flag == 1 else _CONSTANT for flag in flags[:count]]
    if every := architecture.integer(text, "full_attention_interval"):  # Qwen3-Next: the last
        return [_FULL if (index + 1) % every == 0 else _CONSTANT for index in range(count)]
    if every := architecture.integer(text, "attn_layer_period"):  # Jamba
        offset = architecture.integer(text, "attn_layer_offset") or 0
        return [_FULL if index % every == offset else _CONSTANT for index in range(count)]
    return _windowed_kinds(text, count)


def _windowed_kinds(text: Mapping[str, Any], count: int) -> list[str]:
    """Without a list: by the rule of the architecture, else every layer slides (Mistral)."""
    if _window(text) is None:
        return [_FULL] * count
    if every := architecture.integer(text, "no_rope_layer_interval"):  # Llama 4
        # 1: rotary positions, and attention to one chunk; 0: neither. Published as an empty list.
        roped = text.get("no_rope_layers") or [
            int((index + 1) % every != 0) for index in range(count)
        ]
        return [_SLIDING if flag else _FULL for flag in roped[:count]]
    if every := architecture.integer(text, "sliding_window_pattern"):
        return [_FULL if (index + 1) % every == 0 else _SLIDING for index in range(count)]
    first = architecture.integer(text, "max_window_layers")  # Qwen2
    if first is not None and text.get("use_sliding_window"):
        return [_FULL if index < first else _SLIDING for index in range(count)]
    return [_SLIDING] * count


def _delta_net_state(text: Mapping[str, Any], layout: Layout) -> int:
    """Qwen3-Next's and Qwen3.5's: the convolution's last inputs, and a matrix for each value head.

    The matrix may be kept in float32; 16 bits are counted.
    """
    names = (
        "linear_num_key_heads",
        "linear_num_value_heads",
        "linear_key_head_dim",
        "linear_value_head_dim",
        "linear_conv_kernel_dim",
    )
    sizes = [architecture.integer(text, name) for name in names]
    keys, values, key_size, value_size, kernel = (size or 0 for size in sizes)
    convolution = (2 * keys * key_size + values * value_size) * max(0, kernel - 1)
    matrices = values * value_size * key_size
    return (convolution + matrices) // layout.tp * layout.float_bytes
