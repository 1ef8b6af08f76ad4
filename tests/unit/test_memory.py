"""The memory estimate against values worked out by hand from public models' config.json."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import CONFIG_MAPPING

from runner.canary import WEIGHTS
from runner.errors import UserError
from runner.memory import (
    Estimate,
    Layout,
    Room,
    Shortage,
    StoredWeights,
    describe,
    estimate,
    fits,
    stored_weights,
)
from runner.memory.architecture import longest, stages
from runner.memory.cache import cache

GIB = 1024**3
UNKNOWN = stored_weights(None)
BYTES = {"F32": 4, "BF16": 2, "F16": 2, "I32": 4, "I8": 1, "F8_E4M3": 1}


def attention(layers: int, heads: int, kv_heads: int, size: int, **more: Any) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "hidden_size": heads * size,
        "max_position_embeddings": 32768,
        **more,
    }


QWEN2_5_VL_7B = attention(
    28, 28, 4, 128, model_type="qwen2_5_vl", use_sliding_window=False, sliding_window=32768
)
QWEN3_30B_A3B = attention(
    48, 32, 4, 64, head_dim=128, hidden_size=2048, num_experts=128, model_type="qwen3_moe"
)
MIXTRAL_8X7B = attention(32, 32, 8, 128, num_local_experts=8, sliding_window=None)
DEEPSEEK_V2_LITE = attention(
    27,
    16,
    16,
    128,
    kv_lora_rank=512,
    qk_rope_head_dim=64,
    qk_nope_head_dim=128,
    v_head_dim=128,
    n_routed_experts=64,
)
QWEN3_NEXT = attention(
    48,
    16,
    2,
    256,
    head_dim=256,
    hidden_size=2048,
    full_attention_interval=4,
    linear_num_key_heads=16,
    linear_num_value_heads=32,
    linear_key_head_dim=128,
    linear_value_head_dim=128,
    linear_conv_kernel_dim=4,
)
# As published: heads and pattern are defaults of transformers' class.
GEMMA_3_4B = {
    "model_type": "gemma3",
    "text_config": {
        "hidden_size": 2560,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    },
}


def kv(model: dict[str, Any], **layout: Any) -> Estimate:
    return estimate(model, UNKNOWN, Layout(**layout))


@pytest.mark.parametrize(
    ("model", "tp", "per_token"),
    [
        # 2 (keys, values) × layers × heads a rank × head size × 2 bytes
        (QWEN2_5_VL_7B, 1, 2 * 28 * 4 * 128 * 2),
        (QWEN2_5_VL_7B, 2, 2 * 28 * 2 * 128 * 2),
        (QWEN2_5_VL_7B, 7, 2 * 28 * 1 * 128 * 2),
        (QWEN3_30B_A3B, 1, 98304),
        (QWEN3_30B_A3B, 4, 24576),
        (QWEN3_30B_A3B, 8, 24576),  # four heads on eight ranks: each keeps one
        (MIXTRAL_8X7B, 1, 131072),
        # one latent vector a token, on every rank
        (DEEPSEEK_V2_LITE, 1, 27 * (512 + 64) * 2),
        (DEEPSEEK_V2_LITE, 4, 27 * (512 + 64) * 2),
        (QWEN3_NEXT, 1, 2 * 12 * 2 * 256 * 2),
        (GEMMA_3_4B, 1, 2 * 5 * 4 * 256 * 2),
    ],
)
def test_bytes_of_a_token(model: dict[str, Any], tp: int, per_token: int) -> None:
    assert kv(model, tp=tp).kv_bytes_per_token == per_token


def test_a_sequence_takes_its_tokens_the_models_own_length_unless_told() -> None:
    assert kv(QWEN2_5_VL_7B, max_model_len=4096).kv_bytes == 4096 * 57344
    assert kv(QWEN2_5_VL_7B).tokens == 32768


def test_length_that_the_engine_shall_find_itself_is_not_held_against_it() -> None:
    assert kv(QWEN2_5_VL_7B, max_model_len=-1).kv_bytes == 57344


def test_linear_attention_adds_a_state_and_no_tokens() -> None:
    """36 layers: 3 inputs of 8192 channels, and 32 matrices of 128×128, at 2 bytes."""
    state = 36 * (3 * 8192 + 32 * 128 * 128) * 2
    needed = kv(QWEN3_NEXT, max_model_len=1000)
    assert needed.kv_bytes == 1000 * needed.kv_bytes_per_token + state
    assert kv(QWEN3_NEXT, tp=2, max_model_len=1).kv_bytes == 12 * 2 * 256 * 2 + state // 2


def test_linear_attention_of_a_kind_unknown_is_said() -> None:
    jamba = attention(32, 32, 8, 128, attn_layer_period=8, attn_layer_offset=4)
    needed = kv(jamba)
    assert needed.kv_bytes_per_token == 4 * 4096
    assert needed.notes[0] == "state of the linear-attention layers not counted"


# As published, but for towers: which layers attend to all tokens is left to transformers' class.
LLAMA_4_SCOUT = {
    "model_type": "llama4",
    "text_config": {
        "model_type": "llama4_text",
        "attention_chunk_size": 8192,
        "head_dim": 128,
        "hidden_size": 5120,
        "max_position_embeddings": 10485760,
        "no_rope_layers": [],
        "num_attention_heads": 40,
        "num_hidden_layers": 48,
        "num_key_value_heads": 8,
        "num_local_experts": 16,
    },
}


def test_every_fourth_layer_of_llama_4_keeps_every_token() -> None:
    layer = 2 * 8 * 128 * 2
    needed = kv(LLAMA_4_SCOUT, max_model_len=1_000_000, batched_tokens=4096)
    assert needed.kv_bytes_per_token == 12 * layer
    assert needed.kv_bytes == layer * (12 * 1_000_000 + 36 * (8192 + 4096))


@pytest.mark.parametrize(
    "name",
    [
        *("afmoe", "cohere2", "exaone4", "exaone_moe", "gemma2", "gemma3_text", "gemma3n_text"),
        *("gpt_oss", "llama4_text", "olmo3", "qwen3_5_text", "qwen3_5_moe_text", "qwen3_next"),
    ],
)
def test_layers_left_to_transformers_class_are_of_its_kinds(name: str) -> None:
    """vLLM asks the class's layer_types, which config.json need not hold."""
    own = CONFIG_MAPPING[name](num_hidden_layers=12)
    model = attention(12, 8, 1, 64, model_type=name)
    layers = cache(model, Layout(batched_tokens=0)).layers
    grows = [layer.at_most is None and layer.per_token > 0 for layer in layers]
    assert grows == [kind == "full_attention" for kind in own.layer_types]
    held = {layer.at_most for layer in layers} - {None}
    window = getattr(own, "sliding_window", None)
    chunk = getattr(own, "attention_chunk_size", None)
    assert held == ({window - 1} if window else {chunk} if chunk else set())


