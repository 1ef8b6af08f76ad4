"""Builds and saves the mixture-of-experts canary: a Qwen3-MoE of 0.4 million parameters."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from runner.canary.library import Qwen3MoeConfig, Qwen3MoeForCausalLM
from runner.canary.tokens import END, PAD, save_tokenizer

LAYERS = 3
EXPERTS = 8


def build_config(tokenizer: Tokenizer) -> Any:
    """The model's configuration: each token goes to two of eight experts in every layer.

    Two key/value heads allow two-way tensor parallelism. vLLM's CPU kernel for experts needs sizes
    that are multiples of 32.
    """
    return Qwen3MoeConfig(
        vocab_size=-(-tokenizer.get_vocab_size() // 64) * 64,
        hidden_size=64,
        intermediate_size=128,  # of dense layers, of which there are none
        moe_intermediate_size=64,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=32,
        num_experts=EXPERTS,
        num_experts_per_tok=2,
        norm_topk_prob=True,
        max_position_embeddings=1024,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.token_to_id(END),
        pad_token_id=tokenizer.token_to_id(PAD),
    )


def build_model(tokenizer: Tokenizer, seed: int) -> Any:
    """A newly initialised model in float32; matrices start as the canary's do."""
    model = Qwen3MoeForCausalLM(build_config(tokenizer))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed_tokens" in name:
                parameter.normal_(std=0.08, generator=generator)
            elif parameter.ndim >= 2:
                std = parameter.shape[-1] ** -0.5
                if name.endswith(("o_proj.weight", "down_proj")):
                    std *= (2 * LAYERS) ** -0.5
                parameter.normal_(std=std, generator=generator)
    return model


def save_checkpoint(model: Any, tokenizer: Tokenizer, out: Path) -> None:
    """Write a complete local model directory, with weights in bfloat16."""
    out.mkdir(parents=True, exist_ok=True)
    copy = Qwen3MoeForCausalLM(model.config)
    copy.load_state_dict(model.state_dict())
    copy.to(torch.bfloat16).save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    save_tokenizer(tokenizer, out)
    config = json.loads((out / "config.json").read_text())
    # The name in the checkpoints of Qwen's own models, which every version reads.
    config["num_experts"] = config.pop("num_local_experts")
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
