"""Read a model's layers from config.json, wherever each architecture stores them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Where vision-language and omni models keep their language model's part
# (transformers' `get_text_config`, and the older InternVL and DeepSeek-VL2).
_LANGUAGE_MODELS = ("thinker_config", "text_config", "llm_config", "language_config")

# Checkpoints that rely on a default of transformers' configuration class.
_SEVEN_BILLION = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {**_SEVEN_BILLION, "max_position_embeddings": 2048},
    "mistral": {**_SEVEN_BILLION, "num_key_value_heads": 8},
    "qwen2": {
        **_SEVEN_BILLION,
        "num_key_value_heads": 32,
        "max_position_embeddings": 32768,
        "use_sliding_window": False,
    },
    "gemma3_text": {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
        "sliding_window_pattern": 6,
    },
    # Of these, which layers attend to all tokens is left to the class: every so many, the last.
    "afmoe": {"sliding_window": 1024, "sliding_window_pattern": 4},
    "cohere2": {"sliding_window": 4096, "sliding_window_pattern": 4},
    "exaone4": {"sliding_window": 4096, "sliding_window_pattern": 4},
    "exaone_moe": {"sliding_window": 4096, "sliding_window_pattern": 4},
    "gemma2": {"sliding_window": 4096, "sliding_window_pattern": 2},
    "gemma3n_text": {"sliding_window": 512, "sliding_window_pattern": 5},
    "gpt_oss": {"sliding_window": 128, "sliding_window_pattern": 2},
    "llama4_text": {"attention_chunk_size": 8192, "no_rope_layer_interval": 4},
    "olmo3": {"sliding_window": 4096, "sliding_window_pattern": 4},
    "qwen3_5_moe_text": {"full_attention_interval": 4},
    "qwen3_5_text": {"full_attention_interval": 4},
    "qwen3_next": {"full_attention_interval": 4},
}

# The longest sequence a model takes, under every name that vLLM looks for
# (vllm/transformers_utils/model_arch_config_convertor.py, `derive_max_model_len_and_key`).
_LENGTHS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
_DEFAULT_LENGTH = 2048
# vllm/transformers_utils/model_arch_config_convertor.py, `get_num_experts`.
_EXPERTS = ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts")


def text_config(model: Mapping[str, Any]) -> dict[str, Any]:
    """The language model's own part of config.json, with its class's defaults."""
    for name in _LANGUAGE_MODELS:
        inner = model.get(name)
        if isinstance(inner, Mapping):
            return text_config(inner)
    return {**_DEFAULTS.get(str(model.get("model_type")), {}), **model}


def is_tied(model: Mapping[str, Any]) -> bool:
    """Return whether the input embedding is also the output head."""
    return bool(model.get("tie_word_embeddings") or text_config(model).get("tie_word_embeddings"))


def stored_float_bytes(model: Mapping[str, Any]) -> int:
    """Bytes of a float in the checkpoint, by config.json's word (float32 where it has none)."""
    text = text_config(model)
    names = [part.get(key) for part in (model, text) for key in ("dtype", "torch_dtype")]
    named = next((name for name in names if name), "float32")
    return 4 if named == "float32" else 2


def layer_count(text: Mapping[str, Any]) -> int | None:
    return integer(text, "num_hidden_layers", "n_layer", "num_layers", "n_layers")


def query_heads(text: Mapping[str, Any]) -> int | None:
    return integer(text, "num_attention_heads", "n_head", "n_heads")


def kv_heads(text: Mapping[str, Any]) -> int | None:
    names = ("n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num")
    for name in (*names, "num_attention_groups"):
        if text.get(name) is not None:
            return integer(text, name)
    return query_heads(text)


def head_size(text: Mapping[str, Any]) -> int | None:
    """Elements of one head: named, or the hidden size shared out."""
    named = integer(text, "head_dim", "hidden_size_per_head")
    heads, hidden = query_heads(text), integer(text, "hidden_size", "n_embd", "d_model")
    if named is not None or not heads or hidden is None:
        return named
    return hidden // heads


def names_longest(model: Mapping[str, Any]) -> bool:
    """Return whether config.json gives a maximum sequence length."""
    text = text_config(model)
    return any(integer(text, name) is not None for name in _LENGTHS)


def expert_count(model: Mapping[str, Any]) -> int:
    """Routed experts of a layer; 0 for a dense model (`get_num_experts`)."""
    text = text_config(model)
    counts = [integer(text, name) for name in _EXPERTS]
    blocks = [block for block in text.get("block_configs") or [] if isinstance(block, Mapping)]
    counts += [integer(block, "n_routed_experts") for block in blocks]
    return max((count for count in counts if count is not None), default=0)


def longest(model: Mapping[str, Any]) -> int:
    """Tokens of a sequence where `max_model_len` is left to vLLM (`_get_and_verify_max_len`)."""
    text = text_config(model)
    named = [value for value in (integer(text, name) for name in _LENGTHS) if value is not None]
    length = integer(text, "model_max_length") or (min(named) if named else _DEFAULT_LENGTH)
    rope = text.get("rope_scaling") or text.get("rope_parameters") or {}
    kind, factor = rope.get("rope_type", rope.get("type")), rope.get("factor")
    original = integer(rope, "original_max_position_embeddings")
    if kind == "longrope":
        return integer(text, "original_max_position_embeddings") or length
    if kind == "yarn" and original is not None:
        length = original
    scaled = "gemma3" not in str(text.get("model_type")) and kind not in (None, "su", "llama3")
    return int(length * factor) if scaled and isinstance(factor, (int, float)) else length


def stages(layers: int, pp: int) -> list[range]:
    """The layers of each pipeline stage (vllm/distributed/utils.py, `get_pp_indices`)."""
    sizes = [layers // pp] * pp
    for index in range(2, layers % pp + 2):
        sizes[-index] += 1
    starts = [sum(sizes[:stage]) for stage in range(pp)]
    return [range(start, start + size) for start, size in zip(starts, sizes, strict=True)]


def integer(mapping: Mapping[str, Any], *names: str) -> int | None:
    """Return the value of the first name that holds a whole number."""
    for name in names:
        if isinstance(mapping.get(name), int) and not isinstance(mapping[name], bool):
            return int(mapping[name])
    return None