def test_sliding_layers_keep_the_window_and_one_step() -> None:
    layer = 2 * 4 * 256 * 2
    long = kv(GEMMA_3_4B, max_model_len=100_000, batched_tokens=2048)
    assert long.kv_bytes == layer * (5 * 100_000 + 29 * (1024 - 1 + 2048))
    short = kv(GEMMA_3_4B, max_model_len=1000)
    assert short.kv_bytes == layer * 34 * 1000
    whole = kv(GEMMA_3_4B, max_model_len=100_000, windows=False)
    assert whole.kv_bytes == layer * 34 * 100_000


@pytest.mark.parametrize(
    ("more", "growing"),
    [
        ({"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 128}, 2),
        ({"sliding_window": 4096}, 0),  # Mistral 7B v0.1: every layer
        ({"sliding_window": 4096, "model_type": "gemma2"}, 2),
        ({"sliding_window": 0}, 4),
        ({"hybrid_override_pattern": "M*-*"}, 2),
        ({"linear_attn_config": {"full_attn_layers": [4]}}, 1),
        ({"attn_type_list": [0, 0, 0, 1]}, 1),
        ({"num_kv_shared_layers": 3}, 1),
        ({"num_key_value_heads": 1, "num_global_key_value_heads": 1, "global_head_dim": 64}, 4),
        ({"sliding_window": 64, "use_sliding_window": True, "max_window_layers": 3}, 3),  # Qwen2
        ({"sliding_window": 64, "use_sliding_window": False, "max_window_layers": 3}, 4),
        ({"model_type": "llama4_text", "no_rope_layers": [0, 0, 1, 1]}, 2),
        ({"model_type": "llama4_text", "no_rope_layers": [], "attention_chunk_size": None}, 4),
    ],
)
def test_which_layers_grow_with_the_sequence(more: dict[str, Any], growing: int) -> None:
    model = attention(4, 8, 1, 64, **more)
    assert kv(model).kv_bytes_per_token == growing * 2 * 64 * 2


@pytest.mark.parametrize(
    "model",
    [
        {"text_config": QWEN2_5_VL_7B},
        {"llm_config": QWEN2_5_VL_7B, "vision_config": {"num_hidden_layers": 24}},
        {"language_config": QWEN2_5_VL_7B},
        {"thinker_config": {"text_config": QWEN2_5_VL_7B, "audio_config": {}}},
    ],
)
def test_language_model_is_found_wherever_the_architecture_keeps_it(model: dict[str, Any]) -> None:
    assert kv(model).kv_bytes_per_token == 57344


@pytest.mark.parametrize(
    ("layout", "quantization", "bytes_"),
    [
        ({"dtype": "float16"}, None, 2),
        ({"dtype": "float32"}, None, 4),
        ({"kv_cache_dtype": "fp8"}, None, 1),
        ({"kv_cache_dtype": "int8_per_token_head"}, None, 1),
        ({}, {"quant_method": "compressed-tensors", "kv_cache_scheme": {"num_bits": 8}}, 1),
        ({}, {"quant_method": "fp8"}, 2),
        ({"cp": 2}, None, 1),
    ],
)
def test_bytes_of_an_element(
    layout: dict[str, Any], quantization: dict[str, Any] | None, bytes_: int
) -> None:
    model = {**MIXTRAL_8X7B, "torch_dtype": "float32", "quantization_config": quantization}
    assert kv(model, **layout).kv_bytes_per_token == 65536 * bytes_


@pytest.mark.parametrize("what", ["compress_ratios", "block_configs", "is_encoder_decoder"])
def test_a_cache_that_is_not_known_counts_nothing_and_says_so(what: str) -> None:
    needed = kv({**MIXTRAL_8X7B, what: [1]})
    assert needed.kv_bytes == 0
    assert needed.notes[0] == f"KV cache not counted: config.json has {what}"


@pytest.mark.parametrize("missing", ["num_hidden_layers", "num_attention_heads"])
def test_a_config_that_says_too_little_counts_nothing_and_says_so(missing: str) -> None:
    model = {"num_hidden_layers": 4, "num_attention_heads": 8, "hidden_size": 64}
    del model[missing]
    needed = kv(model)
    assert needed.kv_bytes == 0
    assert needed.notes[0].startswith("KV cache not counted")


@pytest.mark.parametrize(
    ("rope", "tokens"),
    [
        ({}, 32768),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192}, 32768),
        ({"type": "dynamic", "factor": 2.0}, 65536),
        ({"rope_type": "llama3", "factor": 8.0}, 32768),
    ],
)
def test_longest_sequence_as_vllm_derives_it(rope: dict[str, Any], tokens: int) -> None:
    assert longest({**MIXTRAL_8X7B, "rope_scaling": rope}) == tokens


def test_longest_sequence_of_odd_models() -> None:
    assert longest(GEMMA_3_4B) == 131072, "its factor is in the number already"
    assert longest({"n_positions": 1024}) == 1024
    assert longest({}) == 2048
    phi = {"rope_scaling": {"type": "longrope"}, "original_max_position_embeddings": 4096}
    assert longest({**phi, "max_position_embeddings": 131072}) == 4096


def test_stages_are_vllms() -> None:
    assert [len(each) for each in stages(28, 4)] == [7, 7, 7, 7]
    assert [len(each) for each in stages(27, 4)] == [7, 7, 7, 6]
    assert [len(each) for each in stages(26, 4)] == [6, 7, 7, 6]
    assert stages(5, 2) == [range(3), range(3, 5)]


# Weights


def write(file: Path, tensors: dict[str, tuple[str, list[int]]]) -> int:
    """A safetensors file of a header alone; the bytes its tensors would take."""
    total, header = 0, {}
    for name, (dtype, shape) in tensors.items():
        size = BYTES[dtype]
        for length in shape:
            size *= length
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [total, total + size]}
        total += size
    content = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    file.write_bytes(struct.pack("<Q", len(content)) + content)
    return total


LAYER = {
    "self_attn.q_proj.weight": ("BF16", [64, 64]),
    "self_attn.k_proj.weight": ("BF16", [32, 64]),
    "self_attn.v_proj.weight": ("BF16", [32, 64]),
    "self_attn.o_proj.weight": ("BF16", [64, 64]),
    "mlp.gate_proj.weight": ("BF16", [128, 64]),
    "mlp.down_proj.weight": ("BF16", [64, 128]),
    "input_layernorm.weight": ("BF16", [64]),
}
QKVO, MLP, KV, NORM = 12288 * 2, 16384 * 2, 4096 * 2, 64 * 2
LAYER_BYTES = QKVO + MLP + NORM
MODEL = attention(4, 4, 2, 16)
VOCABULARY = ("BF16", [100, 64])
VOCABULARY_BYTES = 100 * 64 * 2


def decoder(layers: int = 4) -> dict[str, tuple[str, list[int]]]:
    return {
        "model.embed_tokens.weight": VOCABULARY,
        "lm_head.weight": VOCABULARY,
        "model.norm.weight": ("BF16", [64]),
        **{
            f"model.layers.{layer}.{name}": tensor
            for layer in range(layers)
            for name, tensor in LAYER.items()
        },
    }


def weights(
    directory: Path,
    tensors: dict[str, tuple[str, list[int]]],
    model: dict[str, Any] | None = None,
    **layout: Any,
) -> int:
    write(directory / "model.safetensors", tensors)
    return estimate(model or MODEL, stored_weights(directory), Layout(**layout)).weight_bytes


WHOLE = 4 * LAYER_BYTES + 2 * VOCABULARY_BYTES + NORM


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ({}, WHOLE),
        ({"dtype": "float32"}, 2 * WHOLE),
        ({"tp": 2}, 4 * (QKVO + MLP) // 2 + VOCABULARY_BYTES + 5 * NORM),
        # four ranks, two key-value heads: those are held twice
        (
            {"tp": 4},
            4 * ((QKVO - KV + MLP) // 4 + KV // 2) + VOCABULARY_BYTES // 2 + 5 * NORM,
        ),
        # two stages: layers and one of the two embeddings each, the last has the final norm
        ({"pp": 2}, 2 * LAYER_BYTES + VOCABULARY_BYTES + NORM),
        ({"offload_bytes": 1000}, WHOLE - 1000),
        ({"offload_bytes": Layout.of({"offload_group_size": 8}).offload_bytes}, 0),
        ({"quantization": "fp8"}, WHOLE - 4 * (QKVO + MLP) // 2),
        ({"quantization": "bitsandbytes"}, WHOLE - 4 * (QKVO + MLP) * 3 // 4),
    ],
)
def test_weights_of_a_rank(tmp_path: Path, layout: dict[str, Any], expected: int) -> None:
    assert weights(tmp_path, decoder(), **layout) == expected


def test_float32_checkpoints_run_in_sixteen_bits_unless_told(tmp_path: Path) -> None:
    tensors = {name: ("F32", shape) for name, (_, shape) in decoder().items()}
    assert weights(tmp_path, tensors) == WHOLE
    assert weights(tmp_path, tensors, dtype="float32") == 2 * WHOLE


def test_quantized_tensors_keep_their_size(tmp_path: Path) -> None:
    tensors = decoder()
    for name in tensors:
        if "proj" in name:
            tensors[name] = ("I8", tensors[name][1])
    tensors["model.layers.0.mlp.down_proj.weight_scale"] = ("F32", [64, 1])
    expected = 4 * ((QKVO + MLP) // 2 + NORM) + 2 * VOCABULARY_BYTES + NORM + 64 * 4
    assert weights(tmp_path, tensors) == expected
    assert weights(tmp_path, tensors, quantization="ascend") == expected, "not quantized again"
    assert stored_weights(tmp_path).quantized


def test_a_tied_head_is_one_tensor_stored_or_not(tmp_path: Path) -> None:
    tied = {"text_config": {**MODEL, "tie_word_embeddings": True}}
    assert weights(tmp_path, decoder(), tied) == WHOLE - VOCABULARY_BYTES
    without_head = decoder()
    del without_head["lm_head.weight"]
    assert weights(tmp_path, without_head) == WHOLE - VOCABULARY_BYTES
    # but the last of two stages needs it, and the final norm
    assert weights(tmp_path, without_head, pp=2) == 2 * LAYER_BYTES + VOCABULARY_BYTES + NORM


@pytest.mark.parametrize(("tp", "ep", "share"), [(2, False, 2), (2, True, 2), (4, True, 1)])
def test_experts_are_shared_whole_or_cut(tmp_path: Path, tp: int, ep: bool, share: int) -> None:
    """Three experts on two ranks: two on the fuller one if they stay whole, 1.5 if cut."""
    tensors = {
        f"model.layers.0.mlp.experts.{expert}.up_proj.weight": ("BF16", [64, 64])
        for expert in range(3)
    }
    tensors["model.layers.0.mlp.gate.weight"] = ("BF16", [3, 64])
    expert, router = 64 * 64 * 2, 3 * 64 * 2
    model = attention(1, 4, 4, 16, num_experts=3)
    expected = router + (share * expert if ep else 3 * expert // tp)
    assert weights(tmp_path, tensors, model, tp=tp, ep=ep) == expected


def test_latent_attention_keeps_its_low_rank_halves_on_every_rank(tmp_path: Path) -> None:
    tensors = {
        "model.layers.0.self_attn.kv_a_proj_with_mqa.weight": ("BF16", [576, 64]),
        "model.layers.0.self_attn.kv_b_proj.weight": ("BF16", [1024, 512]),
    }
    expected = 576 * 64 * 2 + 1024 * 512 * 2 // 2
    assert weights(tmp_path, tensors, DEEPSEEK_V2_LITE, tp=2) == expected


TOWER = {
    "visual.blocks.0.attn.qkv.weight": ("BF16", [192, 64]),
    "visual.patch_embed.proj.weight": ("BF16", [64, 3, 2, 14, 14]),
}
TOWER_BYTES, PATCHES = 192 * 64 * 2, 64 * 3 * 2 * 14 * 14 * 2


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ({}, TOWER_BYTES + PATCHES),
        ({"tp": 2}, TOWER_BYTES // 2 + PATCHES),
        ({"tp": 2, "encoder_data_parallel": True}, TOWER_BYTES + PATCHES),
        ({"pp": 2}, TOWER_BYTES + PATCHES),
        ({"towers": False}, 0),
    ],
)
def test_vision_tower(tmp_path: Path, layout: dict[str, Any], expected: int) -> None:
    assert weights(tmp_path, TOWER, **layout) == expected


def test_what_vllm_leaves_out_is_not_counted(tmp_path: Path) -> None:
    """Layers past the last and `mtp.*` (multi-token prediction), an omni model's speech."""
    more = {
        "model.layers.4.eh_proj.weight": ("BF16", [64, 128]),
        "mtp.layers.0.mlp.up_proj.weight": ("BF16", [64, 128]),
        "talker.model.layers.0.mlp.up_proj.weight": ("BF16", [64, 128]),
    }
    assert weights(tmp_path, {**decoder(), **more}) == WHOLE


def test_layers_are_counted_where_config_names_no_number_of_them(tmp_path: Path) -> None:
    assert weights(tmp_path, decoder(), {"model_type": "strange"}) == WHOLE


def test_shards_are_those_of_the_index(tmp_path: Path) -> None:
    one = write(tmp_path / "a.safetensors", {"model.embed_tokens.weight": VOCABULARY})
    two = write(tmp_path / "b.safetensors", {"lm_head.weight": VOCABULARY})
    write(tmp_path / "consolidated.safetensors", decoder())
    assert stored_weights(tmp_path).stored_bytes == one + two
    write(tmp_path / "extra.safetensors", decoder())
    index = {
        "metadata": {"total_size": one + two},
        "weight_map": {"x": "a.safetensors", "y": "b.safetensors"},
    }
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert stored_weights(tmp_path).stored_bytes == one + two


def test_an_index_without_its_shards_still_says_how_much(tmp_path: Path) -> None:
    index = {"metadata": {"total_size": 4000}, "weight_map": {"x": "a.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    stored = stored_weights(tmp_path)
    model = {**MODEL, "torch_dtype": "bfloat16"}
    needed = estimate(model, stored, Layout(tp=2, pp=2))
    assert needed.weight_bytes == 1000
    assert needed.notes == (
        "weights assumed to be split evenly: the files do not list their tensors",
    )
    assert estimate(model, stored, Layout(dtype="float32")).weight_bytes == 8000
    assert estimate(model, stored, Layout(quantization="fp8")).weight_bytes == 2000
    quantized = {**model, "quantization_config": {"quant_method": "awq"}}
    assert estimate(quantized, stored, Layout(dtype="float32")).weight_bytes == 4000


def test_bin_files_count_by_their_size(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(bytes(4000))
    stored = stored_weights(tmp_path)
    assert estimate({**MODEL, "torch_dtype": "float32"}, stored, Layout()).weight_bytes == 2000


def test_no_files_no_weights_and_a_note(tmp_path: Path) -> None:
    for stored in (stored_weights(tmp_path), UNKNOWN):
        assert stored == StoredWeights({}, 0)
        needed = estimate(MODEL, stored, Layout())
        assert needed.weight_bytes == 0
        assert needed.notes == ("weights not counted: the files are not on this machine",)


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, struct.pack("<Q", 4) + b"nope"])
def test_a_broken_header_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="is corrupt"):
        stored_weights(tmp_path)


def test_a_broken_index_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        stored_weights(tmp_path)


def test_the_canary_to_the_byte() -> None:
    """The file's tensors are the model's: 1,640,448 parameters of 2 bytes."""
    model = json.loads((Path(WEIGHTS) / "config.json").read_text())
    needed = estimate(model, stored_weights(Path(WEIGHTS)), Layout(max_model_len=1024))
    assert needed.weight_bytes == 3_280_896
    assert needed.kv_bytes == 1024 * 2 * 4 * 2 * 32 * 2


# Layout


def test_layout_from_engine_arguments() -> None:
    assert Layout.of({}) == Layout()
    assert Layout.of(
        {
            "pretrained": "somewhere",
            "tensor_parallel_size": 2,
            "pipeline_parallel_size": 3,
            "enable_expert_parallel": True,
            "dtype": "float16",
            "max_model_len": 1024,
            "kv_cache_dtype": "fp8",
            "quantization": "ascend",
            "max_num_batched_tokens": 512,
            "decode_context_parallel_size": 2,
            "mm_encoder_tp_mode": "data",
            "limit_mm_per_prompt": {"image": 0, "video": 0},
            "disable_hybrid_kv_cache_manager": True,
            "cpu_offload_gb": 1.5,
            "kv_cache_memory_bytes": GIB,
        }
    ) == Layout(
        tp=2,
        pp=3,
        ep=True,
        dtype="float16",
        max_model_len=1024,
        kv_cache_dtype="fp8",
        quantization="ascend",
        batched_tokens=512,
        cp=2,
        encoder_data_parallel=True,
        towers=False,
        windows=False,
        offload_bytes=1.5 * GIB,
        cache_sized=True,
    )
    assert Layout.of({"limit_mm_per_prompt": {"image": 1}}).towers
    assert Layout.of({"max_model_len": "auto"}).max_model_len is None
    assert Layout.of({"disable_sliding_window": True}).max_model_len == -1


# Room


@pytest.fixture
def big(tmp_path: Path) -> StoredWeights:
    """14 GiB of weights, 56 KiB a token: about Qwen2.5-VL-7B."""
    rows = 14 * GIB // 2 // 3584
    write(tmp_path / "model.safetensors", {"model.layers.0.mlp.up.weight": ("BF16", [rows, 3584])})
    return stored_weights(tmp_path)


def test_a_model_that_fits_is_not_refused(big: StoredWeights) -> None:
    assert fits(QWEN2_5_VL_7B, big, Layout(max_model_len=4096), Room(64 * GIB, 0.9)) is None


def test_a_sequence_too_long_names_every_cure(big: StoredWeights) -> None:
    room = Room(int(15.7 * GIB), 0.9, devices=8)
    assert fits(QWEN2_5_VL_7B, big, Layout(max_model_len=16384), room) == Shortage(
        "engine.max_model_len=16384: weights 14.0 GiB + KV cache 0.9 GiB for one sequence of "
        "16384 tokens need 14.9 GiB per device, but engine.gpu_memory_utilization=0.9 leaves "
        "14.1 of 15.7 GiB",
        wider=(2, 4, 7),
        longest=2432,
        share=0.95,
    )


def test_a_length_beyond_the_models_own_is_not_advised(big: StoredWeights) -> None:
    model = {**QWEN2_5_VL_7B, "max_position_embeddings": 1024}
    short = fits(model, big, Layout(max_model_len=16384), Room(int(15.7 * GIB), 0.9))
    assert short is not None and short.longest == 1024


def test_what_an_engine_sees_of_a_device_is_said(big: StoredWeights) -> None:
    room = Room(15 * GIB, 0.9, devices=1, shown_bytes=16 * GIB)
    assert str(room) == "13.5 of 15.0 GiB (what the engine sees of 16.0)"
    short = fits(QWEN2_5_VL_7B, big, Layout(max_model_len=64), room)
    assert short is not None and short.what.endswith(f"leaves {room}")


def test_the_advised_changes_do_fit(big: StoredWeights) -> None:
    room = Room(int(15.7 * GIB), 0.9, devices=8)
    layout = Layout(max_model_len=16384)
    for cured, space in (
        (replace(layout, tp=2), room),
        (replace(layout, max_model_len=2432), room),
        (layout, replace(room, share=0.95)),
    ):
        assert fits(QWEN2_5_VL_7B, big, cured, space) is None
    assert fits(QWEN2_5_VL_7B, big, replace(layout, max_model_len=2432 + 128), room) is not None


def test_length_left_to_the_model_is_named_null(big: StoredWeights) -> None:
    short = fits(QWEN2_5_VL_7B, big, Layout(), Room(16 * GIB, 0.9, devices=1))
    assert short is not None and short.what.startswith("engine.max_model_len=null: weights")
    assert "tokens need" in short.what and short.wider == ()


def test_weights_too_large_for_the_devices_there_are(big: StoredWeights) -> None:
    short = fits(QWEN2_5_VL_7B, big, Layout(max_model_len=64), Room(8 * GIB, 0.9, devices=1))
    assert short == Shortage(
        "parallelism.tp=1: the weights alone need 14.0 GiB per device, "
        "but engine.gpu_memory_utilization=0.9 leaves 7.2 of 8.0 GiB"
    )


def test_a_cache_that_the_user_sized_may_use_all_of_the_device(big: StoredWeights) -> None:
    layout = Layout(max_model_len=16384, cache_sized=True)
    assert fits(QWEN2_5_VL_7B, big, layout, Room(int(15.7 * GIB), 0.9)) is None
    short = fits(QWEN2_5_VL_7B, big, layout, Room(8 * GIB, 0.9, devices=1))
    assert short is not None
    assert "engine.extra.kv_cache_memory_bytes leaves 8.0 of 8.0 GiB" in short.what


def test_tensor_parallel_is_advised_in_sizes_that_divide_the_heads(big: StoredWeights) -> None:
    short = fits(QWEN2_5_VL_7B, big, Layout(max_model_len=64), Room(6 * GIB, 0.9))
    assert short is not None and short.wider[0] == 4, "28 heads: never 3"


def test_description_says_what_is_counted_and_what_is_not(big: StoredWeights) -> None:
    layout = Layout(max_model_len=4096)
    room = Room(64 * GIB, 0.9)
    assert describe(estimate(QWEN2_5_VL_7B, big, layout), layout, room) == (
        "at least 14.2 GiB per device: weights 14.0 GiB, KV cache 0.2 GiB for one sequence of "
        "4096 tokens (56.0 KiB per token) at tp=1, pp=1; vLLM may use 57.6 of 64.0 GiB"
    )
    lines = describe(kv(QWEN2_5_VL_7B), layout).splitlines()
    assert lines[1] == "weights not counted: the files are not on this machine"
